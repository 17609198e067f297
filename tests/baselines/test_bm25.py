"""BM25. Expected values: the formula of the module's docstring, worked by hand on four items."""

from collections.abc import Callable
from dataclasses import replace
from math import log

import pytest
import torch

from baselines.bm25 import BM25
from synergen.contract import DataView, Requests, Task
from synergen.errors import UserError

# 3 words (red, red, shoe), 2, 1 (hat; "the" is a stop word, "a" too short), 0: 6 / 4 = 1.5 on average.
TEXTS = ["", "Red red SHOE", "blue shoe", "the a hat", ""]
QUERIES = ["", "red shoe", "shoe shoe", "unicorn", "the", "SHOE"]
EVERYTHING = torch.arange(1, 5)


def weight(count: int, length: int, holders: int, k1: float = 1.5, b: float = 0.75) -> float:
    idf = log(1 + (4 - holders + 0.5) / (holders + 0.5))
    return idf * count / (count + k1 * (1 - b + b * length / 1.5))


RED_1, SHOE_1, SHOE_2 = weight(2, 3, 1), weight(1, 3, 2), weight(1, 2, 2)


@pytest.fixture
def shop(make_view: Callable[..., DataView]) -> DataView:
    return replace(make_view(n_items=4), item_texts=TEXTS, query_texts=QUERIES)


def ask(template: Requests, queries: list[int]) -> Requests:
    return replace(template, queries=torch.tensor(queries))


@pytest.fixture
def template(make_requests: Callable[..., Requests]) -> Requests:
    return make_requests([[1], [2], []], Task.SEARCH)


def test_scores_are_the_formula(shop: DataView, template: Requests) -> None:
    scores = BM25(shop).score(ask(template, [1, 2, 5]), EVERYTHING)
    expected = torch.tensor([[RED_1 + SHOE_1, SHOE_2, 0, 0], [2 * SHOE_1, 2 * SHOE_2, 0, 0], [SHOE_1, SHOE_2, 0, 0]])
    torch.testing.assert_close(scores, expected, rtol=1e-6, atol=0)


def test_parameters_of_the_formula(shop: DataView, template: Requests) -> None:
    scores = BM25(shop, k1=0.9, b=0.4).score(ask(template, [1, 1, 1]), EVERYTHING)
    expected = weight(2, 3, 1, 0.9, 0.4) + weight(1, 3, 2, 0.9, 0.4)
    assert scores[:, 0].tolist() == pytest.approx([expected] * 3, rel=1e-6)


def test_no_query_unknown_words_and_stop_words_score_zero(shop: DataView, template: Requests) -> None:
    assert BM25(shop).score(ask(template, [0, 3, 4]), EVERYTHING).tolist() == [[0.0] * 4] * 3


def test_candidates_of_each_request(shop: DataView, template: Requests) -> None:
    scores = BM25(shop).score(ask(template, [5, 1, 5]), torch.tensor([[2, 1], [2, 3], [4, 2]]))
    torch.testing.assert_close(scores, torch.tensor([[SHOE_2, SHOE_1], [SHOE_2, 0], [0, SHOE_2]]))


def test_cache_is_bounded_and_changes_no_score(shop: DataView, template: Requests) -> None:
    model, first = BM25(shop, cached_queries=1), ask(template, [1, 2, 5])
    scores = model.score(first, EVERYTHING)
    assert len(model.cache) == 1
    assert torch.equal(model.score(first, EVERYTHING), scores)
    assert torch.equal(BM25(shop, cached_queries=0).score(first, EVERYTHING), scores)


def test_cache_keeps_the_latest_queries(shop: DataView, template: Requests) -> None:
    model = BM25(shop, cached_queries=2)
    for query in (1, 2, 1, 5):
        model.score(ask(template, [query] * 3), EVERYTHING)
    assert list(model.cache) == [1, 5]


def test_queries_held_later_are_scored_anew(shop: DataView, template: Requests) -> None:
    model = BM25(shop)
    assert model.score(ask(template, [1, 1, 3]), EVERYTHING)[0, 0] == pytest.approx(RED_1 + SHOE_1)
    model.hold_queries(["", "shoe", "red", "red shoe"], None)
    scores = model.score(ask(template, [1, 2, 3]), EVERYTHING)
    torch.testing.assert_close(scores[:, 0], torch.tensor([SHOE_1, RED_1, RED_1 + SHOE_1]))


def test_catalogue_without_text_is_refused(shop: DataView) -> None:
    with pytest.raises(UserError, match="needs item texts"):
        BM25(replace(shop, item_texts=["", "the", "", "a", ""]))
