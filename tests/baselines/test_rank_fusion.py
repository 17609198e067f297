"""Reciprocal rank fusion. Expected values: 1 / (k + rank) summed by hand, and SciPy's mean ranks."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from baselines.rank_fusion import RRF, mean_ranks
from synergen.contract import DataView, Requests, Task
from synergen.errors import UserError

EVERYTHING = torch.arange(1, 5)
TEXTS = ["", "red shoe", "blue shoe", "red", "hat"]
ITEMS = np.array([[0, 0], [0, 1], [1, 0], [1, 0], [0, 0]], np.float16)


@pytest.fixture
def shop(make_view: Callable[..., DataView]) -> DataView:
    texts = ["", "red shoe", "unicorn", "hat"]
    vectors = np.array([[0, 0], [1, 0], [1, 0], [0, 0]], np.float16)
    return replace(make_view(n_items=4), item_texts=TEXTS, item_vectors=ITEMS, query_texts=texts, query_vectors=vectors)


@pytest.fixture
def template(make_requests: Callable[..., Requests]) -> Requests:
    return make_requests([[1], [2], []], Task.SEARCH)


def ask(template: Requests, query: int) -> Requests:
    return replace(template, queries=torch.full((3,), query))


@pytest.mark.parametrize("k", [60, 0])
def test_scores_are_sums_of_reciprocal_mean_ranks(shop: DataView, template: Requests, k: int) -> None:
    # "red shoe": BM25 puts item 1 first (two words), then 3 ("red" alone, the shortest), 2, and 4 (no word);
    # the cosines are 0, 1, 1, 0.
    scores = RRF(shop, k=k).score(ask(template, 1), EVERYTHING)
    lexical, dense = [1, 3, 2, 4], [3.5, 1.5, 1.5, 3.5]
    expected = [1 / (k + a) + 1 / (k + b) for a, b in zip(lexical, dense, strict=True)]
    torch.testing.assert_close(scores, torch.tensor([expected] * 3))


def test_a_ranking_that_says_nothing_leaves_it_to_the_other(shop: DataView, template: Requests) -> None:
    model = RRF(shop)
    unknown_words = model.score(ask(template, 2), EVERYTHING)[0]
    torch.testing.assert_close(unknown_words, torch.tensor([1 / 62.5 + 1 / (60 + r) for r in (3.5, 1.5, 1.5, 3.5)]))
    no_vector = model.score(ask(template, 3), EVERYTHING)[0]
    torch.testing.assert_close(no_vector, torch.tensor([1 / 62.5 + 1 / (60 + r) for r in (3, 3, 3, 1)]))
    assert model.score(ask(template, 0), EVERYTHING).unique().tolist() == pytest.approx([2 / 62.5])


def test_mean_ranks_are_those_of_scipy() -> None:
    scores = torch.from_numpy(np.random.default_rng(0).integers(0, 8, (3, 21)).astype(np.float32))
    scores[1] = 0.5
    candidates = torch.randint(1, 21, (3, 9), generator=torch.Generator().manual_seed(0))
    expected = torch.from_numpy(rankdata(-scores[:, 1:].numpy(), axis=1)).gather(1, candidates - 1)
    assert torch.equal(mean_ranks(scores, candidates).double(), expected)


def test_rounding_breaks_no_tie() -> None:
    """Sums of like numbers in another order may differ in the last digit; 3 and 3 + 2e-7 are neighbours."""
    scores = torch.tensor([[0.0, 3.0, 3.0000002, 1.0]])
    assert scores[0, 1] != scores[0, 2]
    assert mean_ranks(scores, torch.tensor([[1, 2, 3]])).tolist() == [[1.5, 1.5, 3.0]]


def test_what_is_missing_or_impossible_is_refused(shop: DataView) -> None:
    with pytest.raises(UserError, match="encode the texts"):
        RRF(replace(shop, item_vectors=None))
    with pytest.raises(UserError, match="needs item texts"):
        RRF(replace(shop, item_texts=[""] * 5))
    with pytest.raises(UserError, match="k is -1; it must be 0 or more"):
        RRF(shop, k=-1)
