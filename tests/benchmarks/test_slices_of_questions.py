"""Slices of test questions on a log of three users, written out by hand; leave-one-out asks about each last event."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import slices
from benchmarks.slices import bins, by_question, questions_of, reached
from synergen.contract import Task
from synergen.data.dataset import Dataset, prepare
from synergen.data.splits import DAY
from synergen.errors import UserError
from synergen.evaluation.slates import SlateRanks
from synergen.raw import validate

EVENTS = {  # by user: items and days
    "ann": [("a", 0), ("b", 1), ("a", 2), ("c", 3), ("a", 3)],  # a repeat, at the time of the event before
    "bob": [("a", 0), ("c", 1), ("b", 8)],
    "cyd": [("a", 0), ("b", 5), ("a", 6), ("d", 36)],  # d is nowhere else
}


def dataset(split: str = "leave-one-out") -> Dataset:
    rows = [(user, item, DAY * day) for user, events in EVENTS.items() for item, day in events]
    table = pd.DataFrame(rows, columns=["user", "item", "ts"])
    return prepare(validate(table, None, "hand", "hand"), search_share=0.0, split=split)


def test_what_is_known_of_questions():
    """Training events: a, b, a of ann; a of bob; a, b of cyd. So a has 4, b has 2, c and d have none."""
    found = questions_of(dataset(), Task.RECOMMENDATION)
    assert found.users.tolist() == [0, 1, 2]
    assert found.popularity.tolist() == [4, 2, 0]
    assert found.history.tolist() == [4, 2, 3]
    assert found.gap.tolist() == [0, 7 * DAY, 30 * DAY]
    assert found.repeated.tolist() == [True, False, False]


def test_the_long_tail_is_all_but_the_most_popular_items(monkeypatch):
    """A quarter of four items is one: a. Items never trained on are in neither."""
    monkeypatch.setattr(slices, "HEAD_SHARE", 0.25)
    assert questions_of(dataset(), Task.RECOMMENDATION).in_tail.tolist() == [False, True, False]


def test_a_copy_that_is_left_out_is_no_history():
    """Of purchases that stand twice: the feed event right before a search of its item is left out."""
    rows = [("ann", item, ts, query) for ts, item in enumerate("abcd") for query in ("", f"find {item}")]
    rows += [("ann", "a", 9, ""), ("ann", "a", 9, "find a")]
    table = pd.DataFrame(rows, columns=["user", "item", "ts", "query"])
    twice = prepare(validate(table, None, "hand", "hand"), search_share=0.0, split="per-task")
    found = questions_of(twice, Task.SEARCH)
    assert found.events.tolist() == [9]
    assert found.history.tolist() == [8]  # not the feed event of a at the same time
    assert found.gap.tolist() == [6]  # from 9 to the search at 3
    assert found.repeated.tolist() == [True]  # a was bought at 0
    assert questions_of(twice, Task.RECOMMENDATION).history.tolist() == [8]


def test_ranks_by_question():
    """Users in order of the log; of several questions a user, those that were asked."""
    one_each = questions_of(dataset(), Task.RECOMMENDATION)
    assert by_question(np.array([1, np.nan, 4.0]), "MRR", one_each).tolist()[::2] == [1, 0.25]
    log = dataset("last-1")
    several = questions_of(log, Task.RECOMMENDATION)
    ranks = SlateRanks(several.events[1:], several.users[1:], np.array([2.0, 5.0]))
    values = by_question(ranks, "MRR", several)
    assert np.isnan(values[0])
    assert values[1:].tolist() == [0.5, 0.2]


def test_what_is_reached_on_a_slice():
    """Reciprocal ranks 1 and ¼ of users 0 and 2: mean ⅝, standard error ⅜; one user alone has no interval."""
    questions = questions_of(dataset(), Task.RECOMMENDATION)
    found = reached([np.array([1, 2, 4.0])], "MRR", questions, np.array([True, False, True]))
    assert found is not None
    assert (found.mean, found.high) == pytest.approx((0.625, 0.625 + 1.96 * 0.375))
    assert reached([np.array([1, 2, 4.0])], "MRR", questions, np.array([True, False, False])) is None


def test_small_bins_are_joined_with_the_next():
    values = np.array([0, 0, 1, 3, 3, 4, 7, 8, np.nan])
    found = [(one.low, one.high, int(one.chosen.sum())) for one in _bins(values, (1, 3, 5, 8), 0, least=2)]
    assert found == [(0, 0, 2), (1, 5, 4), (5, np.inf, 2)]


def test_a_small_last_bin_is_joined_with_the_one_before():
    found = [(one.low, one.high, int(one.chosen.sum())) for one in _bins(np.array([1, 1, 2, 2, 9]), (1, 2, 5), None, 2)]
    assert found == [(1, 2, 2), (2, np.inf, 3)]


def test_few_questions_are_one_bin():
    found = [(one.low, one.high, one.chosen.tolist()) for one in bins(np.array([1.0, 7.0]), (1, 5))]
    assert found == [(1, np.inf, [True, True])]


def _bins(values, edges, alone, least):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "LEAST", least)
        return bins(values, edges, alone)


def test_requests_with_slates_have_no_slices(split):
    with pytest.raises(UserError, match="single held-out events"):
        questions_of(Dataset(split.log, split, ""), Task.SEARCH)
