"""Attention weights are those that the decoder itself uses."""

import numpy as np
import pytest
from saved_toys import save_toy_model, toy_dataset, toy_vectors

from synergen.errors import UserError
from synergen.explain import Attention, attention, plot
from synergen.recommender import Recommender, Session
from synergen.serving import Asked

START = 1_000_000_000
PAST = [(3 * i + 1, START + i * 86_400) for i in range(5)]


@pytest.fixture(scope="module")
def recommender(tmp_path_factory) -> Recommender:
    folder = tmp_path_factory.mktemp("models") / "model"
    save_toy_model(folder, toy_dataset())
    return Recommender.load(folder)


@pytest.fixture
def session(recommender, monkeypatch) -> Session:
    monkeypatch.setattr("synergen.serving.encode_texts", toy_vectors)
    return recommender.open(PAST)


@pytest.mark.parametrize("item", [None, 8])
@pytest.mark.parametrize("query", [None, "red wool"])
def test_weights_sum_to_one_in_every_layer(recommender, session, item, query):
    requests = recommender.served.requests([session.past], Asked([None], None if query is None else [query]))
    found = attention(recommender.served.model, session.encoded, requests, item)
    assert found.events.shape == (2, 5)
    np.testing.assert_allclose(found.events.sum(1) + found.retrieval + found.itself, 1, rtol=1e-5)
    assert (found.retrieval > 0).all() == (item is not None)


def test_a_history_without_events_attends_to_the_request(recommender):
    session = recommender.open()
    requests = recommender.served.requests([session.past], Asked([None]))
    found = attention(recommender.served.model, session.encoded, requests)
    assert found.events.shape == (2, 0)
    np.testing.assert_allclose(found.itself, 1)


@pytest.mark.parametrize(("ending", "count"), [("png", 0), ("svg", 3), ("png", 60)])
def test_a_picture_is_written(tmp_path, ending, count):
    weights = np.full((2, count + 2), 1 / (count + 2))
    path = tmp_path / f"picture.{ending}"
    plot(
        path,
        Attention(weights[:, :-2], weights[:, -2], weights[:, -1]),
        [f"$ {i}_$ \\frac" for i in range(count)],
        "$x^$",
    )
    start = path.read_bytes()[:8]
    assert start == b"\x89PNG\r\n\x1a\n" if ending == "png" else start.startswith(b"<?xml")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_item_cannot_be_explained_without_a_ranking_head(tmp_path):
    save_toy_model(tmp_path / "model", toy_dataset(), ranking_head=False)
    served = (recommender := Recommender.load(tmp_path / "model")).served
    session = recommender.open(PAST)
    with pytest.raises(UserError, match="no ranking head"):
        attention(served.model, session.encoded, served.requests([session.past], Asked([None])), 8)


def test_a_picture_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    one = Attention(np.zeros((1, 0)), np.zeros(1), np.ones(1))
    with pytest.raises(UserError, match="cannot write"):
        plot(tmp_path / "file" / "picture.png", one, [], "toy")
