"""HSTU by hand: its layer written out number by number from equations 1-3 of the paper, and its edges."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import registry
from baselines.hstu import HSTU
from baselines.hstu_layers import HSTULayer, Pairs
from synergen.contract import Batch, DataView, Requests, Task
from synergen.errors import UserError

SMALL = {"width": 8, "heads": 2, "qk_width": 3, "v_width": 5, "dropout": 0.0, "max_history": 9}
N = 9 + 11
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5]]
EVERYTHING = torch.arange(31)
TIMES = torch.tensor([[0, 0, 40, 4000, 90_000], [7, 8, 8, 3_000_000, 3_000_001]]) + 1_500_000_000  # (B, T + 1)


def layer(bias: str, seed: int = 0) -> HSTULayer:
    """D = 6, two heads of dqk = 3 and dv = 2, with weights so large that every term shows."""
    torch.manual_seed(seed)
    made = HSTULayer(6, 2, 3, 2, dropout=0.0, positions=N, bias=bias).double()
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.7)
    return made


def written_out(made: HSTULayer, x: Tensor, times: Tensor) -> Tensor:
    """(B, T, D), each row of attention as a sum over the events before it; times (B, T + 1)."""
    rows = []
    for b in range(x.shape[0]):
        parts = F.silu(F.layer_norm(x[b], (6,), eps=1e-6) @ made.projection)  # (T, 2 x 2 x 2 + 2 x 2 x 3)
        u, v, q, k = parts[:, :4], parts[:, 4:8], parts[:, 8:14], parts[:, 14:]
        for i in range(x.shape[1]):
            heads = []
            for m in range(2):
                total = torch.zeros(2, dtype=x.dtype)
                for j in range(i + 1):
                    score = q[i, 3 * m : 3 * m + 3] @ k[j, 3 * m : 3 * m + 3]
                    if made.bias.position is not None:
                        score = score + made.bias.position[j - i + N - 1]
                    if made.bias.time is not None:
                        seconds = abs(int(times[b, i + 1] - times[b, j]))
                        score = score + made.bias.time[int(math.log(max(1, seconds)) / 0.301)]
                    total = total + score * torch.sigmoid(score) / N * v[j, 2 * m : 2 * m + 2]
                heads.append(total)
            mixed = F.layer_norm(torch.cat(heads), (4,), eps=1e-6)
            rows.append(x[b, i] + made.output(u[i] * mixed))
    return torch.stack(rows).view(x.shape)


@pytest.mark.parametrize("bias", ["both", "time", "position", "none"])
def test_layer_and_its_gradients_are_those_written_out(bias: str) -> None:
    made = layer(bias)
    x = torch.randn(2, 4, 6, dtype=torch.float64, requires_grad=True)
    results = []
    for outputs in (made(x, Pairs.of(TIMES[:, :-1], TIMES[:, 1:], N)), written_out(made, x, TIMES)):
        gradients = torch.autograd.grad(outputs.sin().sum(), [x, *made.parameters()])
        results.append([outputs, *gradients])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_bias_tables_of_zero_are_no_bias() -> None:
    both, none = layer("both"), layer("none")
    none.load_state_dict({name: value for name, value in both.state_dict().items() if not name.startswith("bias")})
    x, pairs = torch.randn(2, 4, 6, dtype=torch.float64), Pairs.of(TIMES[:, :-1], TIMES[:, 1:], N)
    assert not torch.allclose(both(x, pairs), none(x, pairs))
    for table in both.bias.parameters():
        torch.nn.init.zeros_(table)
    assert torch.equal(both(x, pairs), none(x, pairs))


def test_buckets_of_time() -> None:
    """ln(seconds) / 0.301 rounded down, by a calculator: 2 s 2.3, 60 s 13.6, an hour 27.2, a day 37.8, ten years 65.01;
    the sign does not count, and 3e17 s (133.7) are capped."""
    later = torch.tensor([[0, 1, 2, 60, -60, 3600, 86_400, 315_360_000, 3 * 10**17]])
    buckets = Pairs.of(torch.zeros_like(later), later, N).buckets
    assert buckets[0, :, 0].tolist() == [0, 0, 2, 13, 13, 27, 37, 65, 128]


def test_the_last_event_is_read_by_the_time_of_the_request(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """As if an event of that time followed; without the bias of time nobody asks when it is."""
    asked = make_requests(HISTORIES, Task.RECOMMENDATION)
    later = replace(asked, times=asked.times + 10**6)
    for bias, moves in (("both", True), ("time", True), ("position", False), ("none", False)):
        torch.manual_seed(0)
        model = HSTU(make_view(), **SMALL, bias=bias).eval()
        for each in model.layers:
            torch.nn.init.normal_(each.projection)
        assert torch.equal(model.user_vectors(asked), model.user_vectors(later)) is not moves
        x, times = model._inputs(asked.history.items[:1]), asked.history.times[:1]
        follows = torch.cat([times[:, 1:], later.times[:1, None]], dim=1)
        expected = F.normalize(model.states(x, times, follows)[0, -1], dim=0)
        torch.testing.assert_close(model.user_vectors(later)[0], expected, rtol=0, atol=1e-6)


def test_without_the_next_time_an_event_is_read_at_its_own(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    """As if each next event came at once; when the last one comes moves neither the user nor the loss."""
    torch.manual_seed(0)
    model = HSTU(make_view(), **SMALL, next_time=False).eval()
    for each in model.layers:
        torch.nn.init.normal_(each.projection)
    asked, batch = make_requests(HISTORIES, Task.RECOMMENDATION), make_batch(HISTORIES)
    assert torch.equal(model.user_vectors(asked), model.user_vectors(replace(asked, times=asked.times + 10**6)))
    last = torch.arange(batch.events.items.shape[1]) == batch.events.lengths[:, None] - 1  # (B, T)
    delayed = replace(batch, events=replace(batch.events, times=batch.events.times + 10**6 * last))
    told = HSTU(make_view(), **SMALL)
    told.load_state_dict(model.state_dict())
    torch.manual_seed(1)
    loss = model.loss(batch)["sampled"]
    torch.manual_seed(1)
    assert torch.equal(model.loss(delayed)["sampled"], loss)
    torch.manual_seed(1)
    assert not torch.equal(told.eval().loss(delayed)["sampled"], loss)
    x, times = model._inputs(asked.history.items[:1]), asked.history.times[:1]
    torch.testing.assert_close(model.states(x, times, times + 99), told.states(x, times, times), rtol=0, atol=0)


def test_full_softmax_of_inner_products(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    """By torch's cross-entropy over the scores of the prefixes, the first event of a row left out."""
    model = HSTU(make_view(), **SMALL, loss="softmax", similarity="dot", temperature=1.0).eval()
    batch = make_batch(HISTORIES)
    events = batch.events
    states = model.states(model._inputs(events.items[:, :-1]), events.times[:, :-1], events.times[:, 1:])
    logits = (states @ model.items.weight[1:].T)[events.valid[:, 1:]]
    expected = F.cross_entropy(logits, torch.tensor([item - 1 for row in HISTORIES for item in row[1:]]))
    torch.testing.assert_close(model.loss(batch)["softmax"], expected, rtol=0, atol=1e-6)


def test_weights_begin_as_the_authors(make_view: Callable[..., DataView]) -> None:
    """Deviations of their initialisers: items 0.02 cut at two deviations (x 0.88), positions √(2 / (N + D)),
    projection and biases 0.02, output √(2 / (fan in + fan out))."""
    torch.manual_seed(0)
    model = HSTU(make_view(3000))
    first = model.layers[0]
    found = {
        "items": model.items.weight[1:], "positions": model.positions, "projection": first.projection,
        "position bias": first.bias.position, "time bias": first.bias.time, "output": first.output.weight,
    }  # fmt: skip
    expected = {
        "items": (150_000, 0.0176), "positions": (211 * 50, (2 / 261) ** 0.5), "projection": (50 * 200, 0.02),
        "position bias": (421, 0.02), "time bias": (129, 0.02), "output": (2500, 0.02**0.5),
    }  # fmt: skip
    for name, (count, deviation) in expected.items():
        assert found[name].numel() == count
        # Of n normal numbers the deviation is known to 1 / √(2 n); four of those.
        assert found[name].std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * count) + 0.002), name
    assert not model.items.weight[0].any()


@pytest.mark.parametrize("name", ["HSTU", "SASRec-HSTU"])
def test_an_empty_history_ties_all_items(
    name: str, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = registry.build(name, make_view(), {}).eval()
    scores = model.score(make_requests([[], [1]], Task.RECOMMENDATION), EVERYTHING)
    assert scores[0].tolist() == [0.0] * 31
    assert scores[1].unique().numel() > 1


@pytest.mark.parametrize("name", ["HSTU", "SASRec-HSTU"])
def test_sequences_beyond_max_history_are_refused(
    name: str, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = registry.build(name, make_view(), {"max_history": 3})
    assert model.loss(make_batch([[1, 2, 3, 4]]))["sampled"].isfinite()
    with pytest.raises(UserError, match="sequences of 5 events and the model reads 3"):
        model.loss(make_batch([[1, 2, 3, 4, 5]]))


@pytest.mark.parametrize("name", ["HSTU", "SASRec-HSTU"])
def test_items_beyond_the_table_are_refused(
    name: str,
    make_view: Callable[..., DataView],
    make_batch: Callable[..., Batch],
    make_requests: Callable[..., Requests],
) -> None:
    model = registry.build(name, make_view(30), {})
    with pytest.raises(UserError, match="item 31 and the model knows items 1 to 30"):
        model.loss(make_batch([[1, 2], [3, 31]]))
    with pytest.raises(UserError, match="item 99"):
        model.score(make_requests([[1, 99]], Task.RECOMMENDATION), EVERYTHING)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("HSTU", {"bias": "tme"}, "unknown bias 'tme': did you mean 'time'"),
        ("HSTU", {"qk_width": 0}, "qk_width is 0; it must be 1 or more"),
        ("HSTU", {"dropout": 1.0}, "less than 1"),
        ("HSTU", {"loss": "softmx"}, "unknown loss 'softmx': did you mean 'softmax'"),
        ("SASRec-HSTU", {"ffn_width": 0}, "ffn_width is 0; it must be 1 or more"),
        ("SASRec-HSTU", {"heads": 3}, "width is 50; it must be a multiple of heads, which is 3"),
    ],
)
def test_impossible_settings_of_the_family_are_refused(
    name: str, settings: dict[str, object], said: str, make_view: Callable[..., DataView]
) -> None:
    with pytest.raises(UserError, match=said):
        registry.build(name, make_view(), settings)


def test_readers_learn_what_a_positive_stood_against() -> None:
    """The reference's own words: 128 negatives for each position."""
    assert HSTU.trained_against({"loss": "sampled", "negatives": 128, "shared_negatives": False}) == "128 a position"
