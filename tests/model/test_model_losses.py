import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from synergen.model import losses
from synergen.model.losses import full_softmax, infonce, infonce_own, pairwise, pointwise

QUERY = torch.tensor([[1.0, 0.0]])
POSITIVE = torch.tensor([[2.0, 0.0]])
NEGATIVES = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
"""Dot products by hand: the positive has 2, the negatives 0 and 1."""


def by_hand(positive: float, *negatives: float) -> float:
    return math.log(sum(math.exp(s) for s in (positive, *negatives))) - positive


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_infonce_by_hand(temperature: float) -> None:
    expected = by_hand(2 / temperature, 0, 1 / temperature)
    assert infonce(QUERY, POSITIVE, NEGATIVES, temperature).item() == pytest.approx(expected, abs=1e-6)
    assert infonce_own(QUERY, POSITIVE, NEGATIVES[None], temperature).item() == pytest.approx(expected, abs=1e-6)


def test_banned_negatives_do_not_count() -> None:
    banned = torch.tensor([[False, True]])
    for loss, negatives in ((infonce, NEGATIVES), (infonce_own, NEGATIVES[None])):
        assert loss(QUERY, POSITIVE, negatives, 1.0, banned=banned).item() == pytest.approx(by_hand(2, 0), abs=1e-6)


def test_without_a_negative_left_loss_and_gradient_are_zero() -> None:
    for loss, negatives in ((infonce, NEGATIVES), (infonce_own, NEGATIVES[None])):
        query = QUERY.clone().requires_grad_()
        value = loss(query, POSITIVE, negatives, 1.0, banned=torch.ones(1, 2, dtype=torch.bool))
        value.backward()
        assert value.item() == 0
        assert query.grad.tolist() == [[0, 0]]


def test_offsets_repeat_negatives_and_correct_for_popularity() -> None:
    # log 3 makes the first negative count three times; the positive's logit moves by its own offset.
    offsets = torch.tensor([3.0, 1.0]).log()
    value = infonce(QUERY, POSITIVE, NEGATIVES, 1.0, negative_offsets=offsets, positive_offsets=torch.tensor([0.5]))
    assert value.item() == pytest.approx(by_hand(2.5, 0, 0, 0, 1), abs=1e-6)


def test_no_positions_cost_nothing() -> None:
    none = torch.zeros(0, 2)
    assert infonce(none, none, NEGATIVES, 1.0).item() == 0
    assert full_softmax(none, NEGATIVES, torch.zeros(0, dtype=torch.int64), 1.0).item() == 0
    assert pointwise(none, none).item() == pairwise(none, none).item() == 0


def values_and_gradients(value: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return (value, *torch.autograd.grad(3 * value, inputs))


def random_problem(n: int = 11, k: int = 9) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    queries, positives, negatives = (torch.randn(size, 4, generator=g).requires_grad_() for size in (n, n, k))
    return queries, positives, negatives, torch.rand(n, k, generator=g) < 0.3


def test_infonce_equals_torch_cross_entropy_with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reference: autograd through F.cross_entropy over [positive; negatives].
    queries, positives, negatives, banned = random_problem()
    offsets = torch.linspace(-1, 1, 9)
    own = (queries * positives).sum(-1, keepdim=True) / 0.5
    others = (queries @ negatives.T / 0.5 + offsets).masked_fill(banned, -torch.inf)
    reference = F.cross_entropy(torch.cat([own, others], dim=1), torch.zeros(11, dtype=torch.int64))
    expected = values_and_gradients(reference, queries, positives, negatives)
    for max_logits in (1 << 20, 20):  # one chunk, and chunks of two queries
        monkeypatch.setattr(losses, "MAX_LOGITS", max_logits)
        value = infonce(queries, positives, negatives, 0.5, banned=banned, negative_offsets=offsets)
        assert_close(values_and_gradients(value, queries, positives, negatives), expected, atol=1e-5, rtol=1e-5)
    own_negatives = negatives.expand(11, -1, -1)
    plain = infonce_own(queries, positives, own_negatives, 0.5, banned=banned)
    assert_close(plain, infonce(queries, positives, negatives, 0.5, banned=banned), atol=1e-5, rtol=1e-5)


def test_queries_of_a_group_share_what_is_banned(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reference: the groups' rows written out for each query.
    queries, positives, negatives, _ = random_problem()
    banned = torch.tensor([[True, False, False] * 3, [False] * 9, [False, True, True] * 3])
    groups = torch.arange(11) % 3
    monkeypatch.setattr(losses, "MAX_LOGITS", 20)  # chunks of two queries
    together = infonce(queries, positives, negatives, 0.5, banned=banned, groups=groups)
    assert together.item() == infonce(queries, positives, negatives, 0.5, banned=banned[groups]).item()


@pytest.mark.parametrize("max_logits", [1 << 20, 25, 1])
def test_full_softmax_equals_torch_cross_entropy_in_any_chunks(max_logits: int) -> None:
    queries, _, items, _ = random_problem()
    targets = torch.arange(11) % 8 + 1
    reference = F.cross_entropy(queries @ items[1:].T / 0.5, targets - 1)
    value = full_softmax(queries, items, targets, 0.5, max_logits)
    got = values_and_gradients(value, queries, items)
    assert_close(got, values_and_gradients(reference, queries, items), atol=1e-5, rtol=1e-5)
    assert got[2][0].tolist() == [0, 0, 0, 0]  # padding is never scored


def test_full_softmax_stays_finite_at_extreme_logits() -> None:
    # exp overflows float32 beyond 88; a target 2000 below the best costs 2000.
    items = torch.tensor([[0.0], [1000.0], [-1000.0]])
    assert full_softmax(torch.ones(1, 1), items, torch.tensor([2]), 1.0).item() == pytest.approx(2000)


def test_bfloat16_products_stay_close() -> None:
    queries, _, items, _ = random_problem()
    targets = torch.arange(11) % 8 + 1
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = full_softmax(queries, items, targets, 1.0)
    assert value.dtype == torch.float32
    assert_close(value, full_softmax(queries, items, targets, 1.0), atol=0.03, rtol=0.03)


def test_ranking_losses_by_hand() -> None:
    # s = (0, ln 3), clicked the first. BCE: ln 2 and ln(1 + 3), mean 1.5 ln 2. Pair: -ln σ(-ln 3) = ln 4.
    logits, labels = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])
    assert pointwise(logits, labels).item() == pytest.approx(1.5 * math.log(2), abs=1e-6)
    assert pairwise(logits, labels).item() == pytest.approx(math.log(4), abs=1e-6)


def test_pairs_stay_within_their_request() -> None:
    # Request 1 has no negative and so no pair; request 0 has two pairs with differences 1 and 2.
    logits = torch.tensor([[2.0, 1.0, 0.0], [9.0, 9.0, 9.0]])
    labels = torch.tensor([[1, 0, 0], [1, 1, 1]])
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(-2))) / 2
    assert pairwise(logits, labels).item() == pytest.approx(expected, abs=1e-6)
