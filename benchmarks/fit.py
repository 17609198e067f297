"""From a specification to a model that has learnt: the same for a run of a table and for a trial of a search."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from baselines.registry import build, tasks_of
from benchmarks.inputs import Known
from benchmarks.size import device_memory, out_of_memory
from synergen.contract import Batch, Recommender, Task
from synergen.data.batches import Windows, training_batches, training_windows
from synergen.data.dataset import Dataset
from synergen.data.slates import slate_batches, weekly_windows
from synergen.data.splits import TimeSplit
from synergen.runs import RunSpec
from synergen.settings import from_mapping
from synergen.text import TextVectors
from synergen.training.trainer import Progress, Summary, TrainingConfig, Validate, train

_USERS_AT_ONCE = 128
"""Whole sequences in a batch of what is observed."""


def build_for(spec: RunSpec, dataset: Dataset, text: TextVectors | None) -> Recommender:
    """The model of a run, new and on the CPU.

    Raises:
        UserError: settings out of range, or data that the model cannot work with.
    """
    return build(spec.model, dataset.view(*rows_of(text)), spec.settings)


def rows_of(text: TextVectors | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Text vectors of items (V + 1, width) and queries (Q + 1, width), where there are any."""
    return (text.items, text.queries) if text else (None, None)


def training_of(spec: RunSpec) -> TrainingConfig:
    """How a run is trained.

    Raises:
        UserError: an unknown key, or a value of the wrong type.
    """
    return from_mapping(TrainingConfig, spec.trainer, f"training of {spec.model}")


def fit(
    model: Recommender,
    spec: RunSpec,
    dataset: Dataset,
    validate: Validate,
    checkpoint: Path,
    device: str,
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Train the model of a run, or go on from the checkpoint; see `synergen.training.trainer.train`.

    Raises:
        Interrupted: `stop` said yes.
        UserError: a loss or gradient that is not finite, or a GPU whose memory does not suffice.
    """
    config = training_of(spec)
    batches, steps = epochs(dataset, spec, config)
    try:
        return train(
            model,
            config,
            batches,
            steps,
            validate,
            seed=spec.seed,
            checkpoint=checkpoint,
            device=device,
            report=report,
            stop=stop,
        )
    except torch.OutOfMemoryError as error:
        log = dataset.log
        known = Known(log.n_items, log.n_users, tuple(log.query_texts[1:]))
        raise out_of_memory(spec, known, device_memory(device)) from error


def observe(model: Recommender, dataset: Dataset) -> float:
    """Show a model that learns nothing by gradient the training events, a sequence a user; returns the seconds."""
    start = time.perf_counter()
    begins, ends = dataset.log.offsets[:-1], dataset.split.train_ends()
    some = ends > begins
    users = Windows(begins[some], ends[some], begins[some])
    model.observe(training_batches(dataset.log, users, _USERS_AT_ONCE, np.random.default_rng(0)))
    return time.perf_counter() - start


def only_targets(spec: RunSpec) -> Task | None:
    """The kind of events that a run learns from, where it is not all. A model of both tasks that a run trains for one
    does without the other's events as targets; a model that serves one task only chooses for itself."""
    return None if spec.task == "joint" or len(tasks_of(spec.model)) == 1 else Task(spec.task)


def epochs(dataset: Dataset, spec: RunSpec, config: TrainingConfig) -> tuple[Callable[[int], Iterator[Batch]], int]:
    """The batches of each epoch, which depend on the run's seed and the epoch alone, and about how many these are."""
    log, split, max_history = dataset.log, dataset.split, spec.protocol["max_history"]
    batch_size = config.batch_size

    def rng(epoch: int) -> np.random.Generator:
        return np.random.default_rng([spec.seed, epoch])

    if isinstance(split, TimeSplit):
        weeks = weekly_windows(split, max_history)
        steps = math.ceil(len(weeks.starts) / batch_size)
        return lambda epoch: slate_batches(log, weeks, batch_size, rng(epoch)), steps
    windows, task = training_windows(split, max_history, config.window_stride), only_targets(spec)
    steps = math.ceil(len(windows.starts) / batch_size)
    return lambda epoch: training_batches(log, windows, batch_size, rng(epoch), task), steps
