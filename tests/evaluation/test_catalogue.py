"""Ranks by tiles against `rank_of_positive` over the matrix of all scores.

Vectors of small whole numbers: their products are exact in any order of summation, and they tie often.
"""

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from synergen.evaluation import catalogue
from synergen.evaluation.catalogue import Pairs, inner_product_ranks
from synergen.evaluation.metrics import rank_of_positive

NOTHING = (torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64))


def whole(*shape: int, seed: int = 0) -> Tensor:
    """Numbers from -2 to 2."""
    return torch.randint(-2, 3, shape, generator=torch.Generator().manual_seed(seed)).float()


def plain(users: Tensor, items: Tensor, bias: Tensor | None, positives: Tensor, excluded: Pairs) -> Tensor:
    """The definition, with every score at once."""
    scores = users @ items[1:].T + (0 if bias is None else bias[1:])  # (B, V)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    mask[excluded[0], excluded[1] - 1] = True
    return rank_of_positive(scores, positives - 1, mask)


@given(
    requests=st.integers(1, 9),
    items=st.integers(1, 70),
    width=st.integers(1, 5),
    tile=st.integers(1, 80),
    excluded=st.integers(0, 200),
    has_bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_ranks_are_those_of_the_definition(
    requests: int, items: int, width: int, tile: int, excluded: int, has_bias: bool, seed: int
) -> None:
    """One item or one request, tiles that do not divide the catalogue, pairs repeated, positives among them."""
    torch.manual_seed(seed)
    question = (
        whole(requests, width, seed=seed),
        whole(items + 1, width, seed=seed + 1),
        whole(items + 1, seed=seed + 2) if has_bias else None,
        torch.randint(1, items + 1, (requests,)),
        (torch.randint(requests, (excluded,)), torch.randint(1, items + 1, (excluded,))),
    )
    with patch.object(catalogue, "TILE", tile):
        found = inner_product_ranks(*question)
    assert found.dtype == torch.float64
    assert found.tolist() == plain(*question).tolist()


def test_ranks_of_several_tiles_of_the_real_size() -> None:
    """10,000 items are two tiles and a part of one."""
    question = (
        whole(40, 6), whole(10_001, 6, seed=1), None, torch.randint(1, 10_001, (40,)),
        (torch.randint(40, (500,)), torch.randint(1, 10_001, (500,))),
    )  # fmt: skip
    assert inner_product_ranks(*question).tolist() == plain(*question).tolist()


def test_items_of_equal_vectors_tie_wherever_they_stand() -> None:
    """Every vector occurs twice, in tiles far apart: an even number of items is better and one ties, so the rank is an
    even number and 1½, whatever the rounding of the products."""
    half = torch.randn(5000, 24)
    items = torch.cat([torch.zeros(1, 24), half, half.flip(0)])
    positives = torch.randint(1, 10_001, (33,))
    ranks = inner_product_ranks(torch.randn(33, 24), items, None, positives, NOTHING)
    assert ((ranks - 1.5) % 2 == 0).all()


def test_scores_of_positives_that_tiles_do_not_repeat_are_taken_from_the_tiles() -> None:
    """The positives' scores, computed too high beforehand, would all be first; the second sweep mends it."""
    question = (whole(7, 4), whole(51, 4, seed=1), whole(51, seed=2), torch.randint(1, 51, (7,)), NOTHING)
    own_scores, sweep = catalogue._own_scores, catalogue._sweep
    with (
        patch.object(catalogue, "TILE", 16),
        patch.object(catalogue, "_own_scores", lambda *given: own_scores(*given) + 100),
        patch.object(catalogue, "_sweep", side_effect=sweep) as sweeps,
    ):
        found = inner_product_ranks(*question)
    assert sweeps.call_count == 2
    assert found.tolist() == plain(*question).tolist()
    assert found.max() > 1


def test_one_sweep_is_enough_where_tiles_repeat_the_scores() -> None:
    """Exact products are the same in every shape."""
    with patch.object(catalogue, "_sweep", side_effect=catalogue._sweep) as sweeps:
        inner_product_ranks(whole(7, 4), whole(51, 4, seed=1), whole(51), torch.randint(1, 51, (7,)), NOTHING)
    assert sweeps.call_count == 1


def test_nan_scores_are_refused_and_padding_has_no_score() -> None:
    """An item that is NaN spoils both requests, a user that is NaN one; row 0 is never read."""
    users, items, positives = whole(2, 3), whole(9, 3, seed=1), torch.tensor([4, 8])
    items[0] = torch.nan
    expected = plain(users, items, None, positives, NOTHING)
    assert inner_product_ranks(users, items, None, positives, NOTHING).tolist() == expected.tolist()
    spoilt = items.clone()
    spoilt[5] = torch.nan
    for excluded in (NOTHING, (torch.tensor([0, 1]), torch.tensor([5, 5]))):
        with patch.object(catalogue, "TILE", 3), pytest.raises(ValueError, match="NaN in 2 of 2 requests"):
            inner_product_ranks(users, spoilt, None, positives, excluded)
    users[1] = torch.nan
    with pytest.raises(ValueError, match="NaN in 1 of 2 requests"):
        inner_product_ranks(users, items, None, positives, NOTHING)


def test_infinite_scores_are_ordered_like_others() -> None:
    """Scores are ∞, 0, -∞, -∞. The 0 of request 0 is second; of request 1, ∞ and 0 are better than its -∞, which ties
    with one; request 2 the same with the tie excluded."""
    bias = torch.tensor([0, torch.inf, 0, -torch.inf, -torch.inf])
    excluded = (torch.tensor([2]), torch.tensor([3]))
    ranks = inner_product_ranks(torch.ones(3, 1), torch.zeros(5, 1), bias, torch.tensor([2, 4, 4]), excluded)
    assert ranks.tolist() == [2, 3.5, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_counts_are_exact_in_every_dtype(dtype: torch.dtype) -> None:
    """Of 3,001 equal scores the middle rank is 1,501; bfloat16 could count to 256 only."""
    users, items = torch.ones(2, 3, dtype=dtype), torch.ones(3002, 3, dtype=dtype)
    assert inner_product_ranks(users, items, None, torch.tensor([1, 3001]), NOTHING).tolist() == [1501, 1501]


class _Largest(TorchDispatchMode):
    """The most elements of any tensor that an operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, list | tuple) else [result]:
            self.elements = max(self.elements, value.numel() if isinstance(value, Tensor) else 0)
        return result


def test_no_more_than_a_tile_of_scores_is_held() -> None:
    """Two tiles (scores and flags) of 16 items for 8 requests, however many items there are: here 1,000."""
    users, items = whole(8, 2), whole(1001, 2)
    with patch.object(catalogue, "TILE", 16), _Largest() as largest:
        inner_product_ranks(users, items, None, torch.randint(1, 1001, (8,)), NOTHING)
    assert largest.elements == 2 * 16 * 8
