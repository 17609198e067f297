"""Samples of users by hand and against trying every number of users."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergen.data.kinds import uniform_hash
from synergen.data.sampling import sample_users
from synergen.errors import UserError


def plain_core(rows: list[tuple[int, int]], min_count: int) -> list[tuple[int, int]]:
    """By the definition: rare users and items go until there are none."""
    while True:
        users, items = ([row[side] for row in rows] for side in (0, 1))
        kept = [row for row in rows if users.count(row[0]) >= min_count and items.count(row[1]) >= min_count]
        if len(kept) == len(rows):
            return kept
        rows = kept


def plain_sample(rows: list[tuple[int, int]], max_users: int, min_count: int, seed: int) -> list[tuple[int, int]]:
    """The core of as many users as possible, tried from all of them down."""
    order = np.argsort(uniform_hash(np.arange(100), seed)).tolist()
    for n in range(100, 0, -1):
        core = plain_core([row for row in rows if row[0] in order[:n]], min_count)
        if len({user for user, _ in core}) <= max_users:
            return core
    return []


def sample(rows: list[tuple[int, int]], *rest: int) -> list[tuple[int, int]]:
    users, items = np.array(rows).T
    return [row for row, stays in zip(rows, sample_users(users, items, *rest), strict=True) if stays]


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 6)), min_size=1, max_size=60), st.integers(1, 8))
def test_the_sample_is_the_largest_whose_core_fits(rows, max_users):
    for min_count in (1, 2, 3):
        expected = plain_sample(rows, max_users, min_count, seed=5)
        if expected:
            assert sample(rows, max_users, min_count, 5) == expected
        else:
            with pytest.raises(UserError, match=f"no sample of {max_users} users"):
                sample(rows, max_users, min_count, 5)


def test_what_stays_by_hand():
    """Users 0 to 3 have items 1 and 2 each; user 4's items are its own, so at two events of an item it is in no core.
    Any two of the four make a core of count two, and one alone makes none."""
    rows = [(user, item) for user in range(4) for item in (1, 2)] + [(4, 3), (4, 4)]
    assert sample(rows, 5, 2, 0) == sample(rows, 4, 2, 0) == rows[:8]
    first = [user for user in np.argsort(uniform_hash(np.arange(5), 0)).tolist() if user < 4]
    for users in (2, 3):
        assert {user for user, _ in sample(rows, users, 2, 0)} == set(first[:users])
    with pytest.raises(UserError, match="keeps 2 events of each user and item; allow more users"):
        sample(rows, 1, 2, 0)


def test_the_order_of_events_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 200, 3000), rng.integers(0, 50, 3000)
    stays, order = sample_users(users, items, 60, 5, 1), rng.permutation(3000)
    assert (
        len(np.unique(users[stays])) == 60
    )  # 15 events a user and 60 an item: nobody is rare, so all places are taken
    assert (sample_users(users[order], items[order], 60, 5, 1) == stays[order]).all()
    assert (sample_users(users, items, 60, 5, 2) != stays).any()


def test_no_event_is_no_sample():
    with pytest.raises(UserError, match="no sample"):
        sample_users(np.empty(0, np.int32), np.empty(0, np.int32), 10, 5, 0)
