"""Leave-one-out, pools, training windows and requests against plain loops over users."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import toy_tables

from synergen.contract import Task
from synergen.data.batches import (
    asked_users,
    gather,
    history_pairs,
    questions,
    training_batches,
    training_windows,
)
from synergen.data.candidates import pools
from synergen.data.dataset import prepare
from synergen.data.kinds import uniform_hash
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.events import validate


def test_leave_one_out_counts_training_events_only(toy):
    log, split = toy.log, toy.split
    expected = np.zeros(log.n_items + 1, dtype=int)
    for user in range(log.n_users):
        events = range(log.offsets[user], log.offsets[user + 1])
        assert split.targets(Part.TEST)[user] == events[-1]
        assert split.targets(Part.VALID)[user] == events[-2]
        assert split.train_ends()[user] == events[-2]
        for event in events[:-2]:
            expected[log.items[event]] += 1
    assert split.item_counts().tolist() == expected.tolist()


def test_pools_hold_the_positive_and_distinct_untouched_items(toy):
    pool = pools(toy.log, toy.split, Part.TEST, Task.SEARCH, seed=3)
    assert pool.shape == (toy.log.n_users, 100)
    for user, row in enumerate(pool):
        touched = set(toy.log.items[toy.log.offsets[user] : toy.log.offsets[user + 1]].tolist())
        assert row[0] == toy.log.items[toy.log.offsets[user + 1] - 1]
        assert len(set(row.tolist())) == 100
        assert not touched & set(row[1:].tolist())


def test_pools_are_fixed_by_data_part_task_and_seed(toy):
    def draw(part=Part.TEST, task=Task.SEARCH, seed=3):
        return pools(toy.log, toy.split, part, task, seed)

    assert (draw() == draw()).all()
    for other in (draw(part=Part.VALID), draw(task=Task.RECOMMENDATION), draw(seed=4)):
        assert (other[:, 1:] != draw()[:, 1:]).any()


def test_negatives_are_uniform_over_untouched_items(toy):
    # each of the E eligible items is drawn with probability 99 / E; 400 seeds, 5 standard errors
    log, draws = toy.log, 400
    eligible = np.setdiff1d(np.arange(1, log.n_items + 1), log.items[: log.offsets[1]])
    counts = np.zeros(log.n_items + 1)
    for seed in range(draws):
        counts[pools(log, toy.split, Part.TEST, Task.RECOMMENDATION, seed)[0, 1:]] += 1
    p = 99 / len(eligible)
    assert np.abs(counts[eligible] / draws - p).max() < 5 * np.sqrt(p * (1 - p) / draws)


def test_a_pool_larger_than_the_catalogue_is_refused():
    dataset = prepare(validate(*toy_tables(items=60), "small", "small"), search_share=0.5)
    with pytest.raises(UserError, match="99 negatives"):
        pools(dataset.log, dataset.split, Part.TEST, Task.SEARCH, 0)


@given(st.integers(1, 12))
def test_every_training_event_is_a_target_once_with_as_much_history_as_fits(max_history):
    dataset = prepare(validate(*toy_tables(), "toy", "toy"), search_share=0.0)
    log, split = dataset.log, dataset.split
    windows = training_windows(split, max_history)
    seen = np.zeros(log.n_events, dtype=int)
    for start, stop, first in zip(windows.starts, windows.stops, windows.first_targets, strict=True):
        user = log.users[start]
        assert log.offsets[user] <= start <= first < stop <= split.train_ends()[user]
        assert stop - start <= max_history + 1
        seen[first:stop] += 1
        if start > log.offsets[user]:  # a later window: each target has at least half of max_history before it
            assert first - start >= max_history // 2
    train = np.concatenate([np.arange(a, b) for a, b in zip(log.offsets[:-1], split.train_ends(), strict=True)])
    assert (seen[train] == 1).all()
    assert seen.sum() == len(train)


def test_batches_cover_an_epoch_and_carry_nearly_equal_numbers_of_targets(toy):
    windows = training_windows(toy.split, 4)
    batches = list(training_batches(toy.log, windows, 8, np.random.default_rng(0)))
    counts = [int(batch.targets.sum()) for batch in batches]
    assert sum(counts) == windows.target_counts.sum()
    budget = 8 * windows.target_counts.mean()
    assert max(counts) <= budget + windows.target_counts.max()
    again = list(training_batches(toy.log, windows, 8, np.random.default_rng(0)))
    assert all(torch.equal(a.events.items, b.events.items) for a, b in zip(batches, again, strict=True))


def test_gather_pads_on_the_right_and_hides_the_query_of_feed_events(toy):
    log = toy.log
    history = gather(log, np.array([0, 3, 5]), np.array([3, 3, 6]))
    assert history.items.shape == (3, 3)
    assert history.lengths.tolist() == [3, 0, 1]
    assert history.items[0].tolist() == log.items[:3].tolist()
    assert history.items[1].tolist() == [0, 0, 0]
    assert history.items[2].tolist() == [log.items[5], 0, 0]
    expected = [q if s else 0 for q, s in zip(log.queries[:3], log.searched[:3], strict=True)]
    assert history.queries[0].tolist() == expected


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("task", list(Task))
def test_a_request_sees_what_was_before_its_target_and_nothing_else(toy, part, task):
    log = toy.log
    asked = []
    for question in questions(log, toy.split, part, task, max_history=4, batch_size=7):
        for row, user in enumerate(question.users):
            target = toy.split.targets(part)[user]
            history = log.items[max(log.offsets[user], target - 4) : target].tolist()
            length = int(question.requests.history.lengths[row])
            assert question.requests.history.items[row, :length].tolist() == history
            assert question.requests.times[row] == log.times[target]
            assert question.targets[row] == log.items[target]
            assert question.requests.queries[row] == (log.queries[target] if task is Task.SEARCH else 0)
            asked.append(user)
    assert sorted(asked) == asked_users(log, toy.split, part, task).tolist()


def test_history_pairs_list_all_that_was_touched_before(toy):
    log = toy.log
    users = np.array([4, 1])
    rows, items = history_pairs(log, users, toy.split.targets(Part.TEST)[users])
    for row, user in enumerate(users):
        assert items[rows == row].tolist() == log.items[log.offsets[user] : log.offsets[user + 1] - 1].tolist()


def test_kinds_are_drawn_once_with_the_stated_share():
    many = uniform_hash(np.arange(200_000), salt=2)
    assert abs((many < 0.3).mean() - 0.3) < 0.005  # five standard errors of a share of 200,000
    assert (uniform_hash(np.arange(5), 2) == many[:5]).all()
    none, everything = (prepare(validate(*toy_tables(), "t", "t"), share).log for share in (0.0, 1.0))
    assert not none.searched.any()
    assert (everything.searched == (everything.queries > 0)).all()
    assert (none.queries == everything.queries).all()
