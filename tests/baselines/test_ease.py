"""EASE. Expected values: the regression that it solves, column by column, and RecBole's own class on the same users."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from recbole.model.general_recommender.ease import EASE as RecBoleEASE
from scipy import sparse

from baselines import ease
from baselines.ease import EASE
from synergen.contract import Batch, DataView, Requests, Task
from synergen.errors import UserError

V = 20


@pytest.fixture(scope="module")
def users() -> sparse.csr_matrix:
    """(50, V + 1): 1 where the user had the item; nobody had padding or item 5."""
    drawn = np.random.default_rng(0).random((50, V + 1)) < 0.3
    drawn[:, [0, 5]] = False
    return sparse.csr_matrix(drawn.astype(np.float32))


def fitted(view: DataView, users: sparse.csr_matrix, **settings: float) -> EASE:
    model = EASE(view, **settings)
    model.fit(users)
    return model


def test_each_column_is_a_ridge_regression_on_the_other_items(
    users: sparse.csr_matrix, make_view: Callable[..., DataView]
) -> None:
    matrix = fitted(make_view(V), users, regularisation=3.0).matrix.numpy()
    dense = users.toarray().astype(np.float64)
    for j in range(V + 1):
        others = np.arange(V + 1) != j
        x = dense[:, others]
        weights = np.linalg.solve(x.T @ x + 3.0 * np.eye(V), x.T @ dense[:, j])
        np.testing.assert_allclose(matrix[others, j], weights, atol=1e-5)
        assert matrix[j, j] == 0


@pytest.mark.parametrize("rows_at_once", [1, 8, 21, 1024])
def test_the_inverse_takes_the_place_of_the_matrix(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", rows_at_once)
    x = np.random.default_rng(0).standard_normal((40, V + 1))
    matrix = np.asfortranarray((x.T @ x).astype(np.float32))
    expected = np.linalg.inv(matrix.astype(np.float64))
    inverse = ease.inverted(matrix)
    assert np.shares_memory(inverse, matrix)
    np.testing.assert_allclose(inverse, expected, rtol=0, atol=1e-5)


def test_a_matrix_without_an_inverse_is_refused() -> None:
    with pytest.raises(UserError, match="greater regularisation"):
        ease.inverted(np.asfortranarray(np.ones((3, 3), np.float32)))


@pytest.mark.parametrize("columns_at_once", [1, 8])
def test_the_matrix_does_not_depend_on_its_blocks(
    columns_at_once: int, users: sparse.csr_matrix, make_view: Callable[..., DataView], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fitted(make_view(V), users).matrix
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", columns_at_once)
    torch.testing.assert_close(fitted(make_view(V), users).matrix, whole, rtol=0, atol=0)


def test_the_matrix_is_recboles(users: sparse.csr_matrix, make_view: Callable[..., DataView]) -> None:
    class Log:
        def num(self, field: str) -> int:
            return users.shape[field == "item_id"]

        def inter_matrix(self, form: str) -> sparse.csr_matrix:
            return users

    class Config(dict):
        device = "cpu"

    keys = {"USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "NEG_PREFIX": "neg_", "device": "cpu"}
    theirs = RecBoleEASE(Config(keys, reg_weight=250.0), Log()).item_similarity
    np.testing.assert_allclose(fitted(make_view(V), users).matrix.numpy(), np.asarray(theirs), atol=1e-6)


def test_scores_are_rows_summed_over_distinct_items(
    users: sparse.csr_matrix, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = fitted(make_view(V), users, regularisation=3.0)
    asked = make_requests([[7, 3, 7], [], [2]], Task.RECOMMENDATION)
    expected = torch.stack([model.matrix[7] + model.matrix[3], torch.zeros(V + 1), model.matrix[2]])
    torch.testing.assert_close(model.score(asked, torch.arange(V + 1)), expected)


def test_observed_users_are_sets_of_items(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    # Repeats and the cut into batches change nothing.
    plain, repeated = EASE(make_view(4)), EASE(make_view(4))
    plain.observe([make_batch([[1, 2], [2, 3]])])
    repeated.observe([make_batch([[1, 2, 1]]), make_batch([[3, 3, 2]])])
    torch.testing.assert_close(plain.matrix, repeated.matrix)


def test_a_catalogue_that_does_not_fit_is_refused(
    make_view: Callable[..., DataView], monkeypatch: pytest.MonkeyPatch
) -> None:
    # 21 by 21 numbers of 4 bytes are 1,764 bytes.
    monkeypatch.setattr(ease, "physical_memory", lambda: 1764)
    EASE(make_view(V))
    monkeypatch.setattr(ease, "physical_memory", lambda: 1763)
    with pytest.raises(UserError, match=r"20 by 20 items.*use ItemKNN"):
        EASE(make_view(V))


def test_impossible_settings_are_refused(make_view: Callable[..., DataView]) -> None:
    with pytest.raises(UserError, match="regularisation is greater than 0"):
        EASE(make_view(), regularisation=0.0)
