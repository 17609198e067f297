"""Both heads in sequence, on a random model of the made-up shop. Expected orders follow from the two heads' own."""

import numpy as np
import polars as pl
import pytest
import torch
from saved_toys import save_toy_model, toy_dataset

from benchmarks import heads
from benchmarks.evaluator import RankingHead
from benchmarks.heads import InSequence, measured
from synergen.contract import Task
from synergen.data.batches import questions
from synergen.data.splits import Part
from synergen.model_files import load_model, model_folder


@pytest.fixture(scope="module")
def dataset():
    return toy_dataset()


@pytest.fixture
def model(dataset, tmp_path):
    return save_toy_model(tmp_path / "model", dataset)


@pytest.fixture
def requests(dataset):
    found = questions(dataset.log, dataset.split, Part.TEST, Task.RECOMMENDATION, 6, 8)
    return next(found).requests


def order(scores: torch.Tensor) -> np.ndarray:
    return np.argsort(-scores.detach().numpy(), axis=1, kind="stable")


def test_the_best_of_one_head_are_ordered_by_the_other(model, requests):
    candidates = torch.arange(1, 31)
    with torch.inference_mode():
        first, second = model.score(requests, candidates), model.rank_logits(requests, candidates)
        found = InSequence(model, 5, removes_seen=False).score(requests, candidates)
    for by_first, scores, both in zip(order(first), second.numpy(), order(found), strict=True):
        best = by_first[:5]
        assert both[:5].tolist() == best[np.argsort(-scores[best])].tolist()
        assert both[5:].tolist() == by_first[5:].tolist()


def test_all_of_them_ordered_again_is_the_ranking_head(model, requests):
    candidates = torch.arange(1, 31)
    with torch.inference_mode():
        alone = RankingHead(model).score(requests, candidates)
        found = InSequence(model, 99, removes_seen=False).score(requests, candidates)
    assert np.array_equal(order(found), order(alone))


def test_what_was_seen_takes_no_place_among_the_best(model, requests):
    """Of all items, those of the history stay where retrieval has them, behind the five that are ranked again."""
    candidates = torch.arange(1, len(model.item_vectors()))
    with torch.inference_mode():
        first = model.score(requests, candidates).numpy()
        found = order(InSequence(model, 5, removes_seen=True).score(requests, candidates))
    for row, (scores, both) in enumerate(zip(first, found, strict=True)):
        seen = set(requests.history.items[row].tolist())
        unseen = [at for at in np.argsort(-scores, kind="stable") if at + 1 not in seen]
        assert set(both[:5]) == set(unseen[:5])


def test_padding_takes_no_place_among_the_best(model, requests):
    slates = torch.tensor([[3, 0, 7, 9, 0, 4]]).expand(8, -1)
    with torch.inference_mode():
        found = order(InSequence(model, 4, removes_seen=False).score(requests, slates))
    assert all(set(row[:4]) == {0, 2, 3, 5} for row in found)


def test_a_run_is_compared_from_its_model(dataset, tmp_path, monkeypatch, capsys):
    protocol = {"max_history": 6, "candidates": "pool", "negatives": 20}
    folder = model_folder(tmp_path, "0123456789ab")
    save_toy_model(folder, dataset)
    saved = load_model(folder)
    saved.spec.protocol.update(protocol)
    monkeypatch.setattr(heads, "load_model", lambda folder, build: saved)
    monkeypatch.setattr(heads, "load_for", lambda source, protocol: dataset)
    assert heads.main(["--run", "0123456789ab", "--out", str(tmp_path), "--top", "1,21"]) == 0
    assert "ranking, of retrieval's top 21" in capsys.readouterr().out
    found = pl.read_csv(tmp_path / "tables" / "heads.toy.0123456789ab.csv")
    assert (found["milliseconds"] > 0).all()
    ways = found["heads"].fill_null("") + found["k"].cast(pl.String).fill_null("")
    assert ways.unique(maintain_order=True).to_list() == ["retrieval", "both1", "both21", "ranking"]
    for task in ("recommendation", "search"):
        own = {way: found.filter((pl.col("task") == task) & (ways == way)) for way in ways.unique()}
        assert own["both1"]["value"].to_list() == own["retrieval"]["value"].to_list()  # nothing to order again
        assert own["both21"]["value"].to_list() == own["ranking"]["value"].to_list()  # the whole pool
    assert measured(saved.model, saved.spec, dataset, [], "cpu")["heads"].n_unique() == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--top", "0"], "whole numbers"), (["--top", "10,x"], "whole numbers"), ([], "is not here")],
)
def test_bad_arguments(arguments, message, tmp_path, capsys):
    assert heads.main(["--run", "0123456789ab", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_model_without_a_ranking_head_is_refused(dataset, tmp_path, monkeypatch, capsys):
    save_toy_model(model_folder(tmp_path, "0123456789ab"), dataset, ranking_head=False)
    monkeypatch.setattr(heads, "load_for", lambda source, protocol: dataset)
    assert heads.main(["--run", "0123456789ab", "--out", str(tmp_path)]) == 2
    assert "no ranking head" in capsys.readouterr().err
