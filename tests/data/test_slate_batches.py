"""Splits at a point of time, weekly sequences and slate questions against plain loops over requests."""

import numpy as np
import pytest
from toys import toy_requests, toy_tables

from synergen.contract import Task
from synergen.data import slates
from synergen.data.dataset import prepare
from synergen.data.impressions import with_impressions
from synergen.data.slates import STRONGER_SHARE, slate_batches, slate_questions, weekly_windows
from synergen.data.splits import DAY, Part
from synergen.errors import UserError
from synergen.raw import validate


def test_parts_are_the_last_days(split):
    shown = split.impressions
    last = shown.times.max()
    for time, part in zip(shown.times, split.part_of_request(), strict=True):
        assert part == (2 if time > last - 2 * DAY else 1 if time > last - 4 * DAY else 0)
    assert set(split.part_of_request()) == {0, 1, 2}


def test_training_events_are_those_of_training_requests(split):
    log, shown, parts = split.log, split.impressions, split.part_of_request()
    counts = np.zeros(log.n_items + 1, int)
    for user in range(log.n_users):
        own = range(log.offsets[user], log.offsets[user + 1])
        trained = [e for e in own if parts[shown.offsets[user] + log.groups[e]] == 0]
        assert split.train_ends()[user] == log.offsets[user] + len(trained)
        for event in trained:
            counts[log.items[event]] += 1
    assert split.item_counts().tolist() == counts.tolist()


@pytest.mark.parametrize("max_history", [3, 100])
def test_weekly_sequences(split, max_history, monkeypatch):
    # paper section 4.1: a week of a user with the last events by its end, fewer than two events discarded
    monkeypatch.setattr(slates, "MAX_REQUESTS", 2)
    log, shown, parts = split.log, split.impressions, split.part_of_request()
    expected = []
    for user in range(log.n_users):
        own = [m for m in range(shown.offsets[user], shown.offsets[user + 1]) if parts[m] == 0]
        weeks = {
            week: [m for m in own if shown.times[m] // (7 * DAY) == week] for week in shown.times[own] // (7 * DAY)
        }
        for asked in (of_week[i : i + 2] for of_week in weeks.values() for i in range(0, len(of_week), 2)):
            stop = log.offsets[user] + sum(
                log.groups[e] <= shown.groups[asked[-1]] for e in range(log.offsets[user], log.offsets[user + 1])
            )
            start = max(log.offsets[user], stop - max_history)
            asked = [m for m in asked if shown.stops[m] >= start]
            if stop - start >= 2 and asked:
                expected.append((start, stop, asked[0], asked[-1] + 1))
    windows = weekly_windows(split, max_history)
    columns = (windows.starts, windows.stops, windows.first_requests, windows.last_requests)
    assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected


def test_an_epoch_asks_every_request_of_its_sequences_once(split):
    log, shown = split.log, split.impressions
    windows = weekly_windows(split, 100)
    wanted, seen = [], []
    for batch in slate_batches(log, windows, 8, np.random.default_rng(0)):
        asked, events = batch.slates, batch.events
        assert asked is not None
        for row, window in enumerate(batch.windows.tolist()):
            first, last = windows.first_requests[window], windows.last_requests[window]
            real = asked.shown[row].any(-1)
            assert int(real.sum()) == last - first
            for place, m in enumerate(range(first, last)):
                assert asked.items[row, place].tolist() == shown.items[m].tolist()
                assert asked.outcomes[row, place].tolist() == shown.outcomes[m].tolist()
                assert (asked.times[row, place], asked.queries[row, place]) == (shown.times[m], shown.queries[m])
                visible = (events.groups[row] < asked.groups[row, place]) & events.valid[row]
                assert int(visible.sum()) == shown.stops[m] - windows.starts[window]
                chosen = (shown.outcomes[m] >= int(asked.wanted[row, place])) & (shown.items[m] > 0)
                assert asked.chosen[row, place].tolist() == chosen.tolist()
                seen.append(m)
            wanted += asked.wanted[row][real].tolist()
            targets = batch.targets[row].nonzero().flatten() + windows.starts[window]
            assert targets.tolist() == list(range(shown.stops[first], windows.stops[window]))
    spans = zip(windows.first_requests, windows.last_requests, strict=True)
    assert sorted(seen) == [m for first, last in spans for m in range(first, last)]
    share, error = np.mean(np.array(wanted) == 2), (STRONGER_SHARE * (1 - STRONGER_SHARE) / len(wanted)) ** 0.5
    assert abs(share - STRONGER_SHARE) < 4 * error


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("action", [1, 2])
def test_questions_are_the_requests_in_which_something_was_chosen(split, task, action):
    log, shown, parts = split.log, split.impressions, split.part_of_request()
    expected = {
        m
        for m in range(len(shown))
        if parts[m] == 2 and (shown.queries[m] > 0) == (task is Task.SEARCH) and shown.outcomes[m].max() >= action
    }
    found = list(slate_questions(split, Part.TEST, task, action, 3, batch_size=4))
    assert sorted(m for question in found for m in question.at.tolist()) == sorted(expected)
    for question in found:
        for row, m in enumerate(question.at):
            length = int(question.requests.history.lengths[row])
            past = log.items[max(log.offsets[shown.users[m]], shown.stops[m] - 3) : shown.stops[m]]
            assert question.requests.history.items[row, :length].tolist() == past.tolist()
            assert question.requests.actions[row] == action
            assert question.slates[row].tolist() == shown.items[m].tolist()
            assert question.chosen[row].tolist() == (shown.outcomes[m] >= action).tolist()


def test_a_log_without_impressions_has_no_such_split():
    interactions, items = toy_tables()
    with pytest.raises(UserError, match="no impressions"):
        prepare(validate(interactions, items, "toy", "toy"), 0.5, "time")
    interactions, items, impressions = toy_requests(days=3)
    raw = with_impressions(validate(interactions, items, "toy", "toy"), impressions, "toy")
    with pytest.raises(UserError, match="nothing is left to train on"):
        prepare(raw, 0.0, "time")
