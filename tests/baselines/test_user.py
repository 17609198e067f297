"""USER. Expected values: torch's own transformer encoder over the tokens of one request at a time, with weights copied,
and one MLP over everything side by side, beside the inner products; sessions worked by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines import asked
from baselines.user import USER, sessions
from baselines.user_layers import Comparison, IntentTransformer, Layer
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL: dict[str, Any] = {"width": 8, "ffn_width": 6, "dropout": 0.0, "negatives": 3, "max_history": 9}
HISTORIES = [[3, 1, 4, 1, 5, 9, 2], [2], [6, 5, 3, 5], [], [8, 9, 7, 7]]
EVERYTHING = torch.arange(1, 31)
GAP = 5000
GAPS = torch.tensor([0, 4999, 100, 5000, 0, 7000, 1000, 1])


def build(data: DataView, **settings: Any) -> USER:
    """A model whose every weight shows in the result."""
    torch.manual_seed(3)
    model = USER(data, **SMALL, session_gap_seconds=GAP, **settings).eval()
    for weights in model.parameters():
        nn.init.normal_(weights, std=0.5)
    for table in (model.items, model.words.words, model.types):
        nn.init.zeros_(table.weight[0])
    return model


def uneven(events: Histories) -> Histories:
    """With gaps of all kinds, and with events 1 and 2 of one request."""
    times = (1_500_000_000 + GAPS.cumsum(0))[: events.items.shape[1]] * events.valid
    return replace(events, times=times, groups=(events.groups - (events.groups > 1).long()).clamp(min=0))


@pytest.fixture
def view(make_view: Callable[..., DataView]) -> DataView:
    return make_view()


@pytest.fixture(params=list(Task))
def requests(request: pytest.FixtureRequest, make_requests: Callable[..., Requests]) -> Requests:
    """Of which the first and the last belong to the session of the event before, and the third does not."""
    made = make_requests(HISTORIES, request.param)
    history = uneven(made.history)
    last = history.times.gather(1, (history.lengths - 1).clamp(min=0)[:, None])[:, 0]
    return replace(made, history=history, times=last + torch.tensor([GAP - 1, 0, GAP, 7, 30]))


@pytest.fixture
def batch(make_batch: Callable[..., Batch]) -> Batch:
    made = make_batch([[3, 1, 4, 1, 5, 9, 2, 6], [2, 7], [6, 5, 3, 5, 8]])
    return replace(made, events=uneven(made.events))


def torch_encoder(ours: IntentTransformer, heads: int) -> nn.TransformerEncoder:
    def copied(layer: nn.Module) -> nn.TransformerEncoderLayer:
        assert isinstance(layer, Layer)
        width, hidden = layer.query.out_features, layer.network[0].out_features
        theirs = nn.TransformerEncoderLayer(width, heads, hidden, dropout=0.0, batch_first=True)
        weights = {
            "self_attn.in_proj_weight": torch.cat([layer.query.weight, layer.key_value.weight]),
            "self_attn.in_proj_bias": torch.cat([layer.query.bias, layer.key_value.bias]),
        }
        parts = ("out_proj", layer.output), ("linear1", layer.network[0]), ("linear2", layer.network[-1])
        for name, part in (*parts, *((f"norm{i}", norm) for i, norm in enumerate(layer.norms, start=1))):
            prefix = "self_attn.out_proj" if name == "out_proj" else name
            weights |= {f"{prefix}.{key}": value for key, value in part.state_dict().items()}
        theirs.load_state_dict(weights)
        return theirs

    made = nn.TransformerEncoder(copied(ours.layers[0]), 1, enable_nested_tensor=False)
    made.layers = nn.ModuleList(copied(layer) for layer in ours.layers)
    return made.eval()


def one_mlp(ours: Comparison) -> nn.Sequential:
    """The comparison over [r; c; r₁ ⊙ c; …] side by side."""
    parts = (ours.of_request, ours.of_item, ours.of_products)
    first = nn.Linear(sum(part.in_features for part in parts), ours.of_item.out_features)
    first.load_state_dict({"weight": torch.cat([p.weight for p in parts], dim=1), "bias": ours.of_request.bias})
    return nn.Sequential(first, ours.rest)


def expected_vectors(model: USER, events: Histories, row: int, n: int, time: int, query: int) -> Tensor:
    """(3, D): session intent, history intent and query of a request after the first n events of a row."""

    def query_vector(number: int) -> Tensor:
        words = model.words.numbers[number]
        return model.from_words(model.words.words(words[words > 0]).mean(0))

    asked_for = query_vector(query) if query else model.no_query
    current: list[Tensor] = []
    past: list[Tensor] = []
    groups: dict[str, list[int]] = {"current": [], "past": []}
    in_session, later = True, time
    for at in reversed(range(n)):
        in_session &= later - int(events.times[row, at]) < GAP
        later, led_by = int(events.times[row, at]), int(events.queries[row, at])
        token = model.items.weight[events.items[row, at]] + model.positions.weight[at]
        token = token + (query_vector(led_by) + model.types.weight[2] if led_by else model.types.weight[1])
        (current if in_session else past).insert(0, token)
        groups["current" if in_session else "past"].insert(0, int(events.groups[row, at]))
    intent = asked_for + model.types.weight[3] + model.positions.weight[n]
    for encoder, tokens, name in ((model.session, current, "current"), (model.history, past, "past")):
        group = torch.tensor([*groups[name], 99])
        hidden = group[:, None] <= group  # an event reads those of earlier requests, and itself
        theirs = torch_encoder(encoder, model.settings.heads)
        # In one layer what the events read does not matter: there they read one another.
        mask = hidden & ~torch.eye(len(group), dtype=torch.bool) if len(encoder.layers) > 1 else None
        intent = theirs(torch.stack([*tokens, intent])[None], mask=mask)[0, -1]
        if name == "current":
            session = intent
    return torch.stack([session, intent, asked_for])


@pytest.mark.parametrize("layers", [1, 2])
@torch.no_grad()
def test_scores_are_those_of_one_request_at_a_time(view: DataView, requests: Requests, layers: int) -> None:
    model = build(view, layers=layers)
    history, network = requests.history, one_mlp(model.comparison)
    scores = model.score(requests, EVERYTHING)
    for row in range(len(HISTORIES)):
        n, time, query = (int(column[row]) for column in (history.lengths, requests.times, requests.queries))
        vectors = expected_vectors(model, history, row, n, time, query)
        items = model.items.weight[EVERYTHING]
        features = [vectors.flatten().expand(30, -1), items, *(vector * items for vector in vectors)]
        inner = items @ vectors.T @ model.comparison.weights
        expected = network(torch.cat(features, dim=1))[:, 0] + inner
        torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layers", "recommend_searched"), [(1, False), (2, False), (1, True)])
@torch.no_grad()
def test_the_loss_is_that_of_its_targets_asked_one_by_one(
    view: DataView, batch: Batch, layers: int, recommend_searched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(view, layers=layers, recommend_searched=recommend_searched)
    drawn = torch.randint(1, 31, (31, 3), generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(model, "negatives", lambda targets: torch.cat([targets[:, None], drawn[targets]], dim=1))
    cut, items = asked.cut(batch, recommend_searched=recommend_searched)
    assert len(items) == (22 if recommend_searched else 15)
    read = model._read(cut.history, cut.times[:, None], cut.queries[:, None], cut.history.valid[:, None])[:, 0]
    scores = model.compare(read, model.negatives(items))
    expected = -(scores[:, :1] - scores[:, 1:]).sigmoid().log().mean()
    torch.testing.assert_close(model.loss(batch)["pairwise"], expected)


def test_sessions_end_with_a_long_gap() -> None:
    """Events at 0, 9, 19 and 20 with gaps under 10 in one session: 0 and 9, 19 and 20. Requests before them all, at 9
    after the first, at 19 after the second and at 29 after the last: the last but one is too late, the last is not."""
    times, asked_at = torch.tensor([[0, 9, 19, 20]]), torch.tensor([[0, 9, 19, 29]])
    visible = torch.tensor([0, 1, 2, 4])[None, :, None] > torch.arange(4)
    current, together = sessions(times, asked_at, visible, gap=10)
    wanted = [[False] * 4, [True, False, False, False], [False] * 4, [False, False, True, True]]
    assert (current & visible)[0].tolist() == wanted
    pairs = [[True, True, False, False]] * 2 + [[False, False, True, True]] * 2
    assert together[0].tolist() == pairs


@torch.no_grad()
def test_a_query_without_known_words_is_none(view: DataView, make_requests: Callable[..., Requests]) -> None:
    model = build(view)
    model.hold_queries([*view.query_texts, "unheard of", ""], None)
    search = make_requests(HISTORIES, Task.SEARCH)
    none = model.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING)
    for query in (0, 6, 7):
        scores = model.score(replace(search, queries=torch.full((5,), query)), EVERYTHING)
        torch.testing.assert_close(scores, none)
    known = model.score(search, EVERYTHING)
    assert not torch.allclose(known, none)


def test_so_many_requests_of_a_sequence_are_learnt_from(
    view: DataView, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sequences of 8, 2 and 5 events, all targets: two of either kind of each, or all 15."""
    for most, count in ((2, 10), (0, 15)):
        model = build(view, requests_per_sequence=most)
        seen: list[Tensor] = []
        draw = model.negatives
        monkeypatch.setattr(
            model, "negatives", lambda targets, seen=seen, draw=draw: seen.append(targets) or draw(targets)
        )
        model.loss(batch)
        assert len(seen[0]) == count


def test_what_the_model_cannot_read_is_refused(
    view: DataView, make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    model = build(view)
    with pytest.raises(UserError, match="sequences of 11 events and the model reads 9"):
        model.loss(make_batch([list(range(1, 12))]))
    with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
        model.score(make_requests([[31]], Task.SEARCH), EVERYTHING)
    with pytest.raises(UserError, match="USER: setting 'inputs' is 'both' but the data have no item text vectors"):
        USER(replace(view, item_vectors=None), inputs="both")
    impossible = {"session_gap_seconds": -1, "heads": 3, "inputs": "words", "loss": "hinge", "dropout": 1.0}
    for name, value in impossible.items():
        with pytest.raises(UserError, match=name.removesuffix("s")):
            USER(view, **{name: value})
