"""UniSAR: numbers of the authors' own code, parts against plain references, and histories that lack one kind."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import pointwise
from baselines.unisar import UniSAR
from baselines.unisar_layers import Block, Contrast, Extraction, by_kind
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL = {"width": 8, "id_width": 6, "experts": 2, "dropout": 0.0, "max_of_kind": 3, "max_history": 8}
EVERYTHING = torch.arange(1, 31)
ROWS = [[3, 1, 4, 1, 5, 9], [2, 7], [6, 5, 3, 5, 8], [9]]


def made(view: DataView, **settings: object) -> UniSAR:
    """With weights so large that every term shows."""
    model = UniSAR(view, **(SMALL | settings)).eval()
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.4)
    return model


def drawn(*values: Tensor) -> Callable[..., Tensor]:
    """In place of random numbers: these, in turn."""
    left = list(values)
    return lambda *args, **kwargs: left.pop(0)


@pytest.fixture
def golden(make_view: Callable[..., DataView]) -> tuple[UniSAR, dict[str, Tensor], Histories]:
    """A model with the weights of the file, the file's numbers, and its histories: golden/README.md says how made."""
    with np.load(Path(__file__).parent / "golden" / "unisar.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files if file[name].dtype.kind != "U"}
        names, texts = file["names"].tolist(), file["query_texts"].tolist()
    view = replace(make_view(12), query_texts=texts, n_queries=5, n_users=5)
    model = UniSAR(view, width=8, id_width=3, max_of_kind=4, max_history=8, alignment_negatives=6).eval()
    shapes = {name: weights.shape for name, weights in model.state_dict().items()}
    parts = values["weights"].float().split([shapes[name].numel() for name in names])
    scaled = zip(names, parts, values["scales"], strict=True)
    model.load_state_dict({name: (part * scale).view(shapes[name]) for name, part, scale in scaled})
    lengths = values["lengths"].long()
    valid = (torch.arange(8) < lengths[:, None]).long()
    queries, steps = values["queries"].long(), valid.cumsum(1) * valid
    return model, values, Histories(values["items"].long(), valid, steps, queries, steps, lengths)


def test_scores_and_task_losses_are_the_authors(golden: tuple[UniSAR, dict[str, Tensor], Histories]) -> None:
    model, values, history = golden
    users, none = torch.arange(1, 6), torch.zeros(5, dtype=torch.int64)
    for task, queries in ((Task.RECOMMENDATION, none), (Task.SEARCH, values["asked"].long())):
        scores = model.score(Requests(task, history, none, queries, none, users), values["candidates"].long())
        torch.testing.assert_close(scores, values[task], rtol=0, atol=1e-5)
        torch.testing.assert_close(pointwise.pointwise("bce", scores), values[f"{task}_loss"], rtol=0, atol=1e-5)


def test_alignment_and_contrast_are_the_authors(
    golden: tuple[UniSAR, dict[str, Tensor], Histories], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weight of the alignment in the file is symmetric, so that the authors' second direction is ours."""
    model, values, history = golden
    recommended, searched = model._encoded(history)
    contrast = model._contrast(torch.arange(1, 6), recommended, searched)
    torch.testing.assert_close(contrast, values["contrast"], rtol=1e-6, atol=1e-5)
    monkeypatch.setattr(torch, "randint", drawn(values["other_items"].long(), values["other_queries"].long()))
    torch.testing.assert_close(model._alignment(searched.kind), values["alignment"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("from_newest", [False, True])
@pytest.mark.parametrize("most", [1, 2, 30])
def test_kinds_are_the_last_events_of_each(
    most: int, from_newest: bool, make_histories: Callable[..., Histories]
) -> None:
    """Expected: Python lists, an event at a time."""
    torch.manual_seed(3)
    history = make_histories([*ROWS, []])
    history = replace(history, queries=torch.randint(0, 3, history.items.shape) * history.valid)
    found = by_kind(history, most, from_newest)
    for row, length in enumerate(history.lengths.tolist()):
        events = list(zip(history.items[row].tolist(), history.queries[row].tolist(), strict=True))[:length]
        at = [[t for t, event in enumerate(events) if (event[1] > 0) == searched][-most:] for searched in (False, True)]
        in_all = sorted(at[0] + at[1], reverse=from_newest)
        for kind, kept in zip(found, at, strict=True):
            columns = (kind.items[row], kind.queries[row], kind.places[row], kind.places_in_all[row])
            own = sorted(kept, reverse=from_newest)
            expected = [(*events[t], own.index(t), in_all.index(t)) for t in kept]
            assert list(zip(*(x[kind.valid[row]].tolist() for x in columns), strict=True)) == expected
            assert kind.valid[row].tolist() == [True] * len(kept) + [False] * (kind.valid.shape[1] - len(kept))
            assert not any(x[~kind.valid[row]].any() for x in columns)


def test_across_reads_the_other_kind_alone(
    make_view: Callable[..., DataView], make_histories: Callable[..., Histories]
) -> None:
    """By the gradient: what an event is after reading across depends on itself and on every event of the other kind."""
    model = made(make_view(), max_of_kind=8)
    model.items.weight.data[0] = 0
    recommended, searched = model._encoded(make_histories([[11, 12, 13, 14, 15, 16]]))  # 12, 14 and 16 by searching
    for encoded, own, others in ((recommended, 13, {12, 14, 16}), (searched, 14, {11, 13, 15})):
        gradient = torch.autograd.grad(encoded.across[0, 1].square().sum(), model.items.weight, retain_graph=True)[0]
        assert set(gradient.abs().sum(1).nonzero()[:, 0].tolist()) == {own} | others


def test_experts_read_a_concatenation(make_view: Callable[..., DataView]) -> None:
    """Reference: the authors' layer, a pair of request and candidate at a time."""
    torch.manual_seed(1)
    module = Extraction(width=4, experts=3, dropout=0.0)
    recommended, searched, request = torch.randn(2, 3, 4), torch.randn(2, 2, 4), torch.randn(2, 8)
    items, weights = torch.randn(2, 5, 4), torch.rand(2, 5, 6)
    weights[..., -1] = 1
    for task in (0, 1):
        found = module(task, module.mapped(task, recommended, searched, request), weights, items)
        for b in range(2):
            for c in range(5):
                pooled = weights[b, c, :3] @ recommended[b], weights[b, c, 3:5] @ searched[b]
                read = torch.cat([*pooled, items[b, c], request[b]])
                experts = torch.cat([module.own[task](read), module.shared(read)]).relu().view(6, 4)
                mixture = module.gates[task](read).softmax(0) @ experts
                torch.testing.assert_close(found[b, c], module.towers[task](mixture)[0])


def test_contrast_is_cross_entropy_against_other_users() -> None:
    """Reference: the definition, a view at a time; users 7 and 0, who has no number, have two histories each."""
    torch.manual_seed(2)
    module = Contrast(4, 0.1)
    users = torch.tensor([7, 8, 0, 7, 0])
    left, right = torch.randn(5, 4), torch.randn(5, 4)
    views, total = torch.cat([left, right]), torch.zeros(())
    for i in range(10):
        partner = (i + 5) % 10
        own = {j for j in range(10) if users[j % 5] == users[i % 5] > 0} | {i}
        against = [partner, *(j for j in range(10) if j not in own | {partner})]
        logits = torch.stack([(views[i] @ module.weight @ views[j]).tanh() / 0.1 for j in against])
        total = total + F.cross_entropy(logits, torch.tensor(0)) / 10
    torch.testing.assert_close(module(left, right, users), total)
    assert module(left[:0], right[:0], users[:0]) == 0
    assert module(left[:1], right[:1], users[:1]) == 0  # there is no other to tell it from


def test_nothing_to_attend_to_finds_zero() -> None:
    """Expected: the block without its attention, whose output layer has a zero bias when it begins."""
    block = Block(8, 2, 0.0)
    torch.nn.init.zeros_(block.attentions[0].out.bias)
    x, others = torch.randn(1, 3, 8), torch.randn(1, 4, 8)
    found = block(x, (others, torch.zeros(1, 4, dtype=torch.bool)))
    alone = block.norms[0](x)
    torch.testing.assert_close(found, block.norms[1](alone + block.network(alone)))


@pytest.mark.parametrize("searches", [0, 1])
def test_a_history_of_one_kind_is_finite_and_learns(
    searches: int, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """Nothing of it is contrasted, as the definition needs both kinds."""
    model = made(make_view())
    batch = make_batch(ROWS)
    queries = batch.events.items % 5 * searches + batch.events.valid * searches
    terms = model.loss(replace(batch, events=replace(batch.events, queries=queries)))
    assert terms["contrast"] == 0
    assert terms["search" if searches else "recommendation"] > 0
    assert terms["recommendation" if searches else "search"] == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_a_search_without_a_query_is_answered_as_a_recommendation(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = made(make_view())
    asked = make_requests(ROWS, Task.SEARCH)
    some = replace(asked, queries=asked.queries * torch.tensor([1, 0, 1, 0]))
    searched, recommended = (
        model.score(make_requests(ROWS, task), EVERYTHING) for task in (Task.SEARCH, Task.RECOMMENDATION)
    )
    expected = torch.where((some.queries > 0)[:, None], searched, recommended)
    torch.testing.assert_close(model.score(some, EVERYTHING), expected, rtol=1e-5, atol=1e-5)


def test_each_task_weighs_its_own_mean(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: each target asked alone, its candidates scored, and binary cross-entropy by torch; 14 targets, of
    which 8 come without a query and 6 with one."""
    model = made(make_view(), search_weight=0.25, negatives=2)
    batch = make_batch(ROWS)
    drawn = torch.randint(1, 31, (31, 2))
    monkeypatch.setattr(model, "negatives", lambda chosen: torch.cat([chosen[:, None], drawn[chosen]], dim=1))
    terms = model.loss(batch)
    values: dict[bool, list[Tensor]] = {False: [], True: []}
    events = batch.events
    for row, at in ((row, at) for row, items in enumerate(ROWS) for at in range(len(items))):
        history = Histories(
            *(getattr(events, name)[row : row + 1, :at] for name in ("items", "actions", "times", "queries", "groups")),
            lengths=torch.tensor([at]),
        )
        query = events.queries[row : row + 1, at]
        task = Task.SEARCH if query else Task.RECOMMENDATION
        candidates = model.negatives(events.items[row : row + 1, at])
        scores = model.score(Requests(task, history, query, query, query), candidates)
        labels = torch.tensor([[1.0, 0.0, 0.0]])
        values[bool(query)].append(F.binary_cross_entropy_with_logits(scores, labels))
    assert [len(some) for some in values.values()] == [8, 6]
    torch.testing.assert_close(terms["recommendation"], torch.stack(values[False]).mean())
    torch.testing.assert_close(terms["search"], torch.stack(values[True]).mean() / 4)


def test_a_pair_is_aligned_once(
    make_view: Callable[..., DataView], make_histories: Callable[..., Histories], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reference: the alignment of the pairs of the histories, written down; a third history repeats the first's."""
    model = made(make_view())
    kind = by_kind(make_histories([[1, 2, 3, 4], [5, 6], [1, 2]]), 3)[1]  # items 2, 4, 6, by queries 3, 5, 2
    items, queries = torch.tensor([2, 4, 6]), torch.tensor([3, 5, 2])
    others = torch.arange(1, 6), torch.tensor([1, 2, 2, 4, 5])
    monkeypatch.setattr(torch, "randint", drawn(*others))
    vectors = (model._query_vectors(queries), model._item_vectors(items))
    expected = model.alignment(*vectors, model._item_vectors(others[0]), model._query_vectors(others[1]))
    torch.testing.assert_close(model._alignment(kind), expected)


def test_a_log_without_queries_trains(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    model = made(replace(make_view(), n_queries=0, query_texts=[""]))
    batch = make_batch(ROWS)
    events = replace(batch.events, queries=torch.zeros_like(batch.events.queries))
    terms = model.loss(replace(batch, events=events))
    assert terms["recommendation"] > 0
    assert terms["alignment"] == terms["search"] == 0


@pytest.mark.parametrize("inputs", ["text", "both"])
def test_items_may_be_made_of_text(
    inputs: str, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """Two items with the same text vector are one where there is nothing else, and two where ids are added."""
    view = make_view()
    assert view.item_vectors is not None
    vectors = view.item_vectors.copy()
    vectors[2] = vectors[1]
    model = made(replace(view, item_vectors=vectors), inputs=inputs)
    scores = model.score(make_requests(ROWS, Task.SEARCH), EVERYTHING)
    assert torch.allclose(scores[:, 0], scores[:, 1]) is (inputs == "text")
    assert not torch.allclose(scores[:, 1], scores[:, 2])
    assert UniSAR.reads_text({"inputs": inputs}, frozenset(Task))
    with pytest.raises(UserError, match=f"UniSAR: setting 'inputs' is '{inputs}' but the data have no item text"):
        UniSAR(replace(view, item_vectors=None), inputs=inputs)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"inputs": "texts"}, "unknown inputs 'texts'"),
        ({"places": "newer"}, "unknown places 'newer'"),
        ({"width": 9}, "width is 9; it must be a multiple of heads"),
        ({"max_of_kind": 0}, "max_of_kind is 0"),
        ({"search_weight": -1.0}, "search_weight is -1.0"),
        ({"contrast_temperature": 0.0}, "contrast_temperature is 0.0"),
        ({"dropout": 1.0}, "dropout is 1.0"),
    ],
)
def test_impossible_settings_are_refused(
    settings: dict[str, object], said: str, make_view: Callable[..., DataView]
) -> None:
    with pytest.raises(UserError, match=said):
        UniSAR(make_view(), **(SMALL | settings))


def test_unknown_items_are_refused(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests], make_batch: Callable[..., Batch]
) -> None:
    model = made(make_view())
    with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
        model.score(make_requests([[31]], Task.SEARCH), EVERYTHING)
    with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
        model.loss(make_batch([[1, 31]]))
