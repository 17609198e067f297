"""A short measured run: at which share of a matrix product's pace a model trains."""

import statistics
from dataclasses import dataclass, replace

import torch

from baselines.registry import build
from benchmarks.inputs import Known
from benchmarks.measure import GEMM_FLOPS, Setting, gemm
from benchmarks.planning.counted_step import step_of
from benchmarks.planning.workload import UNKNOWN_QUERIES, Workload, made_up_batch
from benchmarks.size import catalogue_of, text_width
from synergen.runs import RunSpec
from synergen.training.step import make_optimiser, take_step

_ITEMS = 20_000
"""Of a catalogue at most: time that goes into larger tables is on the bill by itself."""
_FLOPS = {"cpu": 1e11, "cuda": 2e13}
"""Of a measured step, about."""


@dataclass(frozen=True)
class Utilisation:
    """What was measured, in FLOP a second."""

    device: str
    windows: int
    """Of the measured step."""
    reached: float
    """By whole steps of training: forward, backward, clipping and update."""
    possible: float
    """By a product of two square matrices."""

    @property
    def share(self) -> float:
        return self.reached / self.possible


def utilisation(spec: RunSpec, known: Known, work: Workload, setting: Setting) -> Utilisation:
    """Train the model of a run, of full size but for its catalogue, for a few steps on made-up windows of average size.

    Raises:
        UserError: the settings make no model.
    """
    device = setting.device
    known = replace(known, items=min(known.items, _ITEMS), queries=known.queries or UNKNOWN_QUERIES)
    catalogue = catalogue_of(known, text_width(spec.protocol), rows=True)
    torch.manual_seed(0)
    model = build(spec.model, catalogue, spec.settings).to(device).train()
    dtype = setting.dtype if setting.dtype is torch.bfloat16 else None
    one = step_of(model, made_up_batch(work, 1, spec, known).to(device), dtype).flops
    windows = int(min(spec.trainer["batch_size"], max(1, _FLOPS[torch.device(device).type] // one)))
    batch = made_up_batch(work, windows, spec, known).to(device)
    flops = step_of(model, batch, dtype).flops
    rates = {"dense": 1e-6, "sparse": 1e-6}
    optimiser = make_optimiser(model, rates, 0.0, bool(spec.trainer.get("row_updates")))
    model.begin_epoch(1)

    def step() -> None:
        take_step(model, optimiser, batch, spec.trainer["clip_norm"], dtype)

    steps, products = setting.seconds(step, gemm(setting.dtype, device))
    return Utilisation(device, windows, flops / statistics.median(steps), GEMM_FLOPS / statistics.median(products))
