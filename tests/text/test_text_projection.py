from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from synergen.errors import UserError
from synergen.text.cache import BLOCK
from synergen.text.projection import Projection, fit


@pytest.fixture(scope="module")
def items() -> np.ndarray:
    """Float16 rows (2 blocks and a bit, 12) with a mean and unequal variances, some without text."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2 * BLOCK + 7, 12)) @ rng.normal(size=(12, 12)) / 10 + 0.3
    rows[::50] = 0
    return rows.astype(np.float16)


def test_it_is_the_singular_vectors_of_the_centred_items(items: np.ndarray) -> None:
    # The plain reference: all rows at once, by SVD.
    texts = items[items.any(axis=1)].astype(np.float64)
    _, singular, right = np.linalg.svd(texts - texts.mean(axis=0), full_matrices=False)
    projection = fit(items, 5)
    np.testing.assert_allclose(projection.mean, texts.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(projection.basis * right[:5].T, axis=0)), 1, rtol=1e-6)
    assert projection.explained == pytest.approx((singular[:5] ** 2).sum() / (singular**2).sum())
    reduced = projection(items).astype(np.float64)
    np.testing.assert_allclose(reduced[items.any(axis=1)].mean(axis=0), 0, atol=1e-4)  # centred
    np.testing.assert_allclose(np.linalg.norm(reduced, axis=0), singular[:5], rtol=1e-3)  # float16 has 11 bits


def test_points_of_a_line_keep_all_of_their_variance_in_one_dimension() -> None:
    # By hand: (1, 1), (3, 3), (8, 8) have the mean (4, 4) and lie at -3√2, -√2 and 4√2 along (1, 1)/√2.
    projection = fit(np.array([[0, 0], [1, 1], [3, 3], [8, 8]], np.float16), 1)
    assert projection.explained == pytest.approx(1)
    expected = np.sqrt(2) * np.array([[0], [-3], [-1], [4]])
    np.testing.assert_allclose(projection(np.array([[0, 0], [1, 1], [3, 3], [8, 8]], np.float16)), expected, rtol=1e-3)


def test_the_same_items_give_the_same_bits_and_the_signs_are_fixed(items: np.ndarray) -> None:
    first, second = fit(items, 5), fit(items.copy(), 5)
    assert first.basis.tobytes() == second.basis.tobytes()
    largest = np.abs(first.basis).argmax(axis=0)
    assert (first.basis[largest, range(5)] > 0).all()


def test_rows_without_text_stay_zero(items: np.ndarray) -> None:
    np.testing.assert_array_equal(fit(items, 5)(np.zeros((2, 12), np.float16)), np.zeros((2, 5)))


def test_it_survives_a_file(items: np.ndarray, tmp_path: Path) -> None:
    projection = fit(items, 5)
    save_file(projection.tensors(), tmp_path / "file")
    loaded = Projection.of(load_file(tmp_path / "file"))
    assert loaded is not None
    np.testing.assert_array_equal(loaded(items), projection(items))
    assert loaded.explained == projection.explained
    assert Projection.of({"items": items}) is None


@pytest.mark.parametrize("dimensions", [12, 13])
def test_more_dimensions_than_there_are_are_refused(items: np.ndarray, dimensions: int) -> None:
    with pytest.raises(UserError, match=f"dimensions is {dimensions}; it must be less than the encoder's 12"):
        fit(items, dimensions)


def test_fewer_items_than_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match="the 2 items with text"):
        fit(np.eye(3, dtype=np.float16)[[0, 1]], 2)
    with pytest.raises(UserError, match="the 0 items with text"):
        fit(np.zeros((4, 3), np.float16), 1)
