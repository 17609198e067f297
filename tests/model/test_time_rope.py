import math

import pytest
import torch
from torch.testing import assert_close

from synergen.model.time_rope import Rotation, TimeRope, rotate, rotate_columns, rotation_columns

DAY = 86_400
LATE = 1_700_000_000


def rope(mode: str, pairs: int = 4, granularity: float = DAY) -> TimeRope:
    return TimeRope(pairs, mode, granularity, 2.0, 2000.0)  # type: ignore[arg-type]


def test_periods_are_geometric_between_the_two_named() -> None:
    # Four periods from 2 to 2000 granules grow tenfold each: 2, 20, 200, 2000. A granule turns by 2π / period.
    cos, sin = rope("time")(torch.tensor([[LATE, LATE + DAY]]), torch.tensor([[0, 1]]), torch.tensor([[LATE]]))
    expected = 2 * math.pi / torch.tensor([2.0, 20.0, 200.0, 2000.0])
    assert_close(cos[0, 1], expected.cos())
    assert_close(sin[0, 1], expected.sin())
    assert_close(cos[0, 0], torch.ones(4))


def test_positions_take_the_frequencies_of_roformer() -> None:
    # RoFormer, equation 15: θ_k = 10000^(-2k/d), here d = 8.
    cos, _ = rope("position")(torch.tensor([[LATE]]), torch.tensor([[3]]), torch.tensor([[0]]))
    assert_close(cos[0, 0], (3 * torch.tensor([1.0, 0.1, 0.01, 0.001])).cos())


def test_mixed_gives_half_of_the_pairs_to_either() -> None:
    # Pairs 0, 1 must follow time alone and pairs 2, 3 position alone.
    times, positions, origin = torch.tensor([[LATE, LATE + DAY]]), torch.tensor([[0, 5]]), torch.tensor([[LATE]])
    base = rope("mixed")(times, positions, origin).sin[0, 1]
    later = rope("mixed")(times + DAY, positions, origin).sin[0, 1]
    further = rope("mixed")(times, positions + 1, origin).sin[0, 1]
    assert (base != later).tolist() == [True, True, False, False]
    assert (base != further).tolist() == [False, False, True, True]


def test_unix_seconds_are_told_apart() -> None:
    # float32 holds 1.7e9 on a grid of 128: one second must still turn the fastest pair by half a circle (period 2).
    cos, _ = rope("time", granularity=1.0)(
        torch.tensor([[LATE, LATE + 1]]), torch.tensor([[0, 1]]), torch.tensor([[LATE]])
    )
    assert_close(cos[0, :, 0], torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("mode", ["time", "position", "mixed"])
def test_products_depend_on_differences_only(mode: str) -> None:
    # <R(a) q, R(b) k> = <R(a - b) q, k>, the property that defines a rotary embedding.
    query, key = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(0))
    times, steps = torch.tensor([[LATE + 3 * DAY, LATE + DAY]]), torch.tensor([[7, 3]])

    def product(shift_time: int, shift_step: int) -> torch.Tensor:
        cos, sin = rope(mode)(times + shift_time, steps + shift_step, torch.tensor([[LATE]]))
        return (rotate(query, cos[:, :1], sin[:, :1]) * rotate(key, cos[:, 1:], sin[:, 1:])).sum()

    assert_close(product(40 * DAY + 17, 11), product(0, 0), atol=1e-5, rtol=1e-5)
    assert_close(rotate(query, *(part[:, :1] for part in rope(mode)(times, steps, times[:, :1]))).norm(), query.norm())


def test_columns_rotate_as_rows_do_forward_and_gradient() -> None:
    # Against `rotate`, tokens (B, H, R, N, 2P) there and (H, 2P, R, B, N) here.
    g = torch.Generator().manual_seed(2)
    rows = torch.randn(2, 3, 4, 5, 8, generator=g, dtype=torch.float64).requires_grad_()
    angles = torch.randn(2, 5, 4, generator=g, dtype=torch.float64)
    rotation = Rotation(angles.cos(), angles.sin())
    expected = rotate(rows, *(part[:, None, None] for part in rotation))
    columns = rotate_columns(rows.permute(1, 4, 2, 0, 3), rotation_columns(rotation, torch.float64))
    found = columns.permute(3, 0, 2, 4, 1)
    assert_close(found, expected)
    weights = torch.randn(found.shape, generator=g, dtype=torch.float64)
    assert_close(*(torch.autograd.grad((out * weights).sum(), rows)[0] for out in (found, expected)))
