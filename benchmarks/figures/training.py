"""Training where the catalogue is large, and what it waits for its batches."""

import statistics
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch

from benchmarks.figures import made_up
from benchmarks.measure import Setting, Value, figure, median_ratio, milliseconds
from synergen.contract import Batch
from synergen.data.batches import training_batches, training_windows
from synergen.data.splits import LeaveOneOut
from synergen.model.synergen import SynerGen
from synergen.training.step import make_optimiser, take_step

_WINDOWS, _EVENTS, _NEGATIVES = 128, 50, 512


@figure("x", 1.3, "lower")
def step_time_vs_items(setting: Setting) -> Value:
    """Time of a training step with 1,000,000 items over that with 50,000: forward, backward, clipping, and an optimiser
    that updates the rows read of the item table.

    SynerGen with id vectors, D = 64, 2 layers, 4 ranking negatives; 128 histories of 50 events, all of them targets,
    against the same 512 uniform items and no hard negatives.
    """
    many, few = (_steps(n, [made_up.training_batch(_WINDOWS, _EVENTS, n)], 2) for n in (1_000_000, 50_000))
    long, short = setting.seconds(lambda: many(setting), lambda: few(setting))
    return Value(median_ratio(long, short), f"{milliseconds(long)} against {milliseconds(short)}")


@figure("of step", 0.1, "lower")
def loader_share(setting: Setting) -> Value:
    """Time of making a batch over the time of making it and taking the training step with it.

    The smallest model: SynerGen with id vectors, D = 64, one layer, no ranking head, 512 shared negatives. A log of
    100,000 users of power-law lengths and 100,000 items; 128 windows of up to 50 events a batch. Making a batch is
    1/n of an epoch of n batches, the shuffling of its beginning included; the step is the mean over 20 batches of it.
    """
    log = made_up.log(100_000, 100_000)
    windows = training_windows(LeaveOneOut(log), _EVENTS)

    def epoch() -> Iterator[Batch]:
        return training_batches(log, windows, _WINDOWS, np.random.default_rng(0))

    def exhaust() -> int:
        return sum(1 for _ in epoch())

    n = exhaust()
    sample = list(islice(epoch(), 0, None, n // 20))
    steps = _steps(log.n_items, sample, 1, ranking_head=False)
    making, taking = setting.seconds(exhaust, lambda: steps(setting))
    batch, step = ([s / n for s in seconds] for seconds, n in ((making, n), (taking, len(sample))))
    share = statistics.median(b / (b + s) for b, s in zip(batch, step, strict=True))
    return Value(share, f"{milliseconds(batch)} beside {milliseconds(step)}")


def _steps(n_items: int, batches: list[Batch], layers: int, **settings: object) -> Callable[[Setting], None]:
    """A training step with each of the batches."""
    torch.manual_seed(0)
    model = SynerGen(
        made_up.catalogue(n_items), layers=layers, inputs="id", easy="uniform", easy_negatives=_NEGATIVES, alpha=1.0,
        **settings,
    ).train()  # fmt: skip
    optimiser = make_optimiser(model, {"dense": 1e-3, "sparse": 3e-3}, 0.0, by_rows=True)

    def take(setting: Setting) -> None:
        for batch in batches:
            take_step(model, optimiser, batch, 5.0, setting.dtype if setting.dtype is torch.bfloat16 else None)

    return take
