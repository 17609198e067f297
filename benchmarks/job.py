"""One run from its specification to its record."""

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from filelock import FileLock

from baselines.registry import build, model_class
from benchmarks.calibrate import BOTH, calibration_record
from benchmarks.environment import environment, peak_memory_mib
from benchmarks.evaluator import (
    Evaluator,
    PoolEvaluator,
    SlateEvaluator,
    audit,
    evaluator_for,
    has_ranking_head,
    kept_metrics,
    validate,
)
from benchmarks.fit import build_for, fit, observe, rows_of
from benchmarks.inputs import harder_queries_for, load_for, tasks_of_run, vectors_for
from benchmarks.plan import tuning_of
from benchmarks.references import REFERENCES, KnownTruth, Reference, knows_truth
from benchmarks.views import View, has_slates, views
from synergen import distributed
from synergen.contract import Recommender
from synergen.data.dataset import Dataset, statistics
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.evaluation.calibration import Temperature
from synergen.model_files import UNCALIBRATED, load_model, model_folder, save_model
from synergen.runs import Ranks, Run, RunSpec, RunStore
from synergen.text import TextVectors
from synergen.training.trainer import Progress, Summary

Report = Callable[[str, dict[str, Any]], None]
"""Called with a stage (loading, text, training, testing) and its state."""
Stop = Callable[[], bool]
"""Asked between steps of a training, whether it is to end here and go on another time."""


def execute(
    spec: RunSpec,
    source: str,
    store: RunStore,
    device: str,
    scale: str,
    report: Report,
    stop: Stop = lambda: False,
) -> Run:
    """Train (or resume), test once, write the record. A run that is finished is loaded.

    Raises:
        Interrupted: `stop` said yes; the state of the training is on disk.
        UserError: bad data or settings, a loss or gradient that is not finite, a folder that cannot be written.
    """
    store.check_writable()
    lock = store.checkpoint_path(spec.id).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    first = distributed.rank() == 0
    with FileLock(lock) if first else nullcontext():
        if first:
            store.sweep(spec.id)
        done = distributed.gathered(store.load(spec.id) if first else None)[0]
        run = done or _execute(spec, source, store, device, scale, report, stop)
        distributed.gathered(None)  # no process leaves before the record is written
    if first:
        lock.unlink(missing_ok=True)
    return run


def _execute(spec: RunSpec, source: str, store: RunStore, device: str, scale: str, report: Report, stop: Stop) -> Run:
    report("loading", {})
    made_with = environment(device)  # now: the code on disk may be another when the run ends
    dataset = load_for(source, spec.protocol)
    evaluator = evaluator_for(dataset, spec, device)
    known = KnownTruth.of(source, dataset.log) if has_slates(spec.protocol) and knows_truth(spec.dataset) else None
    text = vectors_for(spec, dataset, partial(_report_text, report))
    torch.manual_seed(spec.seed)  # only now: loading a text encoder may draw numbers
    subject = _reference(spec, known) or build_for(spec, dataset, text).to(device)
    summary, seconds = _learn(subject, spec, dataset, evaluator, store, device, report, stop)
    wanted = _views(spec, subject, dataset)
    _hold_harder_queries(subject, wanted, spec, dataset, evaluator, report)
    ranks, seconds_a_view = _test(subject, wanted, evaluator, report)
    calibration = None
    if isinstance(evaluator, SlateEvaluator) and has_ranking_head(subject):
        calibration = calibration_record(subject, evaluator, known, partial(_report_calibration, report))
    if isinstance(subject, Recommender):
        subject.gather()
    record = {
        "id": spec.id,
        **asdict(spec),
        "scale": scale if summary else None,
        **({"tuning": tuning} if (tuning := tuning_of(spec, scale)) else {}),
        "metrics": _metrics_by_task(ranks),
        **({"calibration": calibration} if calibration else {}),
        **({"text": _reduction(text)} if text and text.projection else {}),
        "data": _data_record(dataset, source) | {"audit": audit(dataset, evaluator, spec.protocol)},
        "training": _training_record(summary) if summary else {"stopped": "nothing to train"},
        "seconds": round(seconds, 1),
        "test_seconds": seconds_a_view,
        "peak_memory_mib": peak_memory_mib(),
        "parameters": _parameters(subject),
        "environment": made_with,
        **({"processes": distributed.world()} if distributed.world() > 1 else {}),
    }
    run = Run(record, {(str(view.task), view.name): values for view, values in ranks.items()})
    if distributed.rank():
        return run
    if summary:
        temperature = Temperature(**calibration[BOTH]["temperature"]) if calibration else UNCALIBRATED
        projection = text.projection if text else None
        save_model(model_folder(store.folder, spec.id), subject, spec, dataset, rows_of(text), temperature, projection)
    store.save(run)
    store.drop_checkpoints(spec.id)
    return run


def _learn(
    subject: Any,
    spec: RunSpec,
    dataset: Dataset,
    evaluator: Evaluator,
    store: RunStore,
    device: str,
    report: Report,
    stop: Stop,
) -> tuple[Summary | None, float]:
    """What happened in training, None where there is none, and the seconds that learning took."""
    if not isinstance(subject, Recommender):
        return None, 0.0
    if not subject.learns:
        return None, observe(subject, dataset)
    validated = validate(evaluator, spec, tasks_of_run(spec))

    def report_training(progress: Progress) -> None:
        report("training", asdict(progress))

    summary = fit(subject, spec, dataset, validated, store.checkpoint_path(spec.id), device, report_training, stop)
    return summary, summary.seconds


def _hold_harder_queries(
    subject: Any, wanted: list[View], spec: RunSpec, dataset: Dataset, evaluator: Evaluator, report: Report
) -> None:
    """Let model and evaluator know the queries that views of harder queries ask, if there are such views."""
    if isinstance(evaluator, PoolEvaluator) and any(view.queries for view in wanted):
        encoding = partial(_report_text, report)
        evaluator.harder, vectors = harder_queries_for(spec, dataset, encoding)
        subject.hold_queries(evaluator.harder.texts, vectors)


def _test(
    subject: Any, wanted: list[View], evaluator: Evaluator, report: Report
) -> tuple[dict[View, Ranks], dict[str, dict[str, float]]]:
    """Test ranks by view, and the processor's seconds that they took, by task and name of the view."""
    ranks: dict[View, Ranks] = {}
    seconds: dict[str, dict[str, float]] = {}
    for view in wanted:
        evaluator.prepare(Part.TEST, view)
        start = time.process_time()
        ranks[view] = evaluator.ranks(subject, Part.TEST, view, partial(_report_test, report, view))
        seconds.setdefault(str(view.task), {})[view.name] = round(time.process_time() - start, 3)
    return ranks, seconds


def retest(
    spec: RunSpec, source: str, store: RunStore, device: str, candidates: str | None
) -> dict[str, dict[str, dict[str, float]]]:
    """Test metrics of a finished run from its weights, by task and candidates (pool, slate or full; by default all).

    Raises:
        UserError: the weights are not there (they are not part of the records), or the run has no such candidates.
    """
    dataset = load_for(source, spec.protocol)
    known = KnownTruth.of(source, dataset.log) if spec.model in REFERENCES else None
    subject = _reference(spec, known) or _trained(spec, dataset, store).to(device)
    chosen = [view for view in _views(spec, subject, dataset) if candidates in (None, view.candidates)]
    if not chosen:
        raise UserError(f"run {spec.id} has candidates '{spec.protocol['candidates']}', and not '{candidates}'")
    evaluator = evaluator_for(dataset, spec, device)
    _hold_harder_queries(subject, chosen, spec, dataset, evaluator, _silent)
    return _metrics_by_task(_test(subject, chosen, evaluator, _silent)[0])


def _trained(spec: RunSpec, dataset: Dataset, store: RunStore) -> Recommender:
    """The model of a finished run; one that learns nothing is built anew."""
    if not model_class(spec.model).learns:
        model = build_for(spec, dataset, vectors_for(spec, dataset))
        observe(model, dataset)
        return model
    folder = model_folder(store.folder, spec.id)
    if not folder.exists():
        raise UserError(f"{folder}: the model of run {spec.id} is not here; train it again (benchmarks/run.py --force)")
    saved = load_model(folder, build)
    saved.refuse_other_items(dataset.log.item_ids, spec.dataset)
    return saved.model


def _reference(spec: RunSpec, known: KnownTruth | None) -> Any:
    """The oracle or the logging policy where the run is of one, and None where it is of a model."""
    if spec.model not in REFERENCES:
        return None
    if known is None:
        raise UserError(f"'{spec.dataset}' is not simulated, so nobody knows its {spec.model}; leave that row out")
    return Reference(spec.model, known)


def _parameters(subject: Any) -> dict[str, int]:
    if not isinstance(subject, Recommender):
        return {}
    return {name: sum(p.numel() for p in group) for name, group in subject.parameter_groups().items()}


def _views(spec: RunSpec, subject: Any, dataset: Dataset) -> list[View]:
    n_actions = len(dataset.log.action_names) - 1
    return views(tasks_of_run(spec), spec.protocol, has_ranking_head(subject), n_actions)


def _metrics_by_task(ranks: Mapping[View, Ranks]) -> dict[str, dict[str, dict[str, float]]]:
    by_task: dict[str, dict[str, dict[str, float]]] = {}
    for view, values in ranks.items():
        by_task.setdefault(str(view.task), {})[view.name] = kept_metrics(view, values)
    return by_task


def _reduction(text: TextVectors) -> dict[str, Any]:
    """To how many dimensions text vectors were reduced, and the share of their variance that is left."""
    assert text.projection is not None
    return {"dimensions": text.items.shape[1], "explained_variance": text.projection.explained}


def _data_record(dataset: Dataset, source: str) -> dict[str, Any]:
    log = dataset.log
    return {
        "hash": log.data_hash,
        "source_hash": source_hash(find_source(source)),
        "users": log.n_users,
        "items": log.n_items,
        "events": log.n_events,
        "statistics": statistics(dataset),
    }


def _silent(stage: str, state: dict[str, Any]) -> None:
    pass


def _report_text(report: Report, done: int, total: int) -> None:
    report("text", {"done": done, "total": total})


def _report_test(report: Report, view: View, done: int, total: int) -> None:
    report("testing", {"task": str(view.task), "candidates": view.name, "done": done, "total": total})


def _report_calibration(report: Report, done: int, total: int) -> None:
    report("testing", {"task": "both tasks", "candidates": "calibration", "done": done, "total": total})


def _training_record(summary: Summary) -> dict[str, Any]:
    values = asdict(summary)
    values.pop("seconds")
    return values
