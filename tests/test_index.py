import numpy as np
import pytest

from synergen.errors import UserError
from synergen.index import build_index, load_index


@pytest.fixture(scope="module")
def catalogue() -> tuple[np.ndarray, np.ndarray]:
    """2,000 items around 40 centres with unequal norms, row 0 padding, and 100 queries near the centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 32))
    items = centres[rng.integers(40, size=2001)] + rng.normal(size=(2001, 32)) * 0.7
    items *= np.exp(rng.normal(size=(2001, 1)) * 0.2)
    return items, centres[rng.integers(40, size=100)] + rng.normal(size=(100, 32))


def by_sorting(items: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """The reference: every product, sorted."""
    return np.argsort(-(queries @ items[1:].T), axis=1, kind="stable")[:, :k] + 1


def test_the_flat_index_is_exact(catalogue):
    items, queries = catalogue
    scores, found = build_index(items).search(queries, 20)
    assert (found == by_sorting(items, queries, 20)).all()
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ items.T, found, 1), rtol=1e-4)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_approximate_indexes_find_nearly_all(catalogue, kind):
    # 0.95 is far from chance (20 of 2,000) and below what both reach on such catalogues, .99
    items, queries = catalogue
    truth, found = by_sorting(items, queries, 20), build_index(items, kind).search(queries, 20)[1]
    recall = np.mean([len(set(a) & set(b)) / 20 for a, b in zip(truth, found, strict=True)])
    assert recall > 0.95


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_the_whole_catalogue_can_be_asked_for(catalogue, kind):
    items, queries = catalogue
    found = build_index(items, kind).search(queries[:3], 2000)[1]
    assert (np.sort(found) == np.arange(1, 2001)).all()
    assert (found[:, :50] == by_sorting(items, queries[:3], 50)).all()


@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
def test_a_catalogue_may_be_tiny(kind):
    items = np.array([[0.0, 0.0], [1, 0], [0, 2], [1, 1]])
    scores, found = build_index(items, kind).search(np.array([[1.0, 0.1]]), 3)
    assert found.tolist() == [[3, 1, 2]]  # products 1.1, 1.0 and 0.2
    np.testing.assert_allclose(scores, [[1.1, 1.0, 0.2]], rtol=1e-6)


def test_too_few_found_is_made_up_for_exactly(catalogue):
    items, queries = catalogue
    index = build_index(items, "ivf")
    index.faiss_index.nprobe = 1  # one list of about 40 items cannot give 100
    assert (index.search(queries, 100)[1] == by_sorting(items, queries, 100)).all()


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_a_saved_index_answers_alike(catalogue, kind, tmp_path):
    items, queries = catalogue
    index = build_index(items, kind)
    index.save(tmp_path / "index.faiss")
    loaded = load_index(tmp_path / "index.faiss", kind, 2000)
    for k in (10, 2000):
        assert (loaded.search(queries, k)[1] == index.search(queries, k)[1]).all()


def test_other_files_are_refused(catalogue, tmp_path):
    path = tmp_path / "index.faiss"
    build_index(catalogue[0]).save(path)
    with pytest.raises(UserError, match="holds 2000 items and the model 5"):
        load_index(path, "flat", 5)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="delete the file"):
        load_index(path, "flat", 2000)
    with pytest.raises(UserError, match="did you mean 'hnsw'"):
        build_index(catalogue[0], "hnws")
