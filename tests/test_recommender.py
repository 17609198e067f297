"""The trained model as a person uses it. References are the model's own vectors, computed for single requests."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from saved_toys import save_toy_model, toy_dataset, toy_slates, toy_vectors
from scipy.special import expit
from torch.testing import assert_close

import synergen
from synergen import Event
from synergen.contract import Requests, Task
from synergen.errors import UserError
from synergen.evaluation.calibration import Temperature
from synergen.histories import Past, as_tensors
from synergen.model.synergen import SynerGen
from synergen.recommender import Recommender

DAY = 86_400
START = 1_000_000_000
PAST = [(3 * i + 1, START + i * DAY) for i in range(4)]
TEMPERATURE = Temperature(0.5, -1.0)


@pytest.fixture(autouse=True)
def _no_encoder(monkeypatch):
    monkeypatch.setattr("synergen.serving.encode_texts", toy_vectors)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders of models by their settings, written once."""
    folders = {}

    def folder(dataset=toy_dataset, task="joint", **settings):
        key = (dataset.__name__, task, *settings.items())
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp("models") / "model"
            save_toy_model(folders[key], dataset(), task, TEMPERATURE, **settings)
        return folders[key]

    return folder


@pytest.fixture
def recommender(saved) -> Recommender:
    return Recommender.load(saved())


def asked(model: SynerGen, history, query: str = "", at: int | None = None) -> Requests:
    """The request as numbers, for a model whose query table then holds that query alone; item i is number i + 1."""
    past = Past(tuple(item + 1 for item, _ in history), (1,) * len(history), tuple(time for _, time in history))
    if query:
        model.queries.hold(toy_vectors(["", query]), ["", query])
    return Requests(
        Task.SEARCH if query else Task.RECOMMENDATION,
        as_tensors([past], 6),
        torch.tensor([at or history[-1][1] + 1]),
        torch.tensor([int(bool(query))]),
        torch.tensor([1]),
    )


def all_scores(recommender: Recommender, history, query: str = "", at: int | None = None) -> np.ndarray:
    """(V + 1,) by plain inner products."""
    model = recommender.served.model
    with torch.inference_mode():
        scores = model.user_vectors(asked(model, history, query, at)) @ model.item_vectors().T
    return scores[0].numpy()


@pytest.mark.parametrize("query", ["", "red wool", "a zebra that no training query names"])
@pytest.mark.parametrize("settings", [{}, {"text_encoder": "trained"}, {"inputs": "text"}], ids=str)
def test_answers_are_the_best_products_with_the_head_s_probability(saved, query, settings):
    recommender = Recommender.load(saved(**settings))
    ids, model = recommender.served.ids, recommender.served.model
    answer = recommender.search(PAST, query, k=5) if query else recommender.recommend(PAST, k=5)
    scores = all_scores(recommender, PAST, query)
    seen = [ids.index(item) for item, _ in PAST]
    scores[[0, *seen]] = -np.inf
    best = np.argsort(-scores)[:5]
    assert [one.item for one in answer] == [ids[i] for i in best]
    np.testing.assert_allclose([one.score for one in answer], scores[best], rtol=1e-4)
    assert [one.title for one in answer] == [recommender.served.titles[i] for i in best]
    with torch.inference_mode():
        logits = model.rank_logits(asked(model, PAST, query), torch.from_numpy(best))[0].numpy()
    np.testing.assert_allclose([one.probability for one in answer], expit(0.5 * logits - 1), rtol=1e-4)


def test_a_training_query_takes_its_kept_vector(recommender, monkeypatch):
    def no_encoder(*_, **__):
        raise AssertionError("the encoder is not needed")

    monkeypatch.setattr("synergen.serving.encode_texts", no_encoder)
    query = toy_dataset().log.query_texts[1]
    one = recommender.search(PAST, f" {query} ", k=1)[0]
    assert one.score == pytest.approx(all_scores(recommender, PAST, query)[recommender.served.ids.index(one.item)])


def test_rank_orders_by_the_ranking_head(recommender):
    candidates = [12, 0, 7, 99, 4]
    answer = recommender.rank(PAST, candidates, query="silk")
    model, ids = recommender.served.model, recommender.served.ids
    request, numbers = asked(model, PAST, "silk"), torch.tensor([ids.index(item) for item in candidates])
    with torch.inference_mode():
        p = expit(0.5 * model.rank_logits(request, numbers)[0].numpy() - 1)
    order = np.argsort(-p)
    assert [one.item for one in answer] == [candidates[i] for i in order]
    np.testing.assert_allclose([one.probability for one in answer], p[order], rtol=1e-4)
    scores = all_scores(recommender, PAST, "silk")
    np.testing.assert_allclose([one.score for one in answer], scores[numbers[order]], rtol=1e-4)


def test_without_a_ranking_head_scores_order_and_probabilities_are_none(saved):
    recommender = Recommender.load(saved(ranking_head=False))
    answer = recommender.rank(PAST, [12, 0, 7])
    assert [one.score for one in answer] == sorted((one.score for one in answer), reverse=True)
    assert {one.probability for one in answer} == {None}
    assert "probability" not in str(recommender.recommend(PAST, k=2))


def test_a_batch_is_its_histories_one_by_one(recommender):
    histories = [PAST, [], PAST[:1]]
    queries, ats = ["red", "blue", "red"], [START + 9 * DAY, START, START + 2 * DAY]
    for many, ones in (
        (recommender.recommend(histories, k=4), [recommender.recommend(h, k=4) for h in histories]),
        (
            recommender.search(histories, queries, k=4, at=ats),
            [recommender.search(h, q, k=4, at=t) for h, q, t in zip(histories, queries, ats, strict=True)],
        ),
        (
            recommender.rank(histories, [[5], [6, 7], [8, 9]]),
            [recommender.rank(h, c) for h, c in zip(histories, ([5], [6, 7], [8, 9]), strict=True)],
        ),
        (recommender.rank(histories, [5, 6]), [recommender.rank(h, [5, 6]) for h in histories]),
    ):
        for a, b in zip(many, ones, strict=True):
            pd.testing.assert_frame_equal(a.to_frame(), b.to_frame(), rtol=1e-4)


def test_more_histories_than_are_encoded_at_a_time(recommender, monkeypatch):
    monkeypatch.setattr("synergen.recommender._AT_ONCE", 2)
    histories = [PAST[:n] for n in (1, 2, 3, 4, 1)]
    at = [START + (9 + n) * DAY for n in range(5)]
    for a, one, t in zip(recommender.recommend(histories, at=at), histories, at, strict=True):
        pd.testing.assert_frame_equal(a.to_frame(), recommender.recommend(one, at=t).to_frame(), rtol=1e-4)


@pytest.mark.parametrize(
    "history",
    [
        [Event(*event) for event in PAST],
        [{"item": item, "time": time} for item, time in PAST],
        [{"item": str(item), "ts": float(time), "action": "event", "query": None} for item, time in PAST],
        [(item, datetime.fromtimestamp(time, UTC), "event", "red") for item, time in PAST],
        [(item, datetime.fromtimestamp(time, UTC).replace(tzinfo=None)) for item, time in PAST],
        pd.DataFrame(PAST, columns=["item", "ts"]),
        pd.DataFrame(PAST, columns=["item", "ts"]).assign(
            ts=lambda table: pd.to_datetime(table["ts"], unit="s"), action=[None, "event", "event", None]
        ),
    ],
    ids=["Event", "dict", "strings", "datetime", "naive", "table", "table of datetimes"],
)
def test_histories_can_be_written_in_many_ways(recommender, history):
    assert recommender.recommend(history, k=3) == recommender.recommend(PAST, k=3)


def test_appending_is_encoding_anew(recommender):
    # Ten events, of which one item is unknown, to a window of six: appended, then sliding.
    events = [*PAST, (70, START + 4 * DAY), ("?", START + 5 * DAY)]
    events += [(5 * i, START + (6 + i) * DAY) for i in range(1, 5)]
    session = recommender.open()
    for count, event in enumerate(events, start=1):
        session.append(event)
        whole = recommender.open(events[:count])
        assert session.past == whole.past
        for mine, other in zip(session.encoded.state.keys, whole.encoded.state.keys, strict=True):
            assert_close(mine, other)
        for ask in (
            lambda s: s.recommend(k=5),
            lambda s: s.search("red", k=5),
            lambda s: s.rank([5, 6, 7], "red", at=START + 50 * DAY),
        ):
            pd.testing.assert_frame_equal(ask(session).to_frame(), ask(whole).to_frame(), rtol=1e-4)
    assert session.recommend() == recommender.recommend(events)
    assert session.recommend().skipped == 1


def test_a_refused_event_leaves_the_session_as_it_was(recommender):
    session = recommender.open(PAST)
    before = session.recommend()
    with pytest.raises(UserError, match="event 4 of the history"):
        session.append((1, START))
    assert session.recommend() == before


def test_at_is_a_second_after_the_last_event_unless_given(saved):
    recommender = Recommender.load(saved(recommendation_readout="retrieval"))
    default, later = recommender.recommend(PAST), recommender.recommend(PAST, at=PAST[-1][1] + 300 * DAY)
    assert default == recommender.recommend(PAST, at=PAST[-1][1] + 1)
    assert default.to_frame()["score"].tolist() != later.to_frame()["score"].tolist()


def test_seen_items_are_removed_as_the_protocol_does_it(recommender, saved):
    seen = {item for item, _ in PAST}
    everything = len(recommender.served.ids) - 1
    items = {one.item for one in recommender.recommend(PAST, k=everything)}
    assert items == set(recommender.served.ids[1:]) - seen
    assert {one.item for one in recommender.recommend(PAST, k=everything, exclude_seen=False)} > seen
    slates = Recommender.load(saved(toy_slates))
    assert {one.item for one in slates.recommend(PAST, k=1000)} > seen
    assert not {one.item for one in slates.recommend(PAST, k=1000, exclude_seen=True)} & seen


def test_k_beyond_the_catalogue_gives_all_of_it(recommender):
    assert len(recommender.recommend([], k=10_000)) == len(recommender.served.ids) - 1


def test_the_action_asked_for_changes_the_probability(saved):
    recommender = Recommender.load(saved(toy_slates))
    click, purchase = (recommender.rank(PAST, [1, 2], action=action) for action in ("click", "purchase"))
    assert click == recommender.rank(PAST, [1, 2])  # the most frequent action
    assert {one.probability for one in click}.isdisjoint(one.probability for one in purchase)
    bought = [(*event, "purchase") for event in PAST]
    assert recommender.recommend(bought).items != recommender.recommend(PAST).items


def test_an_empty_history_gives_the_prior_at_any_time(recommender):
    assert recommender.recommend([]) == recommender.recommend([], at=START)
    assert recommender.recommend([("?", START)]).items == recommender.recommend([]).items


def test_items_without_training_events_are_served_by_their_text(saved):
    recommender = Recommender.load(saved())
    counts = recommender.served.saved.view.item_counts
    assert (counts[1:] == 0).any()  # held-out items of the shop
    items = recommender.served.model.items
    cold = torch.from_numpy(np.flatnonzero(counts == 0))
    assert_close(items(cold), items.text(cold))
    trained = torch.from_numpy(np.flatnonzero(counts))
    assert (items(trained) != items.text(trained)).any(dim=1).all()


@pytest.mark.parametrize("settings", [{}, {"inputs": "text", "text_encoder": "trained"}], ids=str)
def test_new_items_are_served_by_their_text(saved, settings):
    recommender = Recommender.load(saved(**settings))
    before = recommender.recommend(PAST, k=1000)
    frame = pd.DataFrame({"item": [900, 901], "title": ["red small thing", "blue"], "categories": [[["a", "b"]], None]})
    recommender.add_items(frame)
    after = {one.item: one.score for one in recommender.recommend(PAST, k=1000)}
    assert {one.item: after[one.item] for one in before} == pytest.approx({one.item: one.score for one in before})
    # by hand: the text's standardised vector, projected, times the user's
    model, texts = recommender.served.model, ["red small thing. a b", "blue"]
    with torch.inference_mode():
        user = model.user_vectors(asked(model, PAST))
        table = model.items.text
        vectors = table.project(table.standardise(toy_vectors(texts)).float())
        if table.words is not None:
            vectors = vectors + table.words.words(table.words.words.table(texts))
    expected = (vectors @ user[0]).tolist()
    assert [after[900], after[901]] == pytest.approx(expected, rel=1e-3)
    ranked = recommender.rank([*PAST, (900, START + 9 * DAY)], [901, 5])  # as history and as candidate
    assert {one.item for one in ranked} == {901, 5}
    assert ranked.skipped == 0


def test_indexes_are_kept_with_the_model_files(saved, tmp_path):
    dataset = toy_dataset()
    save_toy_model(tmp_path / "model", dataset)
    exact = Recommender.load(tmp_path / "model").recommend(PAST, k=100)  # a large share: searched exactly
    for kind in ("ivf", "hnsw"):
        for _ in ("built", "loaded"):
            recommender = Recommender.load(tmp_path / "model", index=kind)
            assert (tmp_path / "model" / f"{kind}.faiss").is_file()
            pd.testing.assert_frame_equal(recommender.recommend(PAST, k=100).to_frame(), exact.to_frame(), rtol=1e-4)
        stamp = (tmp_path / "model" / f"{kind}.faiss").stat().st_mtime_ns
        recommender.add_items(pd.DataFrame({"item": ["new"], "title": ["red"]}))
        assert "new" in {one.item for one in recommender.recommend(PAST, k=1000)}
        assert (tmp_path / "model" / f"{kind}.faiss").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.search(PAST, " "), "query is empty"),
        (lambda r: r.search([PAST, PAST], ["red", ""]), "query is empty"),
        (lambda r: r.search([PAST, PAST], ["red"]), "query: 1 values for 2 histories"),
        (lambda r: r.recommend(PAST[::-1]), f"event 1 of the history is at {START + 2 * DAY}, before"),
        (lambda r: r.recommend(PAST, at=PAST[-1][1] - 1), "before the last event of the history"),
        (lambda r: r.recommend([*PAST, ("?", START + 9 * DAY)], at=START + 5 * DAY), "before the last event"),
        (lambda r: r.recommend(PAST, k=0), "k is 0"),
        (lambda r: r.recommend(PAST, k=2.5), r"k is 2\.5"),
        (lambda r: r.recommend(PAST, at="yesterday"), "at: time 'yesterday'"),
        (lambda r: r.recommend([(1, 0.5)]), r"event 0: time 0\.5"),
        (lambda r: r.recommend([(1,)]), "it needs item and time"),
        (lambda r: r.recommend([(1, 2, "event", None, 5)]), "it needs item and time"),
        (lambda r: r.recommend([{"item": 1, "when": 2}]), "it needs item and time"),
        (lambda r: r.recommend([7]), "write Event"),
        (lambda r: r.recommend(pd.DataFrame({"item": [1]})), "no column 'ts'"),
        (lambda r: r.recommend(pd.DataFrame({"item": [1], "ts": [-1]})), "row 0.*negative"),
        (lambda r: r.recommend([(1, 2, "evnt")]), "did you mean 'event'"),
        (lambda r: r.recommend(PAST, action="buy"), "unknown action 'buy'"),
        (lambda r: r.rank(PAST, []), "no candidates"),
        (lambda r: r.rank(PAST, [5, 6, 5]), "candidate 5 is named twice"),
        (lambda r: r.rank(PAST, [5, "x", "y"]), "2 of 3 candidates are not in the catalogue: x, y"),
        (lambda r: r.add_items(pd.DataFrame({"item": [5], "title": ["x"]})), "row 0: its item is in the catalogue"),
        (lambda r: r.add_items(pd.DataFrame({"item": [9e9, 9e9], "title": "x"})), "row 1: its item is named twice"),
        (lambda r: r.add_items(pd.DataFrame({"item": [905], "title": [None]})), "row 0: its item has no text"),
        (lambda r: r.add_items(pd.DataFrame({"title": ["x"]})), "no column 'item'"),
        (lambda r: r.build_index("tree"), "unknown index 'tree'"),
    ],
)  # fmt: skip
def test_mistakes_are_named(recommender, ask, message):
    with pytest.raises(UserError, match=message):
        ask(recommender)


def test_new_items_need_a_model_that_reads_text(saved):
    with pytest.raises(UserError, match="inputs: id"):
        Recommender.load(saved(inputs="id")).add_items(pd.DataFrame({"item": ["new"], "title": ["red"]}))


def test_new_texts_whose_vectors_are_not_finite_are_refused(recommender, monkeypatch):
    monkeypatch.setattr("synergen.serving.encode_texts", lambda texts, *_, **__: toy_vectors(texts) * np.nan)
    with pytest.raises(UserError, match="row 0 holds NaN"):
        recommender.search(PAST, "zebra")


def test_a_task_that_was_not_trained_is_refused(saved):
    with pytest.raises(UserError, match="trained for recommendation, not for search"):
        Recommender.load(saved(task="recommendation")).search(PAST, "red")
    with pytest.raises(UserError, match="trained for search, not for recommendation"):
        Recommender.load(saved(task="search")).open(PAST).recommend()


def test_nobody_asks_for_an_outcome(saved):
    def rated():
        dataset = toy_dataset()
        return type(dataset)(
            type(dataset.log)(**{**vars(dataset.log), "action_is_outcome": True}), dataset.split, dataset.query_rule
        )

    recommender = Recommender.load(saved(rated))
    assert len(recommender.recommend(PAST)) == 10
    with pytest.raises(UserError, match="outcomes"):
        recommender.recommend(PAST, action="event")


def test_a_run_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"models/0123456789ab: there is no trained model"):
        Recommender.load("0123456789ab", out=tmp_path)


def test_an_answer_prints_as_lines_and_as_a_table(recommender):
    answer = recommender.recommend([*PAST, ("?", START + 9 * DAY)], k=2)
    first, _, last = str(answer).splitlines()
    assert first.startswith(f"  1  {answer[0].title}  ({answer[0].item}, score {answer[0].score:.3f}, probability 0.")
    assert last.strip() == "1 events of unknown items were not read"
    assert list(answer.to_frame().columns) == ["item", "title", "score", "probability"]
    assert answer.to_frame()["item"].tolist() == [one.item for one in answer]


def test_the_package_offers_it_and_stays_cheap_to_import():
    import subprocess
    import sys

    assert synergen.Recommender is Recommender
    code = "import synergen, sys; print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "False\n"
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        synergen.Recomender  # noqa: B018
