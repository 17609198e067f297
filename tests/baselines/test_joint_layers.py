"""Layers of the joint models against plain loops over their definitions."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from baselines.joint_layers import MIN_TEMPERATURE, QueryItemAlignment, TargetAttention, UserTable, perceptron
from baselines.sesrec import SESRec
from baselines.unified_ssr import UnifiedSSR
from baselines.unisar import UniSAR
from synergen.contract import DataView, Requests, Task


@pytest.mark.parametrize("model", [SESRec, UnifiedSSR, UniSAR])
def test_users_are_alike_where_they_have_no_vectors(
    model: type[SESRec | UnifiedSSR | UniSAR],
    make_view: Callable[..., DataView],
    make_requests: Callable[..., Requests],
) -> None:
    """Two users, of one history, and a stranger."""
    view = replace(make_view(12), n_users=3)
    asked = replace(make_requests([[1, 2, 3]] * 3, Task.RECOMMENDATION), users=torch.tensor([1, 3, 0]))
    for kept in (True, False):
        made = model(view, user_vectors=kept, dropout=0.0).eval()
        scores = made.score(asked, torch.arange(1, 13))
        assert torch.allclose(scores[0], scores[1]) is not kept
        assert torch.allclose(scores[1], scores[2]) is not kept
        assert len(made.users.weight) == (4 if kept else 1)


def test_users_without_vectors_are_strangers() -> None:
    users = torch.tensor([0, 2, 1])
    kept, left_out = UserTable(2, 3, learnt=True)(users), UserTable(2, 3, learnt=False)(users)
    assert (kept == 0).all(1).tolist() == [True, False, False]
    assert left_out.shape == (3, 3)
    assert not left_out.any()


def test_target_attention_weighs_events_by_the_candidate():
    attention = TargetAttention(3, 2)
    history, candidates = torch.randn(2, 4, 3), torch.randn(2, 5, 2)
    valid = torch.tensor([[True, True, False, False], [False] * 4])
    pooled = attention(history, valid, candidates)
    for c in range(5):
        logits = torch.stack([history[0, t] @ attention.weight @ candidates[0, c] for t in range(2)])
        torch.testing.assert_close(pooled[0, c], logits.softmax(0) @ history[0, :2])
    assert (pooled[1] == 0).all()


def test_alignment_contrasts_both_ways():
    alignment = QueryItemAlignment(3, 2, temperature=0.5)
    queries, items, others, asked = torch.randn(4, 3), torch.randn(4, 2), torch.randn(6, 2), torch.randn(7, 3)
    total = 0.0
    for query, item in zip(queries, items, strict=True):

        def logit(q: torch.Tensor, i: torch.Tensor) -> float:
            return math.tanh((q @ alignment.weight @ i).item()) / 0.5

        same = math.exp(logit(query, item))
        total -= math.log(same / (same + sum(math.exp(logit(query, other)) for other in others)))
        total -= math.log(same / (same + sum(math.exp(logit(other, item)) for other in asked)))
    torch.testing.assert_close(alignment(queries, items, others, asked), torch.tensor(total / 8))
    assert alignment(queries[:0], items[:0], others, asked).item() == 0


def test_a_temperature_below_nothing_stays_finite():
    alignment = QueryItemAlignment(3, 2, temperature=-1.0)
    inputs = torch.randn(4, 3), torch.randn(4, 2), torch.randn(6, 2), torch.randn(7, 3)
    low = alignment(*inputs)
    alignment.temperature.data.fill_(MIN_TEMPERATURE)
    torch.testing.assert_close(low, alignment(*inputs))


def test_a_perceptron_ends_as_it_is_told():
    kinds = [type(layer).__name__ for layer in perceptron([4, 3, 1], 0.1, last_activation=False)]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear"]
    assert type(perceptron([4, 3], 0.1, last_activation=True)[-1]).__name__ == "Dropout"
