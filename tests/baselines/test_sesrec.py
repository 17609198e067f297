"""SESRec against numbers of the authors' own code (golden/README.md says how made), and what it makes of odd users."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.pointwise import pointwise
from baselines.sesrec import SESRec, _searches
from baselines.sesrec_layers import Side
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL: dict[str, Any] = {"width": 8, "query_width": 4, "heads": 2, "dropout": 0.0}
FULL = 3  # users of the golden file whose histories have no padding
EVERYTHING = torch.arange(1, 13)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "sesrec.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    return {name: value.long() if value.dtype == torch.int8 else value.float() for name, value in values.items()}


def authors(golden: dict[str, Tensor], view: DataView, **settings: Any) -> SESRec:
    """The model with the weights of the file."""
    texts = [" ".join(chr(96 + word) * 3 for word in row if word) for row in golden["words"].tolist()]
    texts.append(" ".join(chr(97 + word) * 3 for word in range(9)))  # so that words are numbered as in the file
    data = replace(view, n_items=12, n_users=4, n_queries=6, query_texts=texts, item_counts=view.item_counts[:13])
    model = SESRec(data, **SMALL, max_of_kind=5, max_history=10, **settings).eval()
    model.load_state_dict({k.removeprefix("weight:"): v for k, v in golden.items() if k.startswith("weight:")})
    return model


def asked(golden: dict[str, Tensor]) -> Requests:
    """The users' histories: all that they were shown, then all searches."""
    items = torch.cat([golden["shown"], golden["clicked"]], dim=1)
    queries = torch.cat([torch.zeros_like(golden["shown"]), golden["queries"]], dim=1)
    order = (items == 0).long().argsort(dim=1, stable=True)  # padding behind the events
    items, queries = items.gather(1, order), queries.gather(1, order)
    valid = (items > 0).long()
    history = Histories(items, valid, valid, queries, valid.cumsum(1) * valid, valid.sum(1))
    none = torch.zeros(len(items), dtype=torch.int64)
    return Requests(Task.RECOMMENDATION, history, none, none, none, golden["users"])


@pytest.mark.parametrize(("faithful", "rows"), [(True, slice(None)), (False, slice(FULL))])
def test_scores_are_the_authors(
    faithful: bool, rows: slice, golden: dict[str, Tensor], make_view: Callable[..., DataView]
) -> None:
    """Without padding they are so by default, too."""
    model = authors(golden, make_view(12), faithful=faithful)
    found = model.score(asked(golden), golden["candidates"]).sigmoid()
    torch.testing.assert_close(found[rows], golden["probabilities"][rows], rtol=0, atol=1e-5)


def test_padding_of_the_other_history_counts_in_the_authors_code(
    golden: dict[str, Tensor], make_view: Callable[..., DataView]
) -> None:
    found = authors(golden, make_view(12)).score(asked(golden), golden["candidates"]).sigmoid()
    assert (found - golden["probabilities"])[FULL:].abs().max() > 1e-3


def test_losses_are_the_authors(golden: dict[str, Tensor], make_view: Callable[..., DataView]) -> None:
    model = authors(golden, make_view(12), faithful=True)
    read = model.read(asked(golden))
    scores = pointwise("bce", model.compare(read, golden["candidates"]))
    torch.testing.assert_close(scores, golden["scores_loss"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model._contrast(read), golden["contrast"], rtol=0, atol=1e-5)
    queries, clicks = golden["queries"][golden["queries"] > 0], golden["clicked"][golden["clicked"] > 0]
    others = model._item(golden["other_items"]), model._query(golden["other_queries"])
    alignment = model.alignment(model._query(queries), model._item(clicks), *others)
    torch.testing.assert_close(alignment, golden["alignment"], rtol=1e-6, atol=1e-5)


def test_alike_and_unlike_events_share_the_history_between_them() -> None:
    """By hand: the average of 3 events is 1/3; where all have it, or there is one event alone, both have all."""
    valid = torch.tensor([[True, True, True, False], [True, True, False, False], [True, False, False, False]])
    weights = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    side = Side.of(torch.zeros(3, 4, 2), valid, weights)
    assert side.alike.tolist() == [[True, False, False, False], *valid[1:].tolist()]
    assert side.unlike.tolist() == [[False, True, True, False], *valid[1:].tolist()]


def test_searches_that_no_target_comes_after_are_not_aligned(make_batch: Callable[..., Batch]) -> None:
    """By hand: every other event is a search, of query 1 + item % 5; the last target is event 3 of the first sequence,
    and the second one has no target."""
    batch = make_batch([[11, 12, 13, 14, 15, 16], [21, 22]])
    targets = torch.zeros_like(batch.targets)
    targets[0, 1] = targets[0, 3] = True
    queries, items = _searches(replace(batch, targets=targets))
    assert (queries.tolist(), items.tolist()) == ([3], [12])


def test_users_with_one_kind_of_history_and_strangers_have_scores(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests], make_batch: Callable[..., Batch]
) -> None:
    """A stranger is a user whose vector is zero; queries without words count by their id alone."""
    model = SESRec(replace(make_view(12), n_users=3, query_texts=["", "", "red", "", "?", "blue"]), **SMALL).eval()
    asked = make_requests([[1, 2, 3], [4, 5, 6, 7], [8]], Task.RECOMMENDATION)
    for queries in (asked.history.queries, torch.zeros_like(asked.history.queries), asked.history.valid.long()):
        one = replace(asked, history=replace(asked.history, queries=queries))
        scores = model.score(one, EVERYTHING)
        assert scores.isfinite().all()
        known = model.score(replace(one, users=torch.tensor([0, 2, 3])), EVERYTHING)
        torch.testing.assert_close(known[0], scores[0])
        assert not torch.allclose(known[1:], scores[1:])
        batch = make_batch([[1, 2, 3], [4, 5]])
        batch = replace(batch, events=replace(batch.events, queries=queries[:2, :3] * batch.events.valid))
        assert all(term.isfinite() for term in model.loss(batch).values())


def test_data_without_queries_have_no_alignment(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = SESRec(replace(make_view(12), n_queries=0, query_texts=[""]), **SMALL)
    batch = make_batch([[1, 2, 3], [4, 5, 6]])
    batch = replace(batch, events=replace(batch.events, queries=torch.zeros_like(batch.events.queries)))
    terms = model.loss(batch)
    assert terms["alignment"] == 0
    assert terms["contrast"] == 0
    assert terms["bce"] > 0


def test_places_may_be_counted_from_the_newest_event(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """Of four events of each kind, all that are read, that is the vectors of places in reverse; of fewer it is not."""
    torch.manual_seed(0)
    oldest, newest = (SESRec(make_view(12), max_of_kind=4, places=places).eval() for places in ("oldest", "newest"))
    newest.load_state_dict(oldest.state_dict())
    for positions, others in ((p, getattr(oldest, n)) for n, p in newest.named_parameters() if n.endswith("positions")):
        positions.data = others.data.flip(0)
    full, short = (make_requests([history], Task.RECOMMENDATION) for history in ([*range(1, 9)], [1, 2, 3, 4]))
    candidates = torch.arange(1, 13)
    torch.testing.assert_close(newest.score(full, candidates), oldest.score(full, candidates))
    assert not torch.allclose(newest.score(short, candidates), oldest.score(short, candidates))


def test_impossible_settings_are_refused(make_view: Callable[..., DataView]) -> None:
    with pytest.raises(UserError, match="width is 10; it must be a multiple of heads, which is 4"):
        SESRec(make_view(12), width=10)
    with pytest.raises(UserError, match="unknown inputs 'txt'"):
        SESRec(make_view(12), inputs="txt")
    with pytest.raises(UserError, match="faithful counts places from the oldest event"):
        SESRec(make_view(12), faithful=True, places="newest")
    with pytest.raises(UserError, match="SESRec: setting 'inputs' is 'text' but the data have no item text vectors"):
        SESRec(replace(make_view(12), item_vectors=None), inputs="text")
