"""Negatives and losses of single scores. Expected values: definitions, by torch's own functions or by hand."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from baselines.pointwise import Negatives, PointwiseSettings, pointwise
from synergen.errors import UserError

COUNTS = np.array([0, 3, 0, 6, 1])


def shares(sampling: str, target: int, n: int = 40_000) -> np.ndarray:
    settings = PointwiseSettings(negatives=4, sampling=sampling)
    drawn = Negatives(settings, COUNTS)(torch.full((n // 4,), target))
    assert drawn.shape == (n // 4, 5)
    assert (drawn[:, 0] == target).all()
    return np.bincount(drawn[:, 1:].flatten(), minlength=5) / n


@pytest.mark.parametrize("target", [1, 2, 4])
def test_uniform_negatives_are_any_other_item(target):
    expected = np.where(np.arange(5) == target, 0, 1 / 3) * (np.arange(5) > 0)
    np.testing.assert_allclose(shares("uniform", target), expected, atol=0.015)


@pytest.mark.parametrize("target", [1, 3, 4])
def test_popular_negatives_are_as_frequent_as_their_events_and_one(target):
    weight = (COUNTS + 1.0) * (np.arange(5) > 0) * (np.arange(5) != target)
    np.testing.assert_allclose(shares("popular", target), weight / weight.sum(), atol=0.015)


def test_losses_are_their_definitions():
    scores = torch.randn(7, 5)
    labels = torch.zeros(7, 5)
    labels[:, 0] = 1
    close = torch.testing.assert_close
    close(pointwise("bce", scores), F.binary_cross_entropy_with_logits(scores, labels))
    close(pointwise("softmax", scores), F.cross_entropy(scores, torch.zeros(7, dtype=torch.long)))
    close(pointwise("pairwise", scores), -F.logsigmoid(scores[:, :1] - scores[:, 1:]).mean())
    for loss in ("bce", "softmax", "pairwise"):
        assert pointwise(loss, scores[:0]).item() == 0


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(UserError, match="unknown loss 'bpr'"):
        PointwiseSettings(loss="bpr")
    with pytest.raises(UserError, match=r"unknown sampling 'popularity'.*did you mean 'popular'"):
        PointwiseSettings(sampling="popularity")
    with pytest.raises(UserError, match="negatives is 0"):
        PointwiseSettings(negatives=0)
    with pytest.raises(UserError, match="one item has no negatives"):
        Negatives(PointwiseSettings(), np.array([0, 3]))
