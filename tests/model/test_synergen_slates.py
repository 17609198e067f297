"""Learning from slates: every term against its definition on what a server answers to each request alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.contract import Batch, Histories, Requests, Slates, Task
from synergen.errors import UserError
from synergen.model.synergen import SynerGen

Make = Callable[..., SynerGen]
MakeHistories = Callable[..., Histories]
LENGTHS, REQUESTS, SHOWN = [6, 2, 9], [3, 2, 4], 5


@pytest.fixture
def batch(make_histories: MakeHistories) -> Batch:
    """Requests between the events of three users, with slates of 2 to 5 items and none to two clicks."""
    events = make_histories(LENGTHS)
    g = torch.Generator().manual_seed(4)
    most = max(REQUESTS)
    real = torch.arange(most) < torch.tensor(REQUESTS)[:, None]  # (B, E)
    sizes = torch.randint(2, SHOWN + 1, (len(LENGTHS), most), generator=g) * real
    shown = torch.arange(SHOWN) < sizes[..., None]  # (B, E, S)
    items = torch.stack([torch.randperm(20, generator=g)[:SHOWN] + 1 for _ in range(len(LENGTHS) * most)])
    slates = Slates(
        times=(1_500_000_000 + 10_000_000 + torch.arange(most) * 50).expand(len(LENGTHS), -1) * real,
        queries=torch.randint(0, 6, real.shape, generator=g) * real,
        groups=torch.randint(0, 9, real.shape, generator=g).sort(1).values * real,
        wanted=torch.randint(1, 3, real.shape, generator=g) * real,
        items=items.view(*shown.shape) * shown,
        outcomes=torch.randint(0, 3, shown.shape, generator=g) * shown,
    )
    return Batch(events, events.valid, events.actions, torch.arange(3), slates)


def alone(batch: Batch) -> list[tuple[tuple[int, int], Requests]]:
    """Each request with the events of earlier groups, as a server gets it."""
    slates, events = batch.slates, batch.events
    assert slates is not None
    found = []
    for b, e in slates.shown.any(-1).nonzero().tolist():
        seen = int((events.valid[b] & (events.groups[b] < slates.groups[b, e])).sum())
        columns = {n: v[b : b + 1, : max(seen, 1)] * (seen > 0) for n, v in vars(events).items() if n != "lengths"}
        history = Histories(**columns, lengths=torch.tensor([seen]))
        asked = (column[b : b + 1, e] for column in (slates.times, slates.queries, slates.wanted))
        found.append(((b, e), Requests(Task.SEARCH, history, *asked)))
    return found


def choices(batch: Batch, b: int, e: int) -> list[int]:
    slates = batch.slates
    assert slates is not None
    return slates.items[b, e][(slates.outcomes[b, e] >= slates.wanted[b, e]) & (slates.items[b, e] > 0)].tolist()


def test_terms_are_their_definitions_on_what_a_server_answers(make_model: Make, batch: Batch) -> None:
    model = make_model(alpha=0.3, temperature=0.4, hard="impressions", lambda_pair=0.7)
    items, slates = model.item_vectors().detach(), batch.slates
    assert slates is not None
    own = {b: {i for (row, e), _ in alone(batch) if row == b for i in choices(batch, b, e)} for b in range(3)}
    everything = [(b, i) for (b, e), _ in alone(batch) for i in choices(batch, b, e)]
    retrieval, context, points, pairs = [], [], [], []
    for (b, e), request in alone(batch):
        shown = slates.items[b, e][slates.items[b, e] > 0].tolist()
        chosen = choices(batch, b, e)
        with torch.no_grad():
            vector = model.user_vectors(request)[0]
            feed = model.user_vectors(replace(request, task=Task.RECOMMENDATION))[0]
            logits = model.rank_logits(request, torch.tensor([shown]))[0]
        labels = torch.tensor([float(i in chosen) for i in shown])
        points += F.binary_cross_entropy_with_logits(logits, labels, reduction="none").tolist()
        pairs += [F.softplus(n - p).item() for p in logits[labels > 0] for n in logits[labels == 0]]

        def contrast(query: Tensor, positive: int, against: list[int]) -> float:
            values = torch.stack([query @ items[i] / 0.4 for i in [positive, *against]])
            return (values.logsumexp(0) - values[0]).item()

        for positive in chosen:
            easy = [i for row, i in everything if i not in own[b]]
            hard = [i for i in shown if i not in chosen]
            for query, into in ((vector, retrieval), (feed, context)):
                if into is retrieval or int(request.history.lengths[0]):
                    into.append(0.3 * contrast(query, positive, easy) + 0.7 * contrast(query, positive, hard))
    terms = model.loss(batch)
    assert 0 < len(context) < len(retrieval)  # some requests have no past
    for name, values, weight in (
        ("retrieval", retrieval, 1),
        ("context", context, 1),
        ("point", points, 1),
        ("pair", pairs, 0.7),
    ):
        assert terms[name].item() == pytest.approx(weight * sum(values) / len(values), rel=2e-5)


def test_padding_teaches_nothing(make_model: Make, batch: Batch) -> None:
    model, slates = make_model(hard="impressions"), batch.slates
    assert slates is not None
    wider = {name: F.pad(value, (0, 2, 0, 3) if value.dim() == 3 else (0, 3)) for name, value in vars(slates).items()}
    expected, found = model.loss(batch), model.loss(replace(batch, slates=Slates(**wider)))
    for name, term in expected.items():
        assert found[name].item() == pytest.approx(term.item(), rel=1e-5)


def test_hard_negatives_from_impressions_need_impressions(make_model: Make, batch: Batch) -> None:
    with pytest.raises(UserError, match="does not say what its requests showed"):
        make_model(hard="impressions").loss(replace(batch, slates=None))


@pytest.mark.parametrize("with_slates", [False, True])
def test_mined_negatives_are_what_the_model_ranks_highest(make_model: Make, batch: Batch, with_slates: bool) -> None:
    # The reference sorts all inner products of the item vectors as they were when the epoch began.
    given = batch if with_slates else replace(batch, slates=None)
    model = make_model(hard="mined", hard_negatives=4, alpha=0.0, ranking_head=False)
    model.begin_epoch(1)
    before = model.item_vectors().detach().clone()
    model.items.id.weight.data[1:] += 0.1  # type: ignore[union-attr]
    asked = alone(given) if with_slates else targets_alone(given)
    bought = {place: choices(given, *place) if with_slates else [int(given.events.items[place])] for place, _ in asked}
    own = {b: {i for (row, e), items in bought.items() if row == b for i in items} for b in range(3)}
    items, losses = model.item_vectors().detach(), []
    for place, request in asked:
        with torch.no_grad():
            vector = model.user_vectors(request)[0]
        top = ((before @ vector)[1:].argsort(descending=True)[:4] + 1).tolist()
        for positive in bought[place]:
            against = [positive, *(i for i in top if i not in own[place[0]])]
            logits = torch.stack([items[i] @ vector / 0.085 for i in against])
            losses.append((logits.logsumexp(0) - logits[0]).item())
    assert model.loss(given)["retrieval"].item() == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def targets_alone(batch: Batch) -> list[tuple[tuple[int, int], Requests]]:
    """Each target event as a request of its own."""
    events = batch.events
    as_slates = Slates(
        events.times, events.queries, events.groups, batch.wanted, events.items[..., None], events.actions[..., None]
    )
    return alone(replace(batch, slates=as_slates))
