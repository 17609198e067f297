"""Targets as requests. Expected rows are written out by hand from the groups of the events."""

from dataclasses import replace

import pytest
import torch

from baselines.asked import Asked, cut
from synergen.contract import Task


@pytest.fixture
def batch(make_batch):
    """Events 3, 1 | 4 1 | 5 of one request each but for the pair in the middle; a second, short sequence."""
    found = make_batch([[3, 1, 4, 2, 5], [7, 8]])
    groups = torch.tensor([[0, 1, 2, 2, 3], [0, 1, 0, 0, 0]])
    return replace(found, events=replace(found.events, groups=groups), users=torch.tensor([11, 12]))


def test_each_target_reads_the_events_of_earlier_requests(batch):
    """Events 1, 2 and 8 were searched for; recommendations come first."""
    asked, items = cut(batch)
    assert items.tolist() == [3, 4, 5, 7, 1, 2, 8]
    assert asked.history.lengths.tolist() == [0, 2, 4, 0, 1, 2, 1]
    assert asked.history.items.tolist() == [
        [0, 0, 0, 0],
        [3, 1, 0, 0],
        [3, 1, 4, 2],
        [0, 0, 0, 0],
        [3, 0, 0, 0],
        [3, 1, 0, 0],
        [7, 0, 0, 0],
    ]
    assert asked.users.tolist() == [11, 11, 11, 12, 11, 11, 12]
    places = ([0, 0, 0, 1, 0, 0, 1], [0, 2, 4, 0, 1, 3, 1])
    assert torch.equal(asked.queries, batch.events.queries[places])
    assert torch.equal(asked.times, batch.events.times[places])
    assert asked.searches.tolist() == [False] * 4 + [True] * 3


def test_what_was_searched_for_is_recommended_too(batch):
    plain, both = cut(batch), cut(batch, recommend_searched=True)
    assert both[1].tolist() == [3, 1, 4, 2, 5, 7, 8, 1, 2, 8]
    assert both[0].searches.tolist() == [False] * 7 + [True] * 3
    assert torch.equal(both[0].queries[7:], plain[0].queries[4:])
    assert both[0].history.lengths.tolist() == [0, 1, 2, 2, 4, 0, 1, 1, 2, 1]


def test_only_targets_are_asked_about(batch):
    targets = batch.targets.clone()
    targets[0, :3] = False
    assert cut(replace(batch, targets=targets))[1].tolist() == [5, 7, 2, 8]
    nobody, items = cut(replace(batch, targets=torch.zeros_like(targets)))
    assert items.numel() == 0
    assert nobody.history.items.shape == (0, 1)


def test_so_many_targets_of_a_sequence_at_random(batch):
    """Of the long sequence both searches (the events 1 and 2) always come, and 2 of the 3 others, each about equally
    often over many draws: 2/3 of 1000 ± 5 σ. The short one has one of each kind."""
    counts = torch.zeros(9)
    for _ in range(1000):
        items = cut(batch, most=2)[1]
        assert len(items) == 6
        counts[items] += 1
    assert counts[[1, 2, 7, 8]].tolist() == [1000] * 4
    assert (counts[[3, 4, 5]] - 2000 / 3).abs().max() < 5 * (1000 * 2 / 9) ** 0.5


def test_requests_of_a_recommendation_have_no_query(make_requests):
    searches, others = (make_requests([[1], [2]], task) for task in (Task.SEARCH, Task.RECOMMENDATION))
    assert Asked.of(searches).queries.tolist() == [1, 2]
    assert Asked.of(replace(searches, task=Task.RECOMMENDATION)).queries.tolist() == [0, 0]
    assert Asked.of(others).users.tolist() == [0, 0]
    assert Asked.of(replace(others, users=torch.tensor([4, 0]))).users.tolist() == [4, 0]
