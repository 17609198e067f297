"""One run from its specification to its record."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from baselines.registry import build, model_class
from benchmarks.environment import environment, peak_memory_mib
from synergen.contract import Recommender, Task
from synergen.data.batches import training_batches, training_windows
from synergen.data.candidates import pools
from synergen.data.dataset import Dataset, find_source, load_dataset, statistics
from synergen.data.filters import Filter
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.evaluation.audit import PopularRanker, SeenRanker, leak_shares
from synergen.evaluation.metrics import metrics
from synergen.evaluation.ranking import Scorer, full_ranks, pool_ranks
from synergen.files import write_atomically
from synergen.runs import Run, RunSpec, RunStore
from synergen.settings import from_mapping
from synergen.text import encode_texts
from synergen.training.trainer import Progress, Summary, TrainingConfig, train

METRICS = ("R@1", "R@5", "R@10", "R@50", "R@200", "N@5", "N@10", "N@50", "N@200", "MRR")

Report = Callable[[str, dict[str, Any]], None]
"""Called with a stage (loading, text, training, testing) and its state."""


def tasks_of_run(spec: RunSpec) -> list[Task]:
    """The tasks that a run is trained and tested on."""
    return list(Task) if spec.task == "joint" else [Task(spec.task)]


@lru_cache(maxsize=2)
def load(name_or_folder: str, search_share: float, rule: str, min_count: int) -> Dataset:
    """The data set of a protocol, kept for the next run of this process."""
    return load_dataset(name_or_folder, search_share=search_share, rule=Filter(rule), min_count=min_count)


def load_for(source: str, protocol: Mapping[str, Any]) -> Dataset:
    """The data set as `protocol` wants it."""
    return load(source, protocol["search_share"], protocol["filter"], protocol["min_count"])


def text_vectors(
    dataset: Dataset, encoder: str, progress: Callable[[int, int], None] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(V + 1, width) of items and (Q + 1, width) of queries by a frozen encoder, from its cache where it has them."""
    items = encode_texts(dataset.item_texts(), encoder, progress=progress)
    return items, encode_texts(dataset.log.query_texts, encoder, progress=progress)


class Evaluator:
    """Ranks of a model under the protocol of one run."""

    def __init__(self, dataset: Dataset, spec: RunSpec, max_history: int, device: str) -> None:
        self.dataset, self.spec, self.device = dataset, spec, device
        self.max_history = max_history
        self._pools: dict[tuple[Part, Task], np.ndarray] = {}

    def ranks(self, model: Scorer, part: Part, task: Task, candidates: str, report: Any = None) -> np.ndarray:
        """(U,) ranks; `candidates` is full or pool."""
        log, split = self.dataset.log, self.dataset.split
        common: dict[str, Any] = {"max_history": self.max_history, "device": self.device, "report": report}
        if candidates == "full":
            return full_ranks(model, log, split, part, task, **common)
        key = (part, task)
        if key not in self._pools:
            negatives = self.spec.protocol["negatives"]
            self._pools[key] = pools(log, split, part, task, self.spec.seed, negatives)
        return pool_ranks(model, log, split, part, task, self._pools[key], **common)

    def validate(self, model: Recommender) -> dict[str, float]:
        """The protocol's metric on the validation events, under the table's own candidates; the mean over the run's
        tasks comes first."""
        name, candidates = self.spec.protocol["validation"], self.spec.protocol["candidates"]
        values = {
            f"{name} {task}": metrics(self.ranks(model, Part.VALID, task, candidates), [name])[name]
            for task in tasks_of_run(self.spec)
        }
        return {name: float(np.mean(list(values.values()))), **values}


def audit(dataset: Dataset, evaluator: Evaluator, candidates: str) -> dict[str, float]:
    """The leak audit's lines: shares, and what two trivial rankers reach under the table's protocol."""
    log, task = dataset.log, Task.RECOMMENDATION
    seen = evaluator.ranks(SeenRanker(log.n_items), Part.TEST, task, candidates)
    popular = evaluator.ranks(PopularRanker(dataset.split.item_counts()), Part.TEST, task, candidates)
    return leak_shares(log, dataset.split) | {
        f"R@10 of the ranker 'was it seen before' ({candidates})": metrics(seen, ["R@10"])["R@10"],
        f"R@10 of the ranker 'most popular' ({candidates})": metrics(popular, ["R@10"])["R@10"],
    }


def execute(spec: RunSpec, source: str, store: RunStore, device: str, scale: str, report: Report) -> Run:
    """Train (or resume), test once, write the record. A run that is finished is loaded.

    Raises:
        UserError: bad data or settings, a loss that is not finite, a folder that cannot be written.
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
    config = from_mapping(TrainingConfig, spec.trainer, f"training of {spec.model}")
    dataset = load_for(source, spec.protocol)
    vectors = _vectors_for(spec, dataset, report)
    model = build(spec.model, dataset.view(*vectors), spec.settings).to(device)
    max_history = spec.protocol["max_history"]
    evaluator = Evaluator(dataset, spec, max_history, device)
    summary = _train(model, spec, config, dataset, evaluator, store, device, report)
    ranks = {
        (str(task), candidates): evaluator.ranks(
            model, Part.TEST, task, candidates, partial(_report_test, report, task, candidates)
        )
        for task in tasks_of_run(spec)
        for candidates in dict.fromkeys((spec.protocol["candidates"], "full"))
    }
    log = dataset.log
    record = {
        "id": spec.id,
        **asdict(spec),
        "scale": scale if model.learns else None,
        "metrics": {
            task: {c: metrics(values, METRICS) for (t, c), values in ranks.items() if t == task}
            for task in tasks_of_run(spec)
        },
        "data": {
            "hash": log.data_hash,
            "source_hash": find_source(source).source_hash(),
            "users": log.n_users,
            "items": log.n_items,
            "events": log.n_events,
            "statistics": statistics(dataset),
            "audit": audit(dataset, evaluator, spec.protocol["candidates"]),
        },
        "training": _training_record(summary) if model.learns else {"stopped": "nothing to train"},
        "seconds": round(summary.seconds, 1),
        "peak_memory_mib": peak_memory_mib(),
        "parameters": {name: sum(p.numel() for p in group) for name, group in model.parameter_groups().items()},
        "environment": environment(),
    }
    run = Run(record, ranks)
    if model.learns:
        write_atomically(store.weights_path(spec.id), lambda path: torch.save(model.state_dict(), path))
    store.save(run)
    store.checkpoint_path(spec.id).unlink(missing_ok=True)
    return run


def retest(
    spec: RunSpec, source: str, store: RunStore, device: str, candidates: str | None
) -> dict[str, dict[str, dict[str, float]]]:
    """Test metrics of a finished run from its weights, by task and candidates.

    Raises:
        UserError: the weights are not there (they are not part of the records).
    """
    dataset = load_for(source, spec.protocol)
    model = build(spec.model, dataset.view(*_vectors_for(spec, dataset, lambda stage, state: None)), spec.settings)
    if model.learns:
        path = store.weights_path(spec.id)
        if not path.exists():
            raise UserError(
                f"{path}: the weights of run {spec.id} are not here; train it again (benchmarks/run.py --force)"
            )
        model.load_state_dict(torch.load(path, weights_only=True))
    evaluator = Evaluator(dataset, spec, spec.protocol["max_history"], device)
    chosen = [candidates] if candidates else list(dict.fromkeys((spec.protocol["candidates"], "full")))
    return {
        str(task): {c: metrics(evaluator.ranks(model.to(device), Part.TEST, task, c), METRICS) for c in chosen}
        for task in tasks_of_run(spec)
    }


def _vectors_for(spec: RunSpec, dataset: Dataset, report: Report) -> tuple[np.ndarray | None, np.ndarray | None]:
    if not model_class(spec.model).reads_text(spec.settings, frozenset(tasks_of_run(spec))):
        return None, None
    encoder = spec.protocol["encoder"]
    return text_vectors(dataset, encoder, lambda done, total: report("text", {"done": done, "total": total}))


def _train(
    model: Recommender,
    spec: RunSpec,
    config: TrainingConfig,
    dataset: Dataset,
    evaluator: Evaluator,
    store: RunStore,
    device: str,
    report: Report,
) -> Summary:
    if not model.learns:
        return Summary()
    windows = training_windows(dataset.split, spec.protocol["max_history"])
    steps = math.ceil(len(windows.starts) / config.batch_size)

    def show(progress: Progress) -> None:
        report("training", asdict(progress))

    return train(
        model,
        config,
        lambda epoch: training_batches(
            dataset.log, windows, config.batch_size, np.random.default_rng([spec.seed, epoch])
        ),
        steps,
        evaluator.validate,
        seed=spec.seed,
        checkpoint=store.checkpoint_path(spec.id),
        device=device,
        report=show,
    )


def _report_test(report: Report, task: Task, candidates: str, done: int, total: int) -> None:
    report("testing", {"task": str(task), "candidates": candidates, "done": done, "total": total})


def _training_record(summary: Summary) -> dict[str, Any]:
    values = asdict(summary)
    values.pop("seconds")
    return values
