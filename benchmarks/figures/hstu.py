"""The layer of HSTU against the one that its authors published."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from baselines.hstu_layers import HSTULayer, Pairs
from benchmarks.figures.made_up import DAY, START
from benchmarks.measure import Setting, Value, figure, median_ratio, milliseconds
from synergen.errors import UserError

REFERENCE = "SYNERGEN_HSTU_REFERENCE"
"""The environment variable that names a checkout of the authors' repository."""

_SPARE = 11
"""Positions beyond the history, to which the reference pads every batch."""


@dataclass(frozen=True)
class _Shape:
    name: str
    batch: int
    history: int
    width: int
    heads: int
    head_width: int
    dropout: float


_SHAPES = (_Shape("ML-1M", 16, 200, 50, 1, 50, 0.2), _Shape("Books", 128, 50, 64, 4, 16, 0.5))


@figure("x", 1.0, "lower", dtype=torch.float32, threads=1, needs=REFERENCE)
def hstu_layer_vs_reference(setting: Setting) -> Value:
    """Time of forward and backward of an HSTU layer with both biases, over that of the authors' PyTorch layer.

    The larger ratio of two shapes, with full histories: ML-1M (16 x 200 events, D = 50, one head of 50) and Books
    (128 x 50, D = 64, four heads of 16). The reference pads to 11 more events, as its data loader does; ours bears the
    buckets of time alone, which in a model its layers share. SYNERGEN_HSTU_REFERENCE names a checkout of
    https://github.com/meta-recsys/generative-recommenders; its operators come from `pip install --no-deps
    fbgemm-gpu-cpu`, of the version that goes with the installed torch.
    """
    reference = _reference()
    ratios, notes = [], []
    for shape in _SHAPES:
        ours, theirs = setting.seconds(_ours(shape), _theirs(shape, reference))
        ratios.append(median_ratio(ours, theirs))
        notes.append(f"{shape.name} {ratios[-1]:.2f}: {milliseconds(ours)} against {milliseconds(theirs)}")
    return Value(max(ratios), ", ".join(notes))


def _ours(shape: _Shape) -> Callable[[], None]:
    sizes = (shape.width, shape.heads, shape.head_width, shape.head_width, shape.dropout)
    layer = HSTULayer(*sizes, positions=shape.history + _SPARE, bias="both")
    x = torch.randn(shape.batch, shape.history, shape.width, requires_grad=True)
    times = _times(shape)
    return _turn(layer, x, lambda: layer(x, Pairs.of(times[:, :-1], times[:, 1:], shape.history + _SPARE)))


def _theirs(shape: _Shape, reference: Any) -> Callable[[], None]:
    size = shape.history + _SPARE
    bias = reference.RelativeBucketedTimeAndPositionBasedBias(
        size, num_buckets=128, bucketization_fn=lambda x: (torch.log(torch.abs(x).clamp(min=1)) / 0.301).long()
    )
    layer = reference.SequentialTransductionUnitJagged(
        shape.width, shape.head_width, shape.head_width, shape.dropout, 0.0, shape.heads, "silu", bias
    )
    x = torch.randn(shape.batch * shape.history, shape.width, requires_grad=True)
    offsets = torch.arange(shape.batch + 1) * shape.history
    times = nn.functional.pad(_times(shape), (0, _SPARE - 1))  # (B, N)
    causal = torch.ones(size, size).tril()
    return _turn(layer, x, lambda: layer(x, offsets, times, causal)[0])


def _times(shape: _Shape) -> Tensor:
    """(B, T + 1): of the events of each history and of the one that follows, minutes to months apart."""
    torch.manual_seed(0)
    gaps = torch.empty(shape.batch, shape.history + 1).log_normal_(10.0, 3.0).clamp(max=90 * DAY)
    return START + gaps.long().cumsum(1)


def _turn(layer: nn.Module, x: Tensor, forward: Callable[[], Tensor]) -> Callable[[], None]:
    grad = torch.randn(x.shape)

    def turn() -> None:
        layer.zero_grad()
        x.grad = None
        forward().backward(grad)

    return turn


def _reference() -> Any:
    """The module of the authors' layer.

    Raises:
        UserError: no checkout is named, or it or the operators that it needs cannot be imported.
    """
    folder = os.environ.get(REFERENCE)
    if not folder:
        raise UserError(
            f"{REFERENCE} is not set: name the folder of a checkout of "
            "https://github.com/meta-recsys/generative-recommenders"
        )
    sys.path.append(str(Path(folder).resolve()))
    try:
        import_module("fbgemm_gpu")
        return import_module("generative_recommenders.research.modeling.sequential.hstu")
    except ImportError as error:
        raise UserError(
            f"{REFERENCE}={folder}: {error}; it must be a checkout of meta-recsys/generative-recommenders, beside "
            "`pip install --no-deps fbgemm-gpu-cpu` of the version that goes with the installed torch"
        ) from error
    finally:
        sys.path.pop()
