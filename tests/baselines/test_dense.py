"""Dense search. Expected values: cosines of plane vectors, worked by hand."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.dense import Dense
from synergen.contract import DataView, Requests, Task
from synergen.errors import UserError

EVERYTHING = torch.arange(1, 5)
ITEMS = np.array([[0, 0], [3, 4], [0, 2], [0, 0], [-1, 0]], np.float16)  # padding, three with text, item 3 without
QUERIES = np.array([[0, 0], [10, 0], [4, 3], [0, 0]], np.float16)


@pytest.fixture
def shop(make_view: Callable[..., DataView]) -> DataView:
    return replace(make_view(n_items=4), item_vectors=ITEMS, query_vectors=QUERIES)


@pytest.fixture
def template(make_requests: Callable[..., Requests]) -> Requests:
    return make_requests([[1], [2], []], Task.SEARCH)


def test_scores_are_cosines(shop: DataView, template: Requests) -> None:
    scores = Dense(shop).score(replace(template, queries=torch.tensor([1, 2, 2])), EVERYTHING)
    expected = torch.tensor([[0.6, 0, 0, -1], [0.96, 0.6, 0, -0.8], [0.96, 0.6, 0, -0.8]])
    torch.testing.assert_close(scores, expected)


def test_a_query_without_text_or_none_scores_zero(shop: DataView, template: Requests) -> None:
    scores = Dense(shop).score(replace(template, queries=torch.tensor([0, 3, 3])), EVERYTHING)
    assert scores.abs().max() == 0


def test_missing_vectors_are_refused(shop: DataView) -> None:
    for missing in ("item_vectors", "query_vectors"):
        with pytest.raises(UserError, match="encode the texts, or take BM25"):
            Dense(replace(shop, **{missing: None}))
    with pytest.raises(UserError, match="encode the texts"):
        Dense(shop).hold_queries(["", "red"], None)
