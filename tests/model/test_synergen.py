from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError
from synergen.model import losses
from synergen.model import synergen as module
from synergen.model.negatives import uniform_except
from synergen.model.synergen import SynerGen

Make = Callable[..., SynerGen]
MakeRequests = Callable[..., Requests]
MakeBatch = Callable[..., Batch]
MakeView = Callable[..., DataView]

LENGTHS = [5, 0, 9, 1]
BOTH = pytest.mark.parametrize("task", list(Task))
CANDIDATES = torch.randint(1, 21, (4, 6), generator=torch.Generator().manual_seed(2))


def answers(model: SynerGen, requests: Requests, candidates: Tensor = CANDIDATES) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        return model.user_vectors(requests), model.rank_logits(requests, candidates)


def pick(requests: Requests, rows: list[int]) -> Requests:
    history = Histories(**{name: value[rows] for name, value in vars(requests.history).items()})
    return Requests(requests.task, history, requests.times[rows], requests.queries[rows], requests.actions[rows])


def shift(history: Histories, seconds: int) -> Histories:
    return replace(history, times=(history.times + seconds) * history.valid)


@BOTH
@pytest.mark.parametrize("rope", ["time", "position", "mixed"])
def test_only_time_differences_count(make_model: Make, make_requests: MakeRequests, task: Task, rope: str) -> None:
    model, requests = make_model(rope=rope), make_requests(LENGTHS, task)
    later = replace(requests, history=shift(requests.history, 10**9), times=requests.times + 10**9)
    for before, after in zip(answers(model, requests), answers(model, later), strict=True):
        assert torch.equal(before, after)


def test_loss_does_not_depend_on_the_clock(make_model: Make, make_batch: MakeBatch) -> None:
    model, batch = make_model(), make_batch([5, 3, 9])
    later = replace(batch, events=shift(batch.events, 10**9))
    values = []
    for given in (batch, later):
        torch.manual_seed(0)
        values.append({name: term.item() for name, term in model.loss(given).items()})
    assert values[0] == values[1]


@BOTH
def test_a_request_time_counts_only_as_target_time(make_model: Make, make_requests: MakeRequests, task: Task) -> None:
    # The logits of rows with a history must follow the time of the request, and must not in the ablation.
    requests = make_requests(LENGTHS, task)
    later = replace(requests, times=requests.times + 3 * 86_400)
    for target_time, rows in ((True, [True, False, True, True]), (False, [False] * 4)):
        model = make_model(target_time=target_time)
        changed = answers(model, requests)[1] != answers(model, later)[1]
        assert changed.any(dim=1).tolist() == rows


def test_without_target_time_task_tokens_carry_the_last_visible_time(make_model: Make, make_batch: MakeBatch) -> None:
    # In training too, where the history ends at another event for each request: moving the time of the last event of
    # a sequence, which is context for no target, leaves the loss alone.
    batch = make_batch([6, 6])
    times = batch.events.times.clone()
    times[:, -1] += 86_400 * 5
    moved = replace(batch, events=replace(batch.events, times=times))
    for target_time in (True, False):
        model = make_model(target_time=target_time, rope="time")
        values = []
        for given in (batch, moved):
            torch.manual_seed(0)
            values.append(model.loss(given)["retrieval"].item())
        assert (values[0] == values[1]) is not target_time


@pytest.mark.parametrize("target_time", [True, False])
def test_task_tokens_stand_at_the_start_of_their_request(
    make_model: Make, make_batch: MakeBatch, target_time: bool
) -> None:
    # Requests 0, 0, 1, 2, 2 of events at t0 … t4 have 0, 0, 2, 3, 3 events before them, the last of them t1 and t2;
    # the first request has none and takes the origin, t0.
    model, batch = make_model(target_time=target_time), make_batch([5])
    batch = replace(batch, events=replace(batch.events, groups=torch.tensor([[0, 0, 1, 2, 2]])))
    seen: list[tuple[Tensor, ...]] = []
    model.rope.register_forward_pre_hook(lambda _, args: seen.append(args))
    model.loss(batch)
    t = batch.events.times[0]
    (times, positions, origin), (task_times, task_positions, task_origin) = seen
    assert torch.equal(times[0], t)
    assert positions.tolist() == [[0, 1, 2, 3, 4]]
    assert task_positions.tolist() == [[0, 0, 2, 3, 3]]
    assert torch.equal(task_times[0], t if target_time else t[[0, 0, 1, 2, 2]])
    assert origin.item() == task_origin.item() == t[0].item()


@BOTH
def test_padding_and_batch_order_do_not_matter(make_model: Make, make_requests: MakeRequests, task: Task) -> None:
    model, requests = make_model(), make_requests(LENGTHS, task)
    users, logits = answers(model, requests)
    assert_close(answers(model, make_requests(LENGTHS, task, width=23)), (users, logits), atol=1e-5, rtol=1e-5)
    order = [2, 0, 3, 1]
    assert_close(
        answers(model, pick(requests, order), CANDIDATES[order]), (users[order], logits[order]), atol=1e-5, rtol=1e-5
    )


@BOTH
def test_candidates_never_see_one_another(
    make_model: Make, make_requests: MakeRequests, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, requests = make_model(), make_requests(LENGTHS, task)
    _, logits = answers(model, requests)
    others = CANDIDATES.clone()
    others[:, 1:] = 21 - others[:, 1:]
    _, changed = answers(model, requests, others)
    assert torch.equal(changed[:, 0], logits[:, 0])
    assert not torch.equal(changed[:, 1:], logits[:, 1:])
    monkeypatch.setattr(module, "MAX_RANKING_LOGITS", 1)  # one candidate at a time
    assert_close(answers(model, requests)[1], logits, atol=1e-5, rtol=1e-5)


@BOTH
def test_an_empty_history_reads_the_retrieval_token(make_model: Make, make_requests: MakeRequests, task: Task) -> None:
    model = make_model()
    no_columns = make_requests([0, 0, 0, 0], task)
    assert no_columns.history.items.shape == (4, 0)
    users, logits = answers(model, no_columns)
    assert torch.isfinite(users).all()
    assert torch.isfinite(logits).all()
    by_retrieval = make_model(recommendation_readout="retrieval")
    assert_close(answers(by_retrieval, no_columns)[0], users)
    requests = make_requests(LENGTHS, task)
    same = (answers(by_retrieval, requests)[0] == answers(model, requests)[0]).all(dim=1)
    assert same.tolist() == ([True] * 4 if task is Task.SEARCH else [False, True, False, False])


def test_old_events_are_forgotten(make_model: Make, make_requests: MakeRequests) -> None:
    model, requests = make_model(max_history=4), make_requests([9, 9, 4, 2], Task.SEARCH)
    kept = requests.history.last(4)
    assert kept.items[:2].tolist() == requests.history.items[:2, -4:].tolist()
    assert kept.items[2:].tolist() == requests.history.items[2:, :4].tolist()
    assert kept.lengths.tolist() == [4, 4, 4, 2]
    assert_close(answers(model, replace(requests, history=kept)), answers(model, requests), atol=1e-6, rtol=0)


def prefixes(batch: Batch, task: Task) -> tuple[list[tuple[int, int]], Requests]:
    """Every target of the batch as the request that a server would see, written with loops."""
    events, found = batch.events, []
    columns: dict[str, list[Tensor]] = {name: [] for name in vars(events)}
    for b, e in batch.targets.nonzero().tolist():
        seen = int((events.groups[b, :e] < events.groups[b, e]).sum())
        for name, value in vars(events).items():
            if name != "lengths":
                columns[name].append(F.pad(value[b, :seen], (0, events.items.shape[1] - seen)))
        columns["lengths"].append(torch.tensor(seen))
        found.append((b, e))
    rows, steps = zip(*found, strict=True)
    history = Histories(**{name: torch.stack(values) for name, values in columns.items()})
    asked = [column[rows, steps] for column in (events.times, events.queries, batch.wanted)]
    return found, Requests(task, history, *asked)


def in_batch_loss(
    outputs: Tensor, items: Tensor, found: list[tuple[int, int]], batch: Batch, view: DataView, corrected: bool
) -> float:
    """InfoNCE by its definition: the targets of the batch less those that the user chose."""
    counts = torch.as_tensor(view.item_counts[1:]).double() + 1
    log_popularity = (counts / counts.sum()).log() * corrected
    everything = [(b, int(batch.events.items[b, e])) for b, e in batch.targets.nonzero().tolist()]
    total = 0.0
    for output, (b, e) in zip(outputs.double(), found, strict=True):
        own = {item for row, item in everything if row == b}
        positive = int(batch.events.items[b, e])
        against = [positive, *(item for _, item in everything if item not in own)]
        logits = torch.stack([output @ items[i].double() / 0.3 - log_popularity[i - 1] for i in against])
        total += (logits.logsumexp(0) - logits[0]).item()
    return total / len(found)


@pytest.mark.parametrize("corrected", [False, True])
def test_retrieval_losses_are_their_definition_on_what_a_server_answers(
    make_model: Make, make_batch: MakeBatch, make_view: MakeView, corrected: bool
) -> None:
    view, batch = make_view(n_items=9), make_batch([6, 2, 7])
    batch = replace(batch, events=replace(batch.events, items=batch.events.items.clamp(max=9)))
    model = make_model(view, alpha=1.0, temperature=0.3, popularity_correction=corrected, retrieval_weight=2.0)
    terms, items = model.loss(batch), model.item_vectors().detach()
    found, searches = prefixes(batch, Task.SEARCH)
    expected = in_batch_loss(model.user_vectors(searches), items, found, batch, view, corrected)
    assert terms["retrieval"].item() == pytest.approx(2 * expected, rel=1e-5)

    groups = batch.events.groups
    follows = [i for i, (b, e) in enumerate(found) if groups[b, 0] < groups[b, e]]
    assert 0 < len(follows) < len(found)
    feeds = pick(replace(searches, task=Task.RECOMMENDATION), follows)
    outputs, found = model.user_vectors(feeds), [found[i] for i in follows]
    expected = in_batch_loss(outputs, items, found, batch, view, corrected)
    assert terms["context"].item() == pytest.approx(2 * expected, rel=1e-5)


@pytest.mark.parametrize("hard", ["sampled", "popular", "mined", "query", "impressions"])
def test_at_alpha_one_nothing_hard_is_drawn_read_or_computed(
    make_model: Make, make_batch: MakeBatch, monkeypatch: pytest.MonkeyPatch, hard: str
) -> None:
    # Every item is an easy negative, so that retrieval is the full softmax but for what its own user chose.
    def forbidden(*_: object) -> None:
        raise AssertionError("hard negatives weigh nothing")

    monkeypatch.setattr(SynerGen, "_hard", forbidden)
    monkeypatch.setattr(losses, "infonce_own", forbidden)
    monkeypatch.setattr("synergen.model.synergen.build_index", forbidden)
    model = make_model(easy="uniform", easy_negatives=2000, alpha=1.0, temperature=1.0, hard=hard)
    batch = make_batch([6, 2, 7])
    model.begin_epoch(1)
    found, searches = prefixes(batch, Task.SEARCH)
    logits = model.user_vectors(searches) @ model.item_vectors().T  # (N, V + 1)
    targets = torch.tensor([batch.events.items[b, e] for b, e in found])
    ruled_out = torch.zeros_like(logits, dtype=torch.bool)
    for row, ((b, _), target) in enumerate(zip(found, targets, strict=True)):
        ruled_out[row, batch.events.items[b]] = True
        ruled_out[row, 0], ruled_out[row, target] = True, False
    expected = F.cross_entropy(logits.masked_fill(ruled_out, -torch.inf), targets)
    assert_close(model.loss(batch)["retrieval"], expected, atol=1e-5, rtol=1e-5)


def test_full_softmax_is_cross_entropy_on_what_a_server_answers(make_model: Make, make_batch: MakeBatch) -> None:
    model, batch = make_model(retrieval_loss="full_softmax", temperature=1.0), make_batch([6, 2, 7])
    found, searches = prefixes(batch, Task.SEARCH)
    targets = torch.tensor([batch.events.items[b, e] for b, e in found])
    logits = model.user_vectors(searches) @ model.item_vectors()[1:].T
    assert_close(model.loss(batch)["retrieval"], F.cross_entropy(logits, targets - 1), atol=1e-5, rtol=1e-5)


def test_ranking_losses_are_their_definition_on_what_a_server_answers(make_model: Make, make_batch: MakeBatch) -> None:
    model, batch = make_model(ranking_negatives=3, lambda_pair=0.5, ranking_weight=2.0), make_batch([6, 2, 7])
    torch.manual_seed(4)
    terms = model.loss(batch)
    torch.manual_seed(4)
    negatives = uniform_except(batch.events.items, 3, 20)  # the first draw of a step
    found, searches = prefixes(batch, Task.SEARCH)
    candidates = torch.stack([torch.cat([batch.events.items[b, e, None], negatives[b, e]]) for b, e in found])
    logits = model.rank_logits(searches, candidates)
    labels = torch.tensor([[1.0, 0, 0, 0]]).expand_as(logits)
    assert_close(terms["point"], 2 * F.binary_cross_entropy_with_logits(logits, labels), atol=1e-5, rtol=1e-5)
    pair = F.softplus(logits[:, 1:] - logits[:, :1]).mean()
    assert_close(terms["pair"], 2 * 0.5 * pair, atol=1e-5, rtol=1e-5)


def test_only_targets_are_learnt_from(make_model: Make, make_batch: MakeBatch) -> None:
    # A sequence without targets adds nothing to means over targets; without any target every term is zero.
    model, batch = make_model(retrieval_loss="full_softmax", ranking_head=False), make_batch([6, 7])
    first = replace(batch, targets=batch.targets & torch.tensor([[True], [False]]))
    alone = replace(
        batch,
        events=Histories(**{name: value[:1] for name, value in vars(batch.events).items()}),
        targets=batch.targets[:1],
        wanted=batch.wanted[:1],
    )
    for name, term in model.loss(first).items():
        assert_close(term, model.loss(alone)[name], atol=1e-5, rtol=1e-5)
    nothing = replace(batch, targets=torch.zeros_like(batch.targets))
    terms = make_model().loss(nothing)
    assert {name: term.item() for name, term in terms.items()} == dict.fromkeys(terms, 0.0)
    sum(terms.values()).backward()


SETTINGS = [
    {},
    {"retrieval_loss": "full_softmax", "temperature": 1.0},
    {"easy": "uniform", "easy_negatives": 8, "alpha": 0.5},
    {"hard": "popular", "inputs": "id"},
    {"hard": "query", "inputs": "text", "popularity_correction": True},
    {"rope": "time", "target_time": False, "ranking_head": False},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_one_batch_can_be_learnt_by_heart(make_model: Make, make_batch: MakeBatch, settings: dict[str, object]) -> None:
    # Every target is told apart by its history once the first event, which has none, is no target.
    model, batch = make_model(**settings).train(), make_batch([6, 6, 5, 4], seed=1)
    events = replace(batch.events, groups=torch.arange(6) * batch.events.valid)
    batch = Batch(events, batch.targets & (torch.arange(6) > 0), batch.wanted, batch.windows)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(100):
        terms = model.loss(batch)
        optimiser.zero_grad()
        sum(terms.values()).backward()
        optimiser.step()
        history.append({name: term.item() for name, term in terms.items()})
    assert set(terms) == {"retrieval", "context"} | ({"point", "pair"} if model.config.ranking_head else set())
    for name in terms:
        start, end = history[0][name], sum(step[name] for step in history[-5:]) / 5
        assert end < start / 3, name


def test_every_parameter_is_trained(make_model: Make, make_batch: MakeBatch) -> None:
    model = make_model()
    sum(model.loss(make_batch([6, 6, 5, 4])).values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


def test_bfloat16_stays_close_to_float32(make_model: Make, make_batch: MakeBatch, make_requests: MakeRequests) -> None:
    # bfloat16 has 8 significant bits: 0.4 % a rounding, a few of them in a row.
    model, batch = make_model(), make_batch([6, 6, 5, 4])
    torch.manual_seed(0)
    exact = model.loss(batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model.loss(batch)
        logits = model.rank_logits(make_requests(LENGTHS, Task.SEARCH), CANDIDATES)
    sum(rounded.values()).backward()
    assert logits.dtype == torch.float32
    for name, term in exact.items():
        assert rounded[name].dtype == torch.float32
        assert rounded[name].item() == pytest.approx(term.item(), rel=0.05)


def test_first_scores_are_small(make_view: MakeView, make_requests: MakeRequests) -> None:
    # Vectors of std 0.02·√2 against a normalised output of 64 numbers: about 8 · 0.028 = 0.23.
    torch.manual_seed(0)
    model = SynerGen(make_view()).eval()
    scores = model.score(make_requests(LENGTHS, Task.SEARCH), torch.arange(1, 21))
    assert 0.05 < scores.std().item() < 1


def test_a_checkpoint_restores_the_answers(make_model: Make, make_requests: MakeRequests) -> None:
    model, requests = make_model(), make_requests(LENGTHS, Task.SEARCH)
    other = make_model()
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(model.state_dict())
    for ours, theirs in zip(answers(model, requests), answers(other, requests), strict=True):
        assert torch.equal(ours, theirs)


def test_what_is_missing_is_named(make_model: Make, make_view: MakeView, make_requests: MakeRequests) -> None:
    textless = make_view(text=False)
    with pytest.raises(UserError, match="setting 'inputs' is 'both'"):
        SynerGen(textless)
    with pytest.raises(UserError, match="two or more"):
        SynerGen(make_view(n_items=1))
    model = make_model(textless, inputs="id", ranking_head=False)
    model.user_vectors(make_requests(LENGTHS, Task.RECOMMENDATION))
    with pytest.raises(UserError, match="query text vectors"):
        model.user_vectors(make_requests(LENGTHS, Task.SEARCH))
    with pytest.raises(UserError, match="encode the query texts"):
        model.hold_queries(["", "red"], None)
    with pytest.raises(UserError, match="no ranking head"):
        model.rank_logits(make_requests(LENGTHS, Task.RECOMMENDATION), CANDIDATES)


def test_text_is_read_for_items_of_text_and_for_search() -> None:
    only_feed, search = frozenset({Task.RECOMMENDATION}), frozenset({Task.SEARCH})
    assert SynerGen.reads_text({}, only_feed)
    assert not SynerGen.reads_text({"inputs": "id"}, only_feed)
    assert SynerGen.reads_text({"inputs": "id"}, search)
