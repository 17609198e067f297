"""A model whose text vectors are reduced answers new texts through the same reduction."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from saved_toys import SMALL, toy_dataset, toy_vectors

from synergen.model.synergen import SynerGen
from synergen.model_files import load_model, save_model
from synergen.recommender import Recommender
from synergen.runs import RunSpec
from synergen.text import Projection
from synergen.text.projection import fit

ENCODER = 'minilm {"query_instruction": "find ", "dimensions": 5}'
PAST = [(1, 1_000_000_000), (4, 1_000_086_400)]


@pytest.fixture(scope="module")
def projection() -> Projection:
    return fit(toy_vectors(toy_dataset().item_texts()), 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, projection: Projection) -> Path:
    dataset, folder = toy_dataset(), tmp_path_factory.mktemp("model")
    vectors = projection(toy_vectors(dataset.item_texts())), projection(toy_vectors(dataset.log.query_texts))
    protocol = {"encoder": ENCODER, "search_share": 0.5, "filter": "none", "min_count": 5, "split": "leave-one-out"}
    spec = RunSpec("SynerGen", dataset.log.name, "joint", 0, dict(SMALL), {}, protocol)
    torch.manual_seed(0)
    model = SynerGen(dataset.view(*vectors), **SMALL).eval()
    save_model(folder, model, spec, dataset, vectors, projection=projection)
    return folder


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], str, str]]:
    """What the encoder was asked for: texts, encoder, kind."""
    calls = []

    def encode(texts: list[str], encoder: str, kind: str, **_: object) -> np.ndarray:
        calls.append((texts, encoder, kind))
        return toy_vectors(texts)

    monkeypatch.setattr("synergen.serving.encode_texts", encode)
    return calls


def test_the_projection_is_kept_with_the_model(folder: Path, projection: Projection) -> None:
    loaded = load_model(folder).projection
    assert loaded is not None
    np.testing.assert_array_equal(loaded.basis, projection.basis)
    assert loaded.explained == projection.explained


def test_a_new_query_is_reduced_as_the_training_queries_were(
    folder: Path, projection: Projection, asked: list[tuple[list[str], str, str]]
) -> None:
    recommender = Recommender.load(folder)
    recommender.search(PAST, "zebra", k=1)
    assert asked == [(["zebra"], ENCODER, "query")]
    queries = recommender.served.model.queries
    assert queries is not None
    expected = queries.standardise(np.concatenate([np.zeros((1, 5), np.float16), projection(toy_vectors(["zebra"]))]))
    assert torch.equal(queries.vectors, expected)


def test_a_new_item_is_reduced_as_the_catalogue_was(
    folder: Path, projection: Projection, asked: list[tuple[list[str], str, str]]
) -> None:
    recommender = Recommender.load(folder)
    recommender.add_items(pd.DataFrame({"item": [9001], "title": ["zebra"]}))
    assert asked == [(["zebra"], ENCODER, "item")]
    text = recommender.served.model.items.text
    assert text is not None
    assert torch.equal(text.vectors[-1:], text.standardise(projection(toy_vectors(["zebra"]))))
