"""ItemKNN. Expected values: the definition worked out by hand, and RecBole's own similarity on the same users."""

from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest
import torch
from recbole.model.general_recommender.itemknn import ComputeSimilarity
from scipy import sparse

from baselines import item_knn
from baselines.item_knn import ItemKNN
from synergen.contract import Batch, DataView, Requests, Task
from synergen.errors import UserError

USERS = [[1, 2], [2, 1, 1], [2, 3]]
"""Item 1 has two users, item 2 three, item 3 one; users share 1 and 2 twice, 2 and 3 once."""


def fitted(view: DataView, batches: list[Batch], **settings: float) -> ItemKNN:
    model = ItemKNN(view, **settings)
    model.observe(batches)
    return model


def random_users(n_items: int) -> sparse.csr_matrix:
    drawn = np.random.default_rng(0).random((60, n_items + 1)) < np.linspace(0.05, 0.5, n_items + 1)
    drawn[:, [0, 5]] = False  # padding, and an item without events
    return sparse.csr_matrix(drawn.astype(np.float32))


def test_scores_are_cosines_summed_over_distinct_items(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    # cos(1, 2) = 2 / √6, cos(2, 3) = 1 / √3, cos(1, 3) = 0; an item that is repeated speaks once.
    model = fitted(make_view(4), [make_batch(USERS[:2]), make_batch(USERS[2:])])
    asked = make_requests([[1], [2, 2], [1, 3], [4]], Task.RECOMMENDATION)
    near, far = 2 / sqrt(6), 1 / sqrt(3)
    expected = torch.tensor([[0, near, 0, 0], [near, 0, far, 0], [0, near + far, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(model.score(asked, torch.arange(1, 5)), expected, atol=1e-5, rtol=0)


def test_shrinkage_is_added_to_the_denominator(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = fitted(make_view(4), [make_batch(USERS)], shrinkage=10.0)
    assert model.matrix[1, 2] == pytest.approx(2 / (sqrt(6) + 10), abs=1e-6)


def test_each_candidate_keeps_its_nearest_neighbours(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    # Of 2's neighbours, 1 (2 / √6) is nearer than 3 (1 / √3); 1 and 3 have no other than 2.
    model = fitted(make_view(4), [make_batch(USERS)], neighbours=1)
    assert sorted(zip(*(part.tolist() for part in model.matrix.nonzero()), strict=True)) == [(1, 2), (2, 1), (2, 3)]


@pytest.mark.parametrize("shrinkage", [0.0, 7.0])
@pytest.mark.parametrize("at_once", [1 << 24, 100])
def test_the_matrix_is_recboles(
    shrinkage: float, at_once: int, make_view: Callable[..., DataView], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is made a few candidates at a time. Equal cosines may leave either neighbour out, so with few
    neighbours the values kept of each candidate are compared."""
    monkeypatch.setattr(item_knn, "_PAIRS_AT_ONCE", at_once)
    users = random_users(40)
    for neighbours in (41, 8):
        model = ItemKNN(make_view(40), neighbours=neighbours, shrinkage=shrinkage)
        model.fit(users)
        _, theirs = ComputeSimilarity(users, topk=neighbours, shrink=shrinkage).compute_similarity()
        ours, theirs = model.matrix.toarray(), theirs.toarray()
        if neighbours == 8:
            assert ((ours > 0).sum(0) <= 8).all()
            ours, theirs = np.sort(ours, axis=0), np.sort(theirs, axis=0)
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_impossible_settings_are_refused(make_view: Callable[..., DataView]) -> None:
    for settings, said in (({"neighbours": 0}, "it must be 1 or more"), ({"shrinkage": -1.0}, "it must be 0 or more")):
        with pytest.raises(UserError, match=said):
            ItemKNN(make_view(), **settings)
