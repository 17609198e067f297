"""TEM, QEM, ZAM and AEM: numbers of the authors' own code, one pass against one row a request, and the edges."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines import objectives, registry
from baselines.asked import cut
from baselines.query_words import Vocabulary
from baselines.tem import TEM, ItemWords
from baselines.tem_layers import Encoder
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL = {"width": 16, "heads": 2, "ffn_width": 32, "dropout": 0.0, "max_history": 8}
READERS = ("transformer", "attention", "zero_attention")
EVERYTHING = torch.arange(31)
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5], [], [8, 9, 7]]

KINDS = {
    "tem": {"layers": 1},
    "tem2": {"layers": 2},
    "zam": {"history": "zero_attention"},
    "aem": {"history": "attention"},
    "qem": {"history": "none"},
}
WORDS = "abcdefghijk"  # word n of the file is the n-th letter


def made(view: DataView, seed: int = 0, **settings: object) -> TEM:
    """With weights so large that every term shows."""
    torch.manual_seed(seed)
    model = TEM(view, **(SMALL | settings)).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    return model


def golden(kind: str) -> tuple[TEM, dict[str, Tensor]]:
    """A model with the weights of the file, and the file's other numbers: golden/README.md says how made.

    Queries spell the words of the file, and the titles of the targets are their target words.
    """
    with np.load(Path(__file__).parent / "golden" / "tem.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    titles = [""] * 13
    for item, (word,) in zip(values["targets"].tolist(), values["target_words"].tolist(), strict=True):
        titles[item] = WORDS[word - 1]
    queries = ["", *(" ".join(WORDS[n - 1] for n in row if n) for row in values["queries"].tolist()), " ".join(WORDS)]
    view = DataView(12, 5, 1, titles, queries, np.ones(13, dtype=np.int64))
    sizes = {"width": 8, "heads": 2, "ffn_width": 12, "max_history": 5, "item_bias": True, "dropout": 0.0}
    model = TEM(view, **sizes, **KINDS[kind], faithful=True).eval()
    prefix = f"{kind}:weight:"
    weights = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    loaded = model.load_state_dict(weights, strict=False)
    assert loaded.missing_keys == ["titles.words.weight"]  # the table of the queries, once more
    assert not loaded.unexpected_keys
    return model, values


def histories(items: Tensor, queries: Tensor) -> Histories:
    """Rows of items (B, T) padded with zeros, each event a request of its own, with queries (B, T)."""
    valid = items > 0
    steps = torch.arange(items.shape[1]).expand_as(items) * valid
    return Histories(items, valid.long(), 1000 + steps, queries, steps, valid.sum(1))


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_authors(kind: str) -> None:
    """But those of AEM without a history, which has the padding to read in the authors' code."""
    model, values = golden(kind)
    items = values["items"]
    rows = torch.arange(4)
    asked = Requests(Task.SEARCH, histories(items, items * 0), rows + 9000, rows + 1, rows * 0)
    some = values["items"].any(1) if kind == "aem" else rows >= 0
    scores = model.score(asked, torch.arange(1, 13))
    torch.testing.assert_close(scores[some], values[f"{kind}:scores"][some], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "aem"])
def test_losses_are_the_authors(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Theirs are sums of the six logits' losses, and no constant is added to them (here -ln 5)."""
    model, values = golden(kind)
    lengths = (values["items"] > 0).sum(1)
    items = torch.nn.functional.pad(values["items"], (0, 1)).scatter(1, lengths[:, None], values["targets"][:, None])
    queries = torch.zeros_like(items).scatter(1, lengths[:, None], torch.arange(1, 5)[:, None])
    monkeypatch.setattr(torch, "randint", lambda *a, **k: values["negatives"])
    monkeypatch.setattr(torch, "searchsorted", lambda *a, **k: values["negative_words"] - 1)
    with torch.no_grad():
        model.bias += math.log(5)
    events = histories(items, queries)
    terms = model.loss(Batch(events, queries > 0, events.actions, torch.arange(4)))
    torch.testing.assert_close(6 * terms["gbce"], values[f"{kind}:item_loss"], rtol=1e-5, atol=0)
    torch.testing.assert_close(6 * terms["words"], values[f"{kind}:word_loss"], rtol=1e-5, atol=0)


@pytest.mark.parametrize("history", READERS)
def test_one_pass_over_a_sequence_is_one_row_a_request(
    history: str, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """The reference cuts each target's history out; two events of one request do not see one another."""
    model = made(make_view(), history=history)
    batch = make_batch([[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11], [12]])
    groups = torch.tensor([[0, 1, 2, 2, 2, 3, 4, 5], [0, 1, 1, 0, 0, 0, 0, 0], [0] * 8])
    batch = replace(batch, events=replace(batch.events, groups=groups))
    batch = replace(batch, targets=batch.targets & (batch.events.queries > 0))
    states, items = model._searches(batch)
    asked, chosen = cut(batch)
    assert items.tolist() == chosen.tolist() == [2, 4, 6, 8, 10]
    torch.testing.assert_close(states, model.states(asked.queries, asked.history), rtol=1e-5, atol=1e-6)


def test_targets_without_a_query_are_not_learnt(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """Every other event is a search; the last one is none, so whatever it is, the loss is the same."""
    model = made(make_view())
    values = []
    for last in (5, 25):
        torch.manual_seed(0)
        values.append(torch.stack(list(model.loss(make_batch([[1, 2, 3, 4, last]])).values())))
    assert torch.equal(values[0], values[1])


@pytest.mark.parametrize("history", [*READERS, "none"])
def test_without_a_history_the_query_alone_counts(
    history: str, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = made(make_view(), history=history)
    asked = make_requests([[], [3, 1], []], Task.SEARCH)
    asked = replace(asked, queries=torch.tensor([2, 2, 3]))
    empty, some, other = model.user_vectors(asked)
    again = model.user_vectors(replace(make_requests([[]], Task.SEARCH), queries=torch.tensor([2])))[0]
    torch.testing.assert_close(empty, again)
    assert not torch.allclose(empty, other)
    assert torch.allclose(empty, some) == (history == "none")


def test_queries_of_unknown_words_are_empty_queries(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """Query 4 is "black"; held again under another number it asks the same."""
    model = made(make_view())
    asked = make_requests(HISTORIES, Task.SEARCH)
    before = model.score(replace(asked, queries=torch.tensor([4, 4, 4, 4, 0])), EVERYTHING)
    model.hold_queries(["", "xylophone", "black"], None)
    none = replace(asked.history, queries=torch.zeros_like(asked.history.queries))
    after = model.score(replace(asked, history=none, queries=torch.tensor([2, 2, 2, 2, 1])), EVERYTHING)
    assert torch.equal(after, before)
    assert after.isfinite().all()


def test_item_bias_is_added_to_every_score(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model, asked = made(make_view(), item_bias=True), make_requests(HISTORIES, Task.SEARCH)
    scores = model.score(asked, EVERYTHING)
    with torch.no_grad():
        model.bias += EVERYTHING
    torch.testing.assert_close(model.score(asked, EVERYTHING), scores + EVERYTHING)


@pytest.mark.parametrize("faithful", [False, True])
def test_positions_are_no_larger_than_items(faithful: bool, make_view: Callable[..., DataView]) -> None:
    """Of D numbers, a sinusoid has the length √(D / 2), normal numbers √D; both smaller by √D but in the repository."""
    torch.manual_seed(0)
    model = TEM(make_view(), width=128, faithful=faithful)
    assert isinstance(model.reader, Encoder)
    length = 8.0 if faithful else math.sqrt(0.5)
    torch.testing.assert_close(model.reader.positions.norm(dim=1), torch.full((22,), length))
    assert model.items()[1:].norm(dim=1).mean().item() == pytest.approx(math.sqrt(2) * length, rel=0.05)


@pytest.mark.parametrize(("loss", "factor"), [("gbce", 1 / 4), ("softmax", 1), ("sampled", 1)])
def test_words_weigh_against_any_loss_what_they_weigh_in_the_repository(
    loss: str, factor: float, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """There both terms are sums over their logits; gBCE is the mean over its 1 + 3, and the others are such sums."""
    model, batch = made(make_view(), loss=loss, negatives=3, words_weight=2.0), make_batch([[2, 4, 6, 8]])
    searched = batch.targets & (batch.events.queries > 0)
    items = batch.events.items[searched]
    torch.manual_seed(0)
    alone = model.titles(items, model.items(items))
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectives, "objective", lambda *a: torch.zeros(()))
        terms = model.loss(batch)
    torch.testing.assert_close(terms["words"], 2 * factor * alone)


def test_data_without_any_words_have_no_loss_of_words() -> None:
    view = DataView(3, 1, 1, [""] * 4, [""], np.ones(4, dtype=np.int64))
    model = TEM(view)
    assert model.titles(torch.tensor([1, 2]), torch.ones(2, 128)) == 0


def test_faithful_draws_the_gains_of_the_layer_norms(make_view: Callable[..., DataView]) -> None:
    """256 gains: the deviation of normal numbers is known to 1 / √512, four of those."""
    for faithful, deviation in ((False, 0.0), (True, 1.0)):
        torch.manual_seed(0)
        model = TEM(make_view(), width=128, faithful=faithful)
        gains = torch.cat([m.weight for m in model.modules() if isinstance(m, torch.nn.LayerNorm)])
        assert gains.numel() == 256
        assert gains.std().item() == pytest.approx(deviation, abs=4 / math.sqrt(512))


def test_words_are_drawn_by_training_events_to_the_power_of_three_quarters() -> None:
    """red stands in items of 2 and 3 events, thing in that of 2, blue in none that was trained on: 5, 2 and 0."""
    titles = ["", "red thing", "Red", "blue", ""]
    vocabulary = Vocabulary(titles)
    words = torch.nn.Embedding(4, 6, padding_idx=0)
    table = ItemWords(titles, np.array([0, 2, 3, 0, 9]), vocabulary, words)
    weights = dict(zip(["blue", "red", "thing"], torch.diff(table.upto, prepend=torch.zeros(1)).tolist(), strict=True))
    assert weights == pytest.approx({"blue": 0, "red": 5**0.75, "thing": 2**0.75})
    torch.manual_seed(0)
    vectors = torch.randn(2, 6)
    alone = table(torch.tensor([2]), vectors[:1])
    torch.manual_seed(0)
    torch.randn(2, 6)
    assert torch.equal(table(torch.tensor([2, 4]), vectors), alone)  # item 4 has no words
    assert table(torch.tensor([4]), vectors[:1]) == 0


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("TEM", {"history": "transfomer"}, "unknown history 'transfomer': did you mean 'transformer'"),
        ("TEM", {"inputs": "words"}, "unknown inputs 'words'"),
        ("TEM", {"heads": 3}, "width is 128; it must be a multiple of heads, which is 3"),
        ("ZAM", {"words_weight": -1.0}, "words_weight is -1.0; it must be 0 or more"),
        ("QEM", {"item_bias": True, "similarity": "cosine"}, "item_bias has no place under the cosine"),
    ],
)
def test_impossible_settings_of_tem_are_refused(
    name: str, settings: dict[str, object], said: str, make_view: Callable[..., DataView]
) -> None:
    with pytest.raises(UserError, match=said):
        registry.build(name, make_view(), settings)


def test_readers_learn_that_tem_stood_against_few() -> None:
    """The authors' loss is gBCE of no calibration against 5 items."""
    assert TEM.trained_against({"loss": "gbce", "negatives": 5, "calibration": 0.0}) == "5 a position, gBCE t = 0"
