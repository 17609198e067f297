"""What SASRec, BERT4Rec and GRU4Rec have in common: the losses, the rows that a step touches, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from baselines.recbole_adapter import RecBoleModel
from baselines.recbole_models import BERT4Rec, GRU4Rec, SASRec
from synergen.contract import Batch, DataView, Requests, Task
from synergen.errors import UserError
from synergen.training.step import make_optimiser, take_step

V = 30
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5], [8, 9, 7]]
SMALL = {"hidden_size": 16, "inner_size": 32, "max_history": 9}
EVERYTHING = torch.arange(V + 1)
every_kind = pytest.mark.parametrize("kind", [SASRec, BERT4Rec, GRU4Rec])


@every_kind
def test_the_oldest_event_of_a_full_history_counts(
    kind: type[RecBoleModel], make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = kind(make_view(V), hidden_size=16, max_history=3).eval()
    asked = make_requests([[1, 2, 3], [4, 2, 3]], Task.RECOMMENDATION)
    scores = model.score(asked, EVERYTHING)
    assert not torch.allclose(scores[0], scores[1])


@every_kind
def test_too_long_training_sequences_are_refused(
    kind: type[RecBoleModel], make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = kind(make_view(V), hidden_size=16, max_history=3)
    assert model.loss(make_batch([[1, 2, 3, 4]]))["softmax"].isfinite()
    with pytest.raises(UserError, match="sequences of 5 events and the model reads 3"):
        model.loss(make_batch([[1, 2, 3, 4, 5]]))


@every_kind
def test_unknown_items_are_refused(
    kind: type[RecBoleModel],
    make_view: Callable[..., DataView],
    make_batch: Callable[..., Batch],
    make_requests: Callable[..., Requests],
) -> None:
    """Item 31 of 30; without the check BERT4Rec would take it for its mask."""
    model = kind(make_view(V), hidden_size=16, max_history=3)
    for ask in (
        lambda: model.loss(make_batch([[1, 2], [3, V + 1]])),
        lambda: model.score(make_requests([[1, V + 1]], Task.RECOMMENDATION), EVERYTHING),
    ):
        with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
            ask()


@every_kind
def test_a_step_on_sampled_negatives_changes_the_rows_read_only(
    kind: type[RecBoleModel],
    make_view: Callable[..., DataView],
    make_batch: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With row updates; the rows read are those of the events and of the drawn negatives, and that of the mask."""
    model = kind(make_view(500), hidden_size=16, max_history=9, loss="sampled", negatives=3).train()
    monkeypatch.setattr(torch, "randint", lambda *args, **options: torch.tensor([400, 499, 400]))
    optimiser = make_optimiser(model, {"dense": 1e-3, "sparse": 1e-3}, weight_decay=0.0, by_rows=True)
    table = model.net.item_embedding.weight
    before = table.detach().clone()
    take_step(model, optimiser, make_batch([[3, 1, 4], [2, 6]]), clip_norm=5.0, dtype=None)
    changed = set((table != before).any(1).nonzero()[:, 0].tolist())
    assert changed == {1, 2, 3, 4, 6, 400, 499} | ({501} if kind is BERT4Rec else set())


@every_kind
@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce"])
def test_the_term_has_the_name_of_the_loss(
    kind: type[RecBoleModel], loss: str, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = kind(make_view(V), hidden_size=16, max_history=9, loss=loss)
    assert list(model.loss(make_batch(HISTORIES))) == [loss]
    assert kind.trained_against({"loss": loss}).startswith("all items" if loss == "softmax" else "512 a ")


def test_nothing_to_predict_is_no_loss(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    """A first event cannot be predicted from anything: it is skipped, in a batch without other events, too."""
    for model in (
        SASRec(make_view(V), **SMALL),
        SASRec(make_view(V), **SMALL, augmentation="prefix"),
        GRU4Rec(make_view(V)),
    ):
        loss = model.loss(make_batch([[4], [5]]))["softmax"]
        loss.backward()
        assert loss.item() == 0.0


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (SASRec, {"inputs": "ids"}, "unknown inputs 'ids': did you mean 'id'"),
        (SASRec, {"augmentation": "prefixes"}, "unknown augmentation 'prefixes': did you mean 'prefix'"),
        (GRU4Rec, {"dropout": 1.0}, "less than 1"),
        (GRU4Rec, {"hidden_size": 0}, "hidden_size is 0; it must be 1 or more"),
    ],
)
def test_impossible_settings_are_refused(
    kind: type[RecBoleModel], settings: dict[str, Any], said: str, make_view: Callable[..., DataView]
) -> None:
    with pytest.raises(UserError, match=said):
        kind(make_view(V), **settings)
