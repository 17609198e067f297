"""The losses of sequence models against their definitions, written out one position at a time."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines import objectives
from baselines.objectives import ObjectiveSettings, gbce, objective, positive_power, trained_against
from synergen.errors import UserError

V, D, N, K = 40, 6, 7, 5


@pytest.fixture
def made() -> tuple[Tensor, Tensor, Tensor]:
    """States (N, D), targets (N,) and item vectors (V + 1, D)."""
    rng = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, D, generator=rng),
        torch.randint(1, 6, (N,), generator=rng),
        torch.randn(V + 1, D, generator=rng),
    )


def reader(table: Tensor) -> Callable[[Tensor | None], Tensor]:
    return lambda ids: table if ids is None else F.embedding(ids, table)


@pytest.fixture(params=[True, False], ids=["whole", "fetched"])
def whole(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the negatives of a position are read off the scores of the whole catalogue."""
    monkeypatch.setattr(objectives, "_ITEMS_PER_NEGATIVE", 1000 if request.param else 0)
    return request.param


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce"])
def test_losses_are_their_definitions(
    loss: str,
    similarity: str,
    shared: bool,
    whole: bool,
    made: tuple[Tensor, Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A drawn item that is the target counts for nothing. gBCE: -[β ln σ(s⁺) + Σ ln(1 - σ(s⁻))] / (K + 1),
    where every logit has ln(β / K) more than the similarity."""
    states, targets, table = made
    settings = ObjectiveSettings(loss, K, shared, similarity, temperature=0.7, calibration=0.6)
    drawn = torch.tensor([1, 3, 30, 3, 40]) if shared and loss == "sampled" else torch.arange(1, N * K + 1).view(N, K)
    monkeypatch.setattr(torch, "randint", lambda *args, **options: drawn)
    rate = K / (V - 1)
    beta = rate * (0.6 * (1 - 1 / rate) + 1 / rate)
    losses = []
    for i, target in enumerate(targets.tolist()):
        others = list(range(1, V + 1)) if loss == "softmax" else drawn.expand(N, K)[i].tolist()
        read = torch.tensor([target, *(item for item in others if item != target)])
        vectors, state = table[read], states[i]
        if similarity == "cosine":
            vectors, state = vectors / vectors.norm(dim=1, keepdim=True), state / state.norm()
        logits = vectors @ state / 0.7
        if loss == "gbce":
            logits = logits + math.log(beta / K)
            negative = torch.log(1 - torch.sigmoid(logits[1:])).sum()
            losses.append(-(beta * torch.log(torch.sigmoid(logits[0])) + negative) / (K + 1))
        else:
            losses.append(-logits.log_softmax(0)[0])
    found = objective(settings, states, targets, reader(table), V)
    torch.testing.assert_close(found, torch.stack(losses).mean(), rtol=1e-5, atol=1e-6)


def test_calibration_of_gbce_runs_from_bce_to_the_sampling_rate() -> None:
    """As the paper says: β is 1 at t = 0 and α = K / (V - 1) at t = 1. One positive of logit 0 costs β ln 2."""
    positive, negative = torch.zeros(1), torch.full((1, 4), -math.inf)
    for calibration, power in ((0.0, 1.0), (1.0, 4 / 16), (0.5, (1 + 4 / 16) / 2)):
        assert positive_power(4, 17, calibration) == pytest.approx(power)
        assert gbce(positive, negative, power).item() == pytest.approx(power * math.log(2) / 5)


def test_gbce_starts_where_a_model_that_tells_no_items_apart_is_at_rest() -> None:
    """With all similarities 0, a move of all logits alike gains nothing: the gradient of the loss along it is
    -β (1 - σ) + K σ = 0 at σ = β / (β + K)."""
    shift = torch.zeros(1, requires_grad=True)
    states = torch.ones(N, 1)
    targets = torch.full((N,), V + 1)  # never drawn
    table = shift.expand(V + 2, 1)
    objective(ObjectiveSettings("gbce", K), states, targets, reader(table), V).backward()
    assert shift.grad.abs().item() < 1e-6


@pytest.mark.parametrize("loss", ["softmax", "sampled", "gbce"])
def test_nothing_to_predict_costs_nothing(loss: str, made: tuple[Tensor, Tensor, Tensor]) -> None:
    states = made[0][:0].requires_grad_()
    found = objective(ObjectiveSettings(loss), states, made[1][:0], reader(made[2]), V)
    found.backward()
    assert found.item() == 0.0


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("loss", ["sampled", "gbce"])
def test_negatives_are_uniform_over_the_items(
    loss: str, shared: bool, made: tuple[Tensor, Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """20,000 draws or more of 4 items: each has a share of 1/4 with a standard deviation of .003; never padding."""
    monkeypatch.setattr(objectives, "_ITEMS_PER_NEGATIVE", 0)
    seen: list[Tensor] = []

    def items(ids: Tensor | None) -> Tensor:
        assert ids is not None
        seen.append(ids)
        return F.embedding(ids, made[2])

    torch.manual_seed(0)
    objective(ObjectiveSettings(loss, negatives=20_000, shared_negatives=shared), made[0], made[1] % 4 + 1, items, 4)
    shares = torch.bincount(seen[1].flatten()) / seen[1].numel()
    torch.testing.assert_close(shares, torch.tensor([0, 0.25, 0.25, 0.25, 0.25]), rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "all items"),
        ({"loss": "sampled", "negatives": 2048}, "2,048 a batch"),
        ({"loss": "sampled", "shared_negatives": False}, "512 a position"),
        ({"loss": "gbce", "negatives": 256, "calibration": 0.5}, "256 a position, gBCE t = 0.5"),
    ],
)
def test_a_reader_is_told_what_a_positive_stands_against(settings: dict[str, Any], said: str) -> None:
    assert trained_against(settings) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"loss": "softmaxx"}, "did you mean 'softmax'"),
        ({"similarity": "cos"}, "unknown similarity 'cos'"),
        ({"negatives": 0}, "negatives is 0; it must be 1 or more"),
        ({"temperature": 0.0}, "temperature is 0.0; it must be more than 0"),
        ({"calibration": 1.5}, "calibration is 1.5; it must be 0 or more, and 1 at most"),
    ],
)
def test_impossible_objectives_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ObjectiveSettings(**settings)
