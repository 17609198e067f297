"""Popularity. Expected values: the counts that the test writes itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from baselines.popularity import Popularity
from synergen.contract import DataView, Requests, Task


@pytest.mark.parametrize("task", list(Task))
def test_scores_are_training_counts_for_everyone(
    task: Task, make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = Popularity(replace(make_view(n_items=4), item_counts=np.array([0, 7, 0, 12_000_001, 3])))
    asked = make_requests([[1, 2], [], [4]], task)
    assert model.score(asked, torch.tensor([3, 1, 4, 2])).tolist() == [[12_000_001, 7, 3, 0]] * 3
    own = torch.tensor([[1, 2], [3, 4], [2, 2]])
    assert model.score(asked, own).tolist() == [[7, 0], [12_000_001, 3], [0, 0]]


def test_nothing_is_learnt(make_view: Callable[..., DataView]) -> None:
    model = Popularity(make_view())
    assert not model.learns
    assert list(model.parameters()) == []
