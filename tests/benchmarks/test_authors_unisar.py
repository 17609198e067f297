"""UniSAR by its authors' modules, without these: what they are given, and the training around them. Expected values: by
hand, and a training compared with itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import toy_shop

from benchmarks import authors_unisar
from benchmarks.authors_unisar import OF_A_KIND, Ranking, Sessions, examples, finished, train
from benchmarks.inputs import load_for
from benchmarks.spec import load_spec
from synergen.contract import Histories
from synergen.data.dataset import Dataset, protocol_for
from synergen.data.sources import find_source
from synergen.errors import UserError


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = toy_shop(tmp_path_factory.mktemp("data") / "shop", users=150, items=150)
    return load_for(str(folder), protocol_for(find_source(str(folder)), load_spec(3).protocol))


def history(items: list[int], queries: list[int]) -> Histories:
    columns = (torch.tensor([values]) for values in (items, items, items, queries, items))
    return Histories(*columns, lengths=torch.tensor([len(items)]))


def test_a_history_is_its_last_events_of_either_kind_with_padding_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # Three items, two queries; sessions are the pairs (1, 2), (1, 3), (2, 1), and of either kind two events are read.
    monkeypatch.setattr(authors_unisar, "OF_A_KIND", 2)
    keys = torch.tensor([1 * 4 + 2, 1 * 4 + 3, 2 * 4 + 1]).numpy()
    sessions = Sessions(3, keys, torch.tensor([[0, 0], [5, 0], [6, 7]]))
    events, kinds = sessions.histories(history([3, 2, 1, 1, 2], [0, 1, 2, 0, 0]))
    assert events.tolist() == [[1, 3, 1, 2]]  # the oldest recommendation, of item 3, is left out
    assert kinds.tolist() == [[2, 2, 1, 1]]
    events, kinds = sessions.histories(history([3], [0]))
    assert events.tolist() == [[4, 3, 0, 0]]  # nothing in the place of a search, session 4
    assert kinds.tolist() == [[2, 1, 1, 2]]
    events, kinds = sessions.histories(history([2], [1]))
    assert events.tolist() == [[4, 1, 0, 0]]  # nothing in the place of a recommendation, item 4
    assert kinds.tolist() == [[1, 2, 1, 2]]
    told = sessions.vocabulary()
    assert told["keyword"].tolist() == [[0, 0], [5, 0], [5, 0], [6, 7], [0, 0]]
    assert told["pos_items"].tolist() == [[0], [2], [3], [1], [0]]


@pytest.mark.parametrize("recommend_searched", [False, True])
def test_every_training_event_but_the_first_of_a_user_is_an_example(shop: Dataset, recommend_searched: bool) -> None:
    recommended, searched = examples(shop, Sessions.of(shop), recommend_searched)
    log = shop.log
    learnt = [range(a + 1, b) for a, b in zip(log.offsets[:-1], shop.split.train_ends(), strict=True)]
    events = [
        event for user in learnt for event in user if log.groups[event] > log.groups[log.offsets[log.users[event]]]
    ]
    searches = sum(bool(log.searched[event]) for event in events)
    assert len(searched.users) == searches
    assert len(recommended.users) == len(events) - (0 if recommend_searched else searches)
    touched = {(int(u), int(i)) for u, i in zip(log.users, log.items, strict=True)}
    for part in (recommended, searched):
        for user, (chosen, *others) in zip(part.users.tolist(), part.items.tolist(), strict=True):
            assert (user, chosen) in touched
            assert not any((user, item) in touched for item in others)
        assert torch.equal(part.queries > 0, torch.full_like(part.queries, part is searched, dtype=torch.bool))
        for kind in (1, 2):  # without an event of either kind the authors' modules give NaN
            assert ((part.kinds == kind).sum(1) == OF_A_KIND).all()
            assert ((part.kinds == kind) & (part.events > 0)).any(1).all()


class Pretended(nn.Module):
    """Has the methods of the authors' model: a score is that of the item and of its last event."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.table = nn.Embedding(n_items + 2, 4)
        self.session_embedding = SimpleNamespace(item_feat=SimpleNamespace(item_id_emb=self.table))

    def customize_parameters(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]

    def rec_predict(self, feed: dict[str, Tensor]) -> Tensor:
        items = torch.cat([feed["item"][:, None], feed["neg_items"]], dim=1)
        return self.table(items).sum(-1).flatten()

    def rec_loss(self, feed: dict[str, Tensor]) -> dict[str, Tensor]:
        scores = self.rec_predict(feed).reshape(len(feed["item"]), -1)
        wanted = torch.zeros_like(scores)
        wanted[:, 0] = 1
        noise = torch.rand(len(scores), 1)
        return {"total_loss": nn.functional.binary_cross_entropy_with_logits(scores + noise, wanted)}

    src_predict, src_loss = rec_predict, rec_loss


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = Sessions.of(shop)
    parts = examples(shop, sessions, True)
    ranking = Ranking(shop, sessions, 50, 99)
    monkeypatch.setattr(authors_unisar, "BATCH", 16)

    def curve(name: str, epochs: int) -> list[dict[str, Any]]:
        monkeypatch.setattr(authors_unisar, "MAX_EPOCHS", epochs)
        torch.manual_seed(0)
        model = Pretended(shop.log.n_items)
        found = train(model, parts, sessions.words, ranking, tmp_path / name, 40, {"n": 1}, lambda point: None)
        return [point | {"seconds": 0.0} for point in found]

    whole = curve("whole", 3)
    curve("cut", 1)
    assert curve("cut", 3) == whole
    assert [point["epoch"] for point in whole] == [1, 2, 3]
    assert whole[0]["test"] is not None
    assert whole[0]["loss"] > whole[2]["loss"]
    with pytest.raises(UserError, match=r"another training, \{'n': 1\}; this one is \{'n': 2\}: name"):
        train(Pretended(9), parts, sessions.words, ranking, tmp_path / "cut", 40, {"n": 2}, lambda point: None)


def test_it_stops_after_five_epochs_in_a_row_without_a_new_best() -> None:
    # len(criterion) - criterion.index(max(criterion)) > early_stop, as the authors' runner has it
    def curve(*means: float) -> list[dict[str, Any]]:
        return [{"epoch": epoch, "mean": mean} for epoch, mean in enumerate(means, start=1)]

    assert not finished([])
    assert not finished(curve(0.2, *[0.1] * 4))
    assert finished(curve(0.2, *[0.1] * 5))
    assert finished(curve(0.2, *[0.2] * 5))
    assert finished(curve(*(0.01 * n for n in range(100))))


def test_a_folder_without_their_code_is_refused(shop: Dataset, tmp_path: Path) -> None:
    modules = authors_unisar.authors_modules(tmp_path, Sessions.of(shop), 3)
    with pytest.raises(UserError, match=r"models/UniSAR\.py is missing"), modules:
        pass


def test_data_without_searches_are_refused(toy: Dataset) -> None:
    silent = replace(toy, log=replace(toy.log, queries=np.zeros_like(toy.log.queries)))
    with pytest.raises(UserError, match="nobody searches"):
        examples(silent, Sessions.of(silent), False)
