"""One run from its specification to its record."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from baselines.registry import build, model_class
from benchmarks.calibrate import BOTH, calibration_record
from benchmarks.environment import environment, peak_memory_mib
from benchmarks.evaluator import (
    Evaluator,
    SlateEvaluator,
    audit,
    evaluator_for,
    has_ranking_head,
    kept_metrics,
    validate,
)
from benchmarks.plan import tuning_of
from benchmarks.references import REFERENCES, KnownTruth, Reference, knows_truth
from benchmarks.size import device_memory, out_of_memory
from benchmarks.views import View, has_slates, views
from synergen.contract import Batch, DataView, Recommender, Task
from synergen.data.batches import Windows, training_batches, training_windows
from synergen.data.dataset import Dataset, load_dataset, statistics
from synergen.data.filters import Filter
from synergen.data.preparation import Rules, prepare_source, source_hash
from synergen.data.slates import slate_batches, weekly_windows
from synergen.data.sources import find_source
from synergen.data.splits import Part, TimeSplit
from synergen.errors import UserError
from synergen.evaluation.calibration import Temperature
from synergen.model_files import UNCALIBRATED, load_model, model_folder, save_model
from synergen.runs import Ranks, Run, RunSpec, RunStore
from synergen.settings import from_mapping
from synergen.text import TextVectors, encode_catalogue
from synergen.training.trainer import Summary, TrainingConfig, train

Report = Callable[[str, dict[str, Any]], None]
"""Called with a stage (loading, text, training, testing) and its state."""

_USERS_AT_ONCE = 128
"""Whole sequences in a batch of what is observed."""


def tasks_of_run(spec: RunSpec) -> list[Task]:
    """The tasks that a run is trained and tested on."""
    return list(Task) if spec.task == "joint" else [Task(spec.task)]


@lru_cache(maxsize=2)
def load(
    name_or_folder: str, search_share: float, rule: str, min_count: int, split: str, max_users: int | None = None
) -> Dataset:
    """The data set of a protocol, kept for the next run of this process."""
    return load_dataset(
        name_or_folder,
        search_share=search_share,
        rule=Filter(rule),
        min_count=min_count,
        split=split,
        max_users=max_users,
    )


def load_for(source: str, protocol: Mapping[str, Any]) -> Dataset:
    """The data set as `protocol` wants it."""
    keys = ("search_share", "filter", "min_count", "split")
    return load(source, *(protocol[key] for key in keys), protocol.get("max_users"))


def prepare_for(source: str, protocol: Mapping[str, Any], report: Callable[[str, int, int], None]) -> None:
    """Make the data set of a protocol, if it is not there."""
    rules = Rules(
        protocol["search_share"],
        Filter(protocol["filter"]),
        protocol["min_count"],
        protocol.get("max_users"),
        protocol["split"] == "time",
    )
    prepare_source(find_source(source), rules, report)


def text_vectors(dataset: Dataset, encoder: str, progress: Callable[[int, int], None] | None = None) -> TextVectors:
    """(V + 1, width) of items and (Q + 1, width) of queries by a frozen encoder, from its cache where it has them."""
    return encode_catalogue(dataset.item_texts(), dataset.log.query_texts, encoder, progress=progress)


def execute(spec: RunSpec, source: str, store: RunStore, device: str, scale: str, report: Report) -> Run:
    """Train (or resume), test once, write the record. A run that is finished is loaded.

    Raises:
        UserError: bad data or settings, a loss or gradient that is not finite, a folder that cannot be written.
    """
    store.check_writable()
    lock = store.checkpoint_path(spec.id).with_suffix(".lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        store.sweep(spec.id)
        done = store.load(spec.id)
        run = done or _execute(spec, source, store, device, scale, report)
    lock.unlink(missing_ok=True)
    return run


def _execute(spec: RunSpec, source: str, store: RunStore, device: str, scale: str, report: Report) -> Run:
    report("loading", {})
    torch.manual_seed(spec.seed)
    dataset = load_for(source, spec.protocol)
    evaluator = evaluator_for(dataset, spec, device)
    known = KnownTruth.of(source, dataset.log) if has_slates(spec.protocol) and knows_truth(spec.dataset) else None
    text = vectors_for(spec, dataset, report)
    subject = _reference(spec, known) or build(spec.model, data_view(dataset, text), spec.settings).to(device)
    learns = isinstance(subject, Recommender) and subject.learns
    summary = _train(subject, spec, dataset, evaluator, store, device, report) if learns else None
    seconds = summary.seconds if summary else _observe(subject, dataset)
    ranks = {
        view: evaluator.ranks(subject, Part.TEST, view, partial(_report_test, report, view))
        for view in _views(spec, subject, dataset)
    }
    calibration = None
    if isinstance(evaluator, SlateEvaluator) and has_ranking_head(subject):
        calibration = calibration_record(subject, evaluator, known, partial(_report_calibration, report))
    log = dataset.log
    record = {
        "id": spec.id,
        **asdict(spec),
        "scale": scale if learns else None,
        **({"tuning": tuning} if (tuning := tuning_of(spec, scale)) else {}),
        "metrics": _metrics_by_task(ranks),
        **({"calibration": calibration} if calibration else {}),
        **({"text": _reduction(text)} if text and text.projection else {}),
        "data": {
            "hash": log.data_hash,
            "source_hash": source_hash(find_source(source)),
            "users": log.n_users,
            "items": log.n_items,
            "events": log.n_events,
            "statistics": statistics(dataset),
            "audit": audit(dataset, evaluator, spec.protocol),
        },
        "training": _training_record(summary) if summary else {"stopped": "nothing to train"},
        "seconds": round(seconds, 1),
        "peak_memory_mib": peak_memory_mib(),
        "parameters": _parameters(subject),
        "environment": environment(),
    }
    if learns:
        temperature = Temperature(**calibration[BOTH]["temperature"]) if calibration else UNCALIBRATED
        vectors, projection = ((text.items, text.queries), text.projection) if text else ((None, None), None)
        save_model(model_folder(store.folder, spec.id), subject, spec, dataset, vectors, temperature, projection)
    run = Run(record, {(str(view.task), view.name): values for view, values in ranks.items()})
    store.save(run)
    store.drop_checkpoints(spec.id)
    return run


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
    return _metrics_by_task({view: evaluator.ranks(subject, Part.TEST, view) for view in chosen})


def _trained(spec: RunSpec, dataset: Dataset, store: RunStore) -> Recommender:
    """The model of a finished run; one that learns nothing is built anew."""
    if not model_class(spec.model).learns:
        text = vectors_for(spec, dataset, lambda stage, state: None)
        model = build(spec.model, data_view(dataset, text), spec.settings)
        _observe(model, dataset)
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


def data_view(dataset: Dataset, text: TextVectors | None) -> DataView:
    """What a model may know of a data set; with text vectors where it reads them."""
    return dataset.view(text.items, text.queries) if text else dataset.view(None, None)


def vectors_for(spec: RunSpec, dataset: Dataset, report: Report) -> TextVectors | None:
    """The text vectors of the protocol's encoder, where the run's model reads them."""
    if spec.model in REFERENCES or not model_class(spec.model).reads_text(spec.settings, frozenset(tasks_of_run(spec))):
        return None
    encoder = spec.protocol["encoder"]
    return text_vectors(dataset, encoder, lambda done, total: report("text", {"done": done, "total": total}))


def _train(
    model: Recommender,
    spec: RunSpec,
    dataset: Dataset,
    evaluator: Evaluator,
    store: RunStore,
    device: str,
    report: Report,
) -> Summary:
    config = from_mapping(TrainingConfig, spec.trainer, f"training of {spec.model}")
    batches, steps = epochs(dataset, spec, config.batch_size)
    try:
        return train(
            model,
            config,
            batches,
            steps,
            validate(evaluator, spec, tasks_of_run(spec)),
            seed=spec.seed,
            checkpoint=store.checkpoint_path(spec.id),
            device=device,
            report=lambda progress: report("training", asdict(progress)),
        )
    except torch.OutOfMemoryError as error:
        raise out_of_memory(spec, dataset.log.n_items, device_memory(device)) from error


def _observe(subject: Any, dataset: Dataset) -> float:
    """Show a model that learns nothing by gradient the training events, a sequence a user; returns the seconds."""
    if not isinstance(subject, Recommender):
        return 0.0
    start = time.perf_counter()
    begins, ends = dataset.log.offsets[:-1], dataset.split.train_ends()
    some = ends > begins
    users = Windows(begins[some], ends[some], begins[some])
    subject.observe(training_batches(dataset.log, users, _USERS_AT_ONCE, np.random.default_rng(0)))
    return time.perf_counter() - start


def epochs(dataset: Dataset, spec: RunSpec, batch_size: int) -> tuple[Callable[[int], Iterator[Batch]], int]:
    """The batches of each epoch, and about how many these are."""
    log, split, max_history = dataset.log, dataset.split, spec.protocol["max_history"]

    def rng(epoch: int) -> np.random.Generator:
        return np.random.default_rng([spec.seed, epoch])

    if isinstance(split, TimeSplit):
        weeks = weekly_windows(split, max_history)
        steps = math.ceil(len(weeks.starts) / batch_size)
        return lambda epoch: slate_batches(log, weeks, batch_size, rng(epoch)), steps
    windows = training_windows(split, max_history)
    steps = math.ceil(len(windows.starts) / batch_size)
    return lambda epoch: training_batches(log, windows, batch_size, rng(epoch)), steps


def _report_test(report: Report, view: View, done: int, total: int) -> None:
    report("testing", {"task": str(view.task), "candidates": view.name, "done": done, "total": total})


def _report_calibration(report: Report, done: int, total: int) -> None:
    report("testing", {"task": "both tasks", "candidates": "calibration", "done": done, "total": total})


def _training_record(summary: Summary) -> dict[str, Any]:
    values = asdict(summary)
    values.pop("seconds")
    return values
