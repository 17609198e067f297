"""SASRec as this benchmark trains and ranks it beside the same module in RecBole's hands (benchmarks/shipped.py).

RecBole takes seconds to import: the figures import it, so that no other figure waits for it.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from benchmarks.figures import made_up
from benchmarks.measure import Setting, Value, figure, median_ratio
from benchmarks.plan import make_run
from benchmarks.spec import load_spec
from synergen.contract import Batch, Recommender, Task
from synergen.data.batches import training_batches, training_windows
from synergen.data.dataset import Dataset
from synergen.data.splits import EventSplit, LeaveOneOut, Part
from synergen.errors import UserError
from synergen.evaluation.metrics import metrics
from synergen.evaluation.ranking import full_ranks
from synergen.training.step import make_optimiser, take_step
from synergen.training.trainer import TrainingConfig

BEAUTY = "SYNERGEN_BEAUTY"
"""The environment variable that names the folder of beauty."""
CURVE = "SYNERGEN_SHIPPED_CURVE"
"""The environment variable that names the file of RecBole's training on ml-100k."""

_EVENTS, _STRIDE = 50, 10
_OUR_STEPS, _THEIR_STEPS = 32, 4
"""Of a turn."""


@figure("x", 20, "higher")
def train_positions_vs_recbole(setting: Setting) -> Value:
    """Supervised positions a second of our training of SASRec over those of RecBole's training of it.

    RecBole's module on both sides: D = 64, 2 layers, 2 heads, T = 50, softmax over all items. Ours are whole sequences
    and the trainer's step in its usual precision; RecBole's are rows of 50 events for one position each, in float32.
    Both make their batches while the clock runs. Beauty, where SYNERGEN_BEAUTY names its folder, or else a made-up log
    of as many users and items.
    """
    from baselines.recbole_models import SASRec
    from benchmarks.shipped import shipped

    dataset, training = _beauty(), TrainingConfig()
    model = SASRec(dataset.view(None, None), max_history=_EVENTS)
    step, epoch = _step(model, training, setting.dtype), _epochs(dataset, training)
    with shipped(dataset.log) as recbole:

        def ours() -> None:
            for batch in islice(epoch(1), _OUR_STEPS):
                step(batch)

        def theirs() -> None:
            recbole.trainer._train_epoch(islice(recbole.train, _THEIR_STEPS), 0)

        long, short = setting.seconds(theirs, ours)
        rows = sum(len(batch) for batch in islice(recbole.train, _THEIR_STEPS))
    positions = sum(_supervised(batch) for batch in islice(epoch(1), _OUR_STEPS))
    note = f"{_rate(positions, short)} positions a second against {_rate(rows, long)}"
    return Value(median_ratio(long, short) * positions / rows, note)


@figure("x", 3, "higher", torch.float32)
def eval_full_vs_recbole(setting: Setting) -> Value:
    """Users a second of ranking the whole catalogue for validation, over those of RecBole's `full_sort` evaluation.

    The same weights of SASRec in float32, Recall and NDCG at 10. Ours removes the items of the history, which RecBole's
    does not. The log is that of `train_positions_vs_recbole`; a batch of RecBole's is 4,096 users, its default.
    """
    from benchmarks.shipped import shipped

    dataset = _beauty()
    with shipped(dataset.log, metrics=["Recall", "NDCG"]) as recbole:
        model = recbole.ours(dataset)
        long, short = setting.seconds(
            lambda: recbole.trainer.evaluate(recbole.valid, load_best_model=False),
            lambda: _validation(model, dataset, "R@10", "N@10"),
        )
    users = dataset.log.n_users
    note = f"{_rate(users, short)} users a second against {_rate(users, long)}"
    return Value(median_ratio(long, short), note)


@figure("x", 0.10, "lower", threads=1, needs=CURVE)
def time_to_ndcg_vs_recbole(setting: Setting) -> Value:
    """Time until our training of SASRec reaches the best validation NDCG@10 of RecBole's training, over RecBole's time.

    ml-100k is that of table 2, both are validated by our evaluator on the same events. Our settings are those by hand,
    with windows that begin every 10 events: as in RecBole's rows, nearly all targets then have a full history. Time is
    that of the processor and of training alone; ours is the median over as many seeds as there are repeats.
    SYNERGEN_SHIPPED_CURVE names the file that benchmarks/shipped.py writes of RecBole's training: hours, if it is not
    there or not at its end.
    """
    from benchmarks.shipped import table_dataset, training_curve

    if CURVE not in os.environ:
        raise UserError(f"set {CURVE} to the file of RecBole's training, or to the one to write: it takes hours")
    dataset = table_dataset("ml-100k")
    best = training_curve(dataset, Path(os.environ[CURVE]).resolve(), lambda point: None).best
    ours = [_seconds_to(best.ndcg, dataset, seed, setting.dtype) for seed in range(setting.repeats)]
    note = (
        f"{statistics.median(ours):.0f} s against {best.seconds:.0f} s to NDCG@10 {best.ndcg:.4f}, epoch {best.epoch}"
    )
    return Value(statistics.median(ours) / best.seconds, note)


def _beauty() -> Dataset:
    """Beauty as in table 2, or a log of its size."""
    from benchmarks.shipped import table_dataset

    if folder := os.environ.get(BEAUTY):
        return table_dataset(folder)
    log = made_up.log(22_332, 12_086)
    return Dataset(log, LeaveOneOut(log), "none")


def _epochs(dataset: Dataset, training: TrainingConfig) -> Callable[[int], Iterator[Batch]]:
    """The batches of each epoch."""
    windows = training_windows(_events(dataset), _EVENTS, training.window_stride)
    return lambda epoch: training_batches(dataset.log, windows, training.batch_size, np.random.default_rng(epoch))


def _step(model: Recommender, training: TrainingConfig, dtype: torch.dtype) -> Callable[[Batch], object]:
    """The trainer's step, which changes the model."""
    rates = {"dense": training.learning_rate, "sparse": training.sparse_learning_rate}
    optimiser = make_optimiser(model.train(), rates, training.weight_decay, training.row_updates)
    autocast = dtype if dtype is torch.bfloat16 else None
    return lambda batch: take_step(model, optimiser, batch, training.clip_norm, autocast)


def _seconds_to(wanted: float, dataset: Dataset, seed: int, dtype: torch.dtype) -> float:
    """Seconds of the processor until a training of our SASRec reaches a validation NDCG@10.

    Raises:
        UserError: early stopping would end the training before.
    """
    from baselines.recbole_models import SASRec

    stride = {"window_stride": _STRIDE}
    run = make_run("SASRec", "recommendation", {}, load_spec(2).protocol, "ml-100k", "cpu", seed, stride, by_hand=True)
    training, seconds, best, best_epoch = TrainingConfig(**run.trainer), 0.0, 0.0, 0
    torch.manual_seed(seed)
    model = SASRec(dataset.view(None, None), **run.settings)
    step, batches = _step(model, training, dtype), _epochs(dataset, training)
    for epoch in range(1, training.max_epochs + 1):
        start = time.process_time()
        for batch in batches(epoch):
            step(batch)
        seconds += time.process_time() - start
        metric = _validation(model, dataset, "N@10")["N@10"]
        if metric >= wanted:
            return seconds
        if metric > best:
            best, best_epoch = metric, epoch
        if epoch - best_epoch >= training.patience:
            break
    raise UserError(f"our SASRec (seed {seed}) reached NDCG@10 {best:.4f} on ml-100k, and RecBole's {wanted:.4f}")


def _validation(model: Recommender, dataset: Dataset, *names: str) -> dict[str, float]:
    split = _events(dataset)
    ranks = full_ranks(model, dataset.log, split, Part.VALID, Task.RECOMMENDATION, max_history=_EVENTS)
    return metrics(ranks, names)


def _events(dataset: Dataset) -> EventSplit:
    assert isinstance(dataset.split, EventSplit)  # as tables other than 1 have it
    return dataset.split


def _supervised(batch: Batch) -> int:
    """Targets that have an event before them."""
    return int((batch.targets & batch.events.valid)[:, 1:].sum())


def _rate(count: int, seconds: list[float]) -> str:
    return f"{count / statistics.median(seconds):,.0f}"
