"""The layer of HSTU: pointwise attention with relative biases of position and time, gated.

Paper: J. Zhai et al., "Actions Speak Louder than Words", ICML 2024, section 3, equations 1-3.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BIASES = ("both", "time", "position", "none")

_LAST_BUCKET = 128
_SECONDS_RATIO = 0.301
"""A bucket is ln(seconds) / 0.301, rounded down: each begins at 1.35 times the seconds of the one before."""
_HIDDEN = -1e9
"""SiLU and its gradient are exactly 0 there."""


@dataclass(frozen=True)
class Pairs:
    """How event i stands to event j, which it reads: the same for all layers and heads."""

    hidden: Tensor  # (T, T): added to the scores, 0 or, where j > i, a number that leaves no weight
    offsets: Tensor  # (T, T) int32: j - i, counted from the most negative
    buckets: Tensor  # (B, T, T) int32: of the time from event j to the one after i

    @classmethod
    def of(cls, times: Tensor, next_times: Tensor, positions: int) -> "Pairs":
        """Pairs of events at `times` (B, T), which are followed at `next_times` (B, T), of at most `positions`."""
        steps = torch.arange(times.shape[1], dtype=torch.int32, device=times.device)
        offsets = steps - steps[:, None] + (positions - 1)
        hidden = torch.full(offsets.shape, _HIDDEN, device=times.device).triu(1)
        seconds = (next_times[:, :, None] - times[:, None, :]).float().abs_().clamp_(min=1)
        buckets = seconds.log_().div_(_SECONDS_RATIO).clamp_(max=_LAST_BUCKET).int()
        return cls(hidden, offsets, buckets)


class RelativeBias(nn.Module):
    """What is added to the scores of pairs, one number for each offset and one for each bucket of time.

    Args:
        positions: N, the most events of a sequence.
        kind: one of `BIASES`.
    """

    def __init__(self, positions: int, kind: str) -> None:
        super().__init__()
        by_position, by_time = kind in ("both", "position"), kind in ("both", "time")
        self.position = nn.Parameter(torch.randn(2 * positions - 1) * 0.02) if by_position else None
        self.time = nn.Parameter(torch.randn(_LAST_BUCKET + 1) * 0.02) if by_time else None

    def forward(self, pairs: Pairs) -> Tensor:
        """(B or 1, T, T), hidden pairs included."""
        bias = pairs.hidden[None]
        if self.position is not None:
            bias = bias + _Lookup.apply(self.position, pairs.offsets)
        if self.time is not None:
            bias = bias + _Lookup.apply(self.time, pairs.buckets)
        return bias


class HSTULayer(nn.Module):
    """x + Linear(dropout(u ⊙ LN(A v))) with A = SiLU(q kᵀ + bias) / N, and u, v, q, k = SiLU(LN(x) W) (equations 1-3).

    Padding is on the right and events read only those before them and themselves, so it needs no mask.
    """

    def __init__(
        self, width: int, heads: int, qk_width: int, v_width: int, dropout: float, positions: int, bias: str
    ) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.sizes = [heads * v_width, heads * v_width, heads * qk_width, heads * qk_width]
        self.projection = nn.Parameter(torch.randn(width, sum(self.sizes)) * 0.02)
        self.bias = RelativeBias(positions, bias)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(heads * v_width, width)
        nn.init.xavier_uniform_(self.output.weight)

    def forward(self, x: Tensor, pairs: Pairs) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        parts = F.silu(_normalised(x) @ self.projection).split(self.sizes, dim=-1)
        gate = parts[0]  # (B, T, H·dv)
        value, query, key = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts[1:])  # (B, H, T, ·)
        scores = query @ key.mT  # (B, H, T, T)
        scores += self.bias(pairs)[:, None]
        mixed = (F.silu(scores) @ value / self.positions).transpose(1, 2).flatten(2)  # (B, T, H·dv)
        return x + self.output(self.dropout(gate * _normalised(mixed)))


class _Lookup(torch.autograd.Function):
    """weights[indices]. Autograd's own gradient adds the numbers of a batch to a handful of weights one by one."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, indices: Tensor) -> Tensor:
        ctx.save_for_backward(indices)
        ctx.size = len(weights)
        return weights.index_select(0, indices.flatten()).view(indices.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        return torch.bincount(indices.flatten(), grads[0].flatten(), ctx.size).to(grads[0].dtype), None


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)
