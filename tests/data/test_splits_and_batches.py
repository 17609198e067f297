"""Splits, pools, training windows and requests by hand and against plain loops over users."""

import hashlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import toy_tables

from benchmarks.evaluator import PoolEvaluator
from benchmarks.views import View
from synergen.contract import Task
from synergen.data.batches import (
    gather,
    history_pairs,
    questions,
    training_batches,
    training_windows,
)
from synergen.data.candidates import pools
from synergen.data.dataset import prepare
from synergen.data.kinds import uniform_hash
from synergen.data.splits import DAY, LastN, LeaveOneOut, Part, PerTask, TimePoint, parse_split
from synergen.errors import UserError
from synergen.evaluation.intervals import interval
from synergen.evaluation.slates import SlateRanks
from synergen.events import EventLog, number_events
from synergen.raw import validate


def log_of(*rows: tuple[str, int, float, str]) -> EventLog:
    """A log of (user, item, day, query)."""
    frame = pd.DataFrame(rows, columns=["user", "item", "ts", "query"])
    frame["ts"] = (frame["ts"] * DAY).astype(int)
    return number_events(validate(frame, None, "hand", "hand"))


NAMES = ["leave-one-out", "last-1", "last-2", "point-10", "point-20+1d"]


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


def test_last_n_by_hand():
    """Of 7 events 2 test, 2 validate, 3 train; a user of 4 events has fewer than 5, and only trains."""
    rows = [("a", day, day, "q" if day == 6 else "") for day in range(1, 8)]
    split = LastN(log_of(*rows, *(("b", day, day, "") for day in range(1, 5))), 2)
    assert split.train_ends().tolist() == [3, 11]
    assert split.questions(Part.VALID, Task.RECOMMENDATION).tolist() == [3, 4]
    assert split.questions(Part.TEST, Task.RECOMMENDATION).tolist() == [5, 6]
    assert split.questions(Part.TEST, Task.SEARCH).tolist() == [5]  # the event of day 6
    assert split.item_counts().tolist() == [0, 2, 2, 2, 1, 0, 0, 0]
    with pytest.raises(UserError, match=r"no user has the 9 events"):
        LastN(split.log, 4)


@pytest.mark.parametrize(
    ("gap_days", "valid", "test"),
    # sorted by day: 0 0 1 2 3 4 | 5 6 7 | 8 9 10, so validation begins at day 5 and the test at day 8
    [(0, [8, 10], [4, 11]), (1, [8], [4, 11]), (2, [8], [11])],
)
def test_time_point_by_hand(gap_days, valid, test):
    """a has the days 0 1 2 8 9 (events 0 to 4), b 0 3 6 7 (5 to 8), c 4 5 10 (9 to 11)."""
    days = {"a": (0, 1, 2, 8, 9), "b": (0, 3, 6, 7), "c": (4, 5, 10)}
    log = log_of(*((user, 1, day, "") for user, own in days.items() for day in own))
    split = TimePoint(log, 0.25, gap_days)
    assert split.points == (5 * DAY, 8 * DAY)
    assert split.train_ends().tolist() == [3, 7, 10]
    assert split.questions(Part.VALID, Task.RECOMMENDATION).tolist() == valid
    assert split.questions(Part.TEST, Task.RECOMMENDATION).tolist() == test
    with pytest.raises(UserError, match="nothing to ask about in the valid part"):
        TimePoint(log, 0.25, 3)  # day 5 + 3 is the test
    with pytest.raises(UserError, match="nothing to train on"):
        TimePoint(log, 0.49, 0)  # 6 of 12 events for each part


@pytest.mark.parametrize(("share", "gap_days"), [(0.1, 0), (0.2, 1), (0.3, 2)])
def test_time_point_is_that_of_the_plain_loop_and_learns_nothing_of_the_future(toy, share, gap_days):
    log, split = toy.log, TimePoint(toy.log, share, gap_days)
    held = round(share * log.n_events)
    ordered = sorted(log.times.tolist())
    bounds = [ordered[-2 * held], ordered[-held], ordered[-1] + 1]
    for part, (begin, end) in zip(Part, [bounds[:2], bounds[1:]], strict=True):
        expected = []
        for user in range(log.n_users):
            before = [e for e in range(log.offsets[user], log.offsets[user + 1]) if log.times[e] < end]
            if len(before) > 1 and log.times[before[-1]] >= begin + gap_days * DAY:
                expected.append(before[-1])
        assert split.questions(part, Task.RECOMMENDATION).tolist() == expected
        assert log.times[split.trains()].max() < log.times[expected].min()
    everyone = LeaveOneOut(log).questions(Part.TEST, Task.RECOMMENDATION)
    assert set(split.questions(Part.TEST, Task.RECOMMENDATION)) < set(everyone)


@pytest.fixture
def twice() -> EventLog:
    """Purchases as feed event and as search: of a in the order of the published construction, of b two feed events."""
    a = [("a", 1, 1, ""), ("a", 1, 1, "q1"), ("a", 2, 2, ""), ("a", 3, 2, ""), ("a", 2, 2, "q2"), ("a", 3, 2, "q3")]
    a += [("a", 4, 3, ""), ("a", 4, 3, "q4")]
    b = [("b", 1, 1, ""), ("b", 1, 1, "q1"), ("b", 2, 2, ""), ("b", 2, 2, "q2"), ("b", 3, 3, "q3")]
    return log_of(*a, *b)


def test_per_task_asks_for_the_last_event_of_each_kind(twice):
    """Feed events are 0 2 3 6 of a, and 8 10 of b, too few; searches 1 4 5 7 of a, and 9 11 12 of b."""
    split = PerTask(twice)
    assert split.questions(Part.TEST, Task.RECOMMENDATION).tolist() == [6]
    assert split.questions(Part.VALID, Task.RECOMMENDATION).tolist() == [3]
    assert split.questions(Part.TEST, Task.SEARCH).tolist() == [7, 12]
    assert split.questions(Part.VALID, Task.SEARCH).tolist() == [5, 11]
    assert split.held_out(Part.TEST).tolist() == [6, 7, 12]
    assert split.train_ends().tolist() == [3, 11]  # before the first held out
    with pytest.raises(UserError, match="no user has 3 events of recommendation"):
        PerTask(replace(twice, searched=np.ones_like(twice.searched)))


def test_the_history_of_a_search_lacks_the_feed_event_right_before_it_where_that_is_its_copy(twice):
    """Of searches 5 and 7 these are events 3 and 6; search 4 is of item 2, and the feed event before it of item 3."""
    split = PerTask(twice)
    assert split.left_out(np.array([4, 5, 6, 7, 12])).tolist() == [4, 3, 6, 6, 12]
    histories = {}
    for part in Part:
        for question in questions(twice, split, part, Task.SEARCH, max_history=5, batch_size=4):
            for event, items in zip(question.events, question.requests.history.items.tolist(), strict=True):
                histories[int(event)] = [item for item in items if item]
    # the last five events before each, with the copy left out
    assert histories == {5: [1, 1, 2, 2], 7: [2, 3, 2, 3], 11: [1, 1], 12: [1, 1, 2, 2]}


@pytest.mark.parametrize("name", NAMES)
def test_training_and_questions_do_not_overlap_and_follow_one_another(toy, name):
    """By definition; counts against a loop."""
    log, split = toy.log, parse_split(name, toy.log)
    counts = np.zeros(log.n_items + 1, dtype=int)
    for user in range(log.n_users):
        for event in range(log.offsets[user], split.train_ends()[user]):
            counts[log.items[event]] += 1
    assert split.item_counts().tolist() == counts.tolist()
    valid, test = (split.questions(part, Task.RECOMMENDATION) for part in Part)
    assert not set(valid) & set(test)
    for part in Part:
        asked = split.questions(part, Task.RECOMMENDATION)
        assert (np.diff(asked) > 0).all()
        assert (asked >= split.train_ends()[log.users[asked]]).all()
        assert (asked > log.offsets[log.users[asked]]).all()  # there is a history
        with_query = [event for event in asked if log.queries[event]]
        assert split.questions(part, Task.SEARCH).tolist() == with_query


def test_the_last_one_is_leave_one_out(toy):
    one, other = LastN(toy.log, 1), LeaveOneOut(toy.log)
    assert (one.train_ends() == other.train_ends()).all()
    for part in Part:
        for task in Task:
            assert (one.questions(part, task) == other.questions(part, task)).all()


def test_splits_by_name(toy, twice):
    assert parse_split("leave-one-out", toy.log) == LeaveOneOut(toy.log)
    assert parse_split("last-2", toy.log) == LastN(toy.log, 2)
    assert parse_split("point-12.5", toy.log) == TimePoint(toy.log, 0.125)
    assert parse_split("point-10+2d", toy.log) == TimePoint(toy.log, 0.1, 2)
    assert parse_split("per-task", twice) == PerTask(twice)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("last-0", "unknown split; known.*last-N"),
        ("last", "unknown split; known.*last-N"),
        ("point-10+d", "unknown split; known.*after a gap of G days"),
        ("point-50", "unless 0 < P < 50"),
        ("point-0", "unless 0 < P < 50"),
    ],
)
def test_a_split_that_is_none_is_refused_with_those_that_are(toy, name, message):
    with pytest.raises(UserError, match=f"split '{name.replace('+', '.')}': .*{message}"):
        parse_split(name, toy.log)


def test_pools_hold_the_positive_and_distinct_untouched_items(toy):
    pool = pools(toy.log, toy.split, Part.TEST, Task.SEARCH, seed=3)
    assert pool.shape == (toy.log.n_users, 100)
    for user, row in enumerate(pool):
        touched = set(toy.log.items[toy.log.offsets[user] : toy.log.offsets[user + 1]].tolist())
        assert row[0] == toy.log.items[toy.log.offsets[user + 1] - 1]
        assert len(set(row.tolist())) == 100
        assert not touched & set(row[1:].tolist())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", list(Task))
def test_pools_are_in_the_order_of_the_questions(toy, name, task):
    log, split = toy.log, parse_split(name, toy.log)
    asked = split.questions(Part.VALID, task)
    pool = pools(log, split, Part.VALID, task, seed=3, negatives=9)
    assert pool.shape == (len(asked), 10)
    assert pool[:, 0].tolist() == log.items[asked].tolist()
    for event, row in zip(asked, pool, strict=True):
        user = log.users[event]
        assert not set(row[1:].tolist()) & set(log.items[log.offsets[user] : log.offsets[user + 1]].tolist())


def test_leave_one_out_draws_the_negatives_that_records_on_disk_were_made_with(toy):
    """The digest is that of the code which made the first records."""
    drawn = [pools(toy.log, toy.split, part, task, seed=3) for part in Part for task in Task]
    found = hashlib.sha256(np.stack(drawn).astype("<i8").tobytes()).hexdigest()
    assert found == "e7e4f5c889aca32bcb99a8ae0d941da3a976ee43f7a2ebf98fa849ae01476a90"


def test_who_is_not_asked_changes_no_pool(toy):
    """Where only the first ten users have a query, search has their rows, as drawn where everybody has one."""
    all_asked = pools(toy.log, toy.split, Part.TEST, Task.SEARCH, seed=3)
    log = replace(toy.log, queries=np.where(toy.log.users < 10, toy.log.queries, 0))
    assert (pools(log, LeaveOneOut(log), Part.TEST, Task.SEARCH, seed=3) == all_asked[:10]).all()


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


@given(st.integers(1, 12), st.data())
def test_every_training_event_is_a_target_once_with_as_much_history_as_fits(max_history, data):
    stride = data.draw(st.integers(0, max_history))
    dataset = prepare(validate(*toy_tables(), "toy", "toy"), search_share=0.0)
    log, split = dataset.log, dataset.split
    windows = training_windows(split, max_history, stride)
    seen = np.zeros(log.n_events, dtype=int)
    for start, stop, first in zip(windows.starts, windows.stops, windows.first_targets, strict=True):
        user = log.users[start]
        assert log.offsets[user] <= start <= first < stop <= split.train_ends()[user]
        assert stop - start <= max_history + 1
        seen[first:stop] += 1
        if start > log.offsets[user]:  # a later window
            assert first - start >= max_history + 1 - (stride or max(1, max_history // 2))
    train = np.concatenate([np.arange(a, b) for a, b in zip(log.offsets[:-1], split.train_ends(), strict=True)])
    assert (seen[train] == 1).all()
    assert seen.sum() == len(train)


@pytest.mark.parametrize("stride", [-1, 5])
def test_windows_that_would_leave_events_out_are_refused(toy, stride):
    with pytest.raises(UserError, match="set it from 1 to 4"):
        training_windows(toy.split, 4, stride)


def test_users_without_training_events_have_no_window(toy):
    """The first events of late users are after the first point of time."""
    split = TimePoint(toy.log, 0.3)
    lengths = split.train_ends() - toy.log.offsets[:-1]
    assert (lengths == 0).any()
    windows = training_windows(split, 50)  # longer than any history: one window a user
    assert toy.log.users[windows.starts].tolist() == np.flatnonzero(lengths).tolist()
    assert windows.target_counts.tolist() == lengths[lengths > 0].tolist()


def test_batches_cover_an_epoch_and_carry_nearly_equal_numbers_of_targets(toy):
    windows = training_windows(toy.split, 4)
    batches = list(training_batches(toy.log, windows, 8, np.random.default_rng(0)))
    counts = [int(batch.targets.sum()) for batch in batches]
    assert sum(counts) == windows.target_counts.sum()
    budget = 8 * windows.target_counts.mean()
    assert max(counts) <= budget + windows.target_counts.max()
    for batch in batches:
        assert torch.equal(batch.users, torch.from_numpy(toy.log.users[windows.starts[batch.windows]] + 1))
    again = list(training_batches(toy.log, windows, 8, np.random.default_rng(0)))
    assert all(torch.equal(a.events.items, b.events.items) for a, b in zip(batches, again, strict=True))


def test_targets_of_one_kind_are_those_with_a_query_or_those_without(toy):
    windows = training_windows(toy.split, 4)
    totals = []
    for task in (None, *Task):
        targets = 0
        for batch in training_batches(toy.log, windows, 8, np.random.default_rng(0), task):
            targets += int(batch.targets.sum())
            if task is not None:
                assert ((batch.events.queries > 0) == (task is Task.SEARCH))[batch.targets].all()
        totals.append(targets)
    assert totals[0] == totals[1] + totals[2]
    assert min(totals) > 0


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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("task", list(Task))
def test_a_request_sees_what_was_before_its_target_and_nothing_else(toy, name, part, task):
    log, split = toy.log, parse_split(name, toy.log)
    events, numbers = split.questions(part, task), []
    for question in questions(log, split, part, task, max_history=4, batch_size=7):
        assert question.events.tolist() == events[question.numbers].tolist()
        for row, (user, target) in enumerate(zip(question.users, question.events, strict=True)):
            assert log.offsets[user] < target < log.offsets[user + 1]
            history = log.items[max(log.offsets[user], target - 4) : target].tolist()
            length = int(question.requests.history.lengths[row])
            assert question.requests.history.items[row, :length].tolist() == history
            assert question.requests.times[row] == log.times[target]
            assert question.targets[row] == log.items[target]
            assert question.requests.users[row] == user + 1
            assert question.requests.queries[row] == (log.queries[target] if task is Task.SEARCH else 0)
        numbers += question.numbers.tolist()
    assert sorted(numbers) == list(range(len(events)))


@pytest.mark.parametrize("part", list(Part))
def test_a_question_does_not_see_other_events_of_its_own_request(part):
    """As in training. Request r2 has three events, of which the last tests and the one before validates."""
    told = zip("abcdefabc", [*["ann"] * 6, *["bob"] * 3], "001222345", strict=True)
    rows = [(user, item, day, request) for day, (item, user, request) in enumerate(told)]
    frame = pd.DataFrame(rows, columns=["user", "item", "ts", "request"])
    log = number_events(validate(frame, None, "hand", "hand"))
    assert log.request_starts.tolist() == [0, 0, 2, 3, 3, 3, 6, 7, 8]
    (question,) = questions(log, LeaveOneOut(log), part, Task.RECOMMENDATION, max_history=2, batch_size=9)
    histories = dict(zip(question.users.tolist(), question.requests.history.items.tolist(), strict=True))
    b, c = (log.item_ids.tolist().index(item) for item in "bc")
    assert histories[0] == [b, c]
    assert histories[1] == ([log.items[6], log.items[7]] if part is Part.TEST else [log.items[6], 0])


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


class SmallestFirst:
    """Scores that rank items by their numbers."""

    def score(self, requests, candidates):
        return -candidates.expand(len(requests.times), -1).float()


def test_several_questions_of_a_user_keep_their_ranks_and_share_a_cluster():
    """Of 9 items, a touched 1 2 3 before its test items 7 8 and 5 6 in validation: ranks 2 (after 4) and 2; b touched
    4 5 6 and 7 8 before 1 2: ranks 1 and 1. c has too few events."""
    events = {"a": (1, 2, 3, 5, 6, 7, 8), "b": (4, 5, 6, 7, 8, 1, 2), "c": (9, 1, 2)}
    log = log_of(*((user, item, day, "") for user, items in events.items() for day, item in enumerate(items)))
    dataset = replace(prepare(validate(*toy_tables(), "toy", "toy"), search_share=0.5), log=log)
    view = View(Task.RECOMMENDATION, "full")

    def ranks(split):
        return PoolEvaluator(dataset, split, 1, 0, 5, "cpu").ranks(SmallestFirst(), Part.TEST, view)

    found = ranks(LastN(log, 2))
    assert isinstance(found, SlateRanks)
    assert found.requests.tolist() == [5, 6, 12, 13]
    assert found.users.tolist() == [0, 0, 1, 1]
    assert found.ranks.tolist() == [2.0, 2.0, 1.0, 1.0]
    # reciprocal ranks ½ ½ 1 1: each user's sum of deviations is ∓½, SE² = 2 / 1 · (¼ + ¼) / 4² = 1 / 16
    over_users = interval([found.values("MRR")], found.clusters())
    assert (over_users.mean, over_users.half_width) == pytest.approx((0.75, 1.96 / 4))
    # one question each: the ranks by user, with a place for c, who is not asked
    np.testing.assert_array_equal(ranks(LastN(log, 1)), [2.0, 1.0, 1.0])
    np.testing.assert_array_equal(ranks(TimePoint(log, 0.2)), [2.0, 1.0, np.nan])
