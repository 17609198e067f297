"""Rotary embedding of real time: attention depends on time differences, whatever the clock's origin.

Paper section 3.4 ("Modeling Time with RoPE"), after RoFormer (arXiv 2104.09864).
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

POSITION_BASE = 10000.0  # RoFormer's


class Rotation(NamedTuple):
    """Cosine and sine of the angles of N tokens, (B, N, P) float32 each, P rotated pairs a head."""

    cos: Tensor
    sin: Tensor


class TimeRope(nn.Module):
    """Angles of tokens from their times and ordinal positions.

    Args:
        pairs: P, half the width of a head; even in `mixed` mode, which gives time the first half.
        mode: what the angles follow.
        granularity: seconds of one granule.
        min_period, max_period: the geometric range of time periods, in granules. Positions take RoFormer's
            frequencies, so that `position` is the usual sequential encoding.
    """

    def __init__(
        self,
        pairs: int,
        mode: Literal["time", "position", "mixed"],
        granularity: float,
        min_period: float,
        max_period: float,
    ) -> None:
        super().__init__()
        self.granularity = granularity
        n_time = {"time": pairs, "position": 0, "mixed": pairs // 2}[mode]
        n_position = pairs - n_time
        periods = torch.logspace(math.log10(min_period), math.log10(max_period), n_time, base=10.0, dtype=torch.float64)
        steps = torch.arange(n_position, dtype=torch.float64) / max(n_position, 1)
        self.register_buffer("time_omega", 2 * math.pi / periods, persistent=False)
        self.register_buffer("position_omega", POSITION_BASE**-steps, persistent=False)

    time_omega: Tensor  # (n_time,) float64, radians a granule
    position_omega: Tensor  # (n_position,) float64, radians an event

    def forward(self, times: Tensor, positions: Tensor, origin: Tensor) -> Rotation:
        """Rotation of tokens at `times` (B, N) int64 seconds and `positions` (B, N) int64.

        Args:
            origin: (B, 1) int64, the first time of each sequence. Subtracted in int64 and scaled in float64:
                float32 holds Unix seconds on a grid of 128 s.
        """
        granules = (times - origin).double() / self.granularity
        angles = torch.cat(
            [granules[..., None] * self.time_omega, positions.double()[..., None] * self.position_omega],
            dim=-1,
        )  # (B, N, P)
        return Rotation(angles.cos().float(), angles.sin().float())


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs (k, k + P) of the last dimension of `x` (..., 2P); cos and sin broadcast against (..., P)."""
    first, second = x.chunk(2, dim=-1)  # (..., P)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotation_columns(rotation: Rotation, dtype: torch.dtype) -> Rotation:
    """The rotation (B, N, P) of tokens that are columns, (P, 1, B, N): see `rotate_columns`."""
    cos, sin = (part.to(dtype).permute(2, 0, 1)[:, None].contiguous() for part in rotation)
    return Rotation(cos, sin)


def rotate_columns(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate pairs (k, k + P) of rows, the second dimension of `x` (H, 2P, R, B, N); tokens are its last three."""
    if not torch.is_grad_enabled():
        return _turn(x, *rotation, 1)
    rotated: Tensor = _RotateColumns.apply(x, *rotation)
    return rotated


class _RotateColumns(torch.autograd.Function):
    """Half the passes that autograd would take; the gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turn(grad, cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    first, second = x.chunk(2, dim=1)
    turned = torch.empty_like(x, memory_format=torch.contiguous_format)
    out_first, out_second = turned.chunk(2, dim=1)
    torch.mul(first, cos, out=out_first).addcmul_(second, sin, value=-direction)
    torch.mul(second, cos, out=out_second).addcmul_(first, sin, value=direction)
    return turned
