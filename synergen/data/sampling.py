"""Fewer users of a log, such that each user and item that stays still has its number of events."""

import numpy as np

from synergen.data.kinds import uniform_hash
from synergen.errors import UserError


def sample_users(users: np.ndarray, items: np.ndarray, max_users: int, min_count: int, seed: int) -> np.ndarray:
    """(N,) bool: the events that stay.

    Users are taken in an order drawn by a hash of user and seed, as many as their core has room for: the events that
    are left when users and items with fewer than `min_count` events go, until there are none. A core only grows with
    the users that it is made from, so how many to take is found by bisection. What is in the core of a number that
    fits, or not in that of one too large, is settled and not looked at again: after the core of everything, the log2(U)
    steps together cost about as much again.

    Args:
        users, items: (N,) numbers from 0 on, of N events in any order.
        max_users: the most that may stay; the core of everything stays where it has no more.

    Raises:
        UserError: nothing is left.
    """
    place = np.argsort(np.argsort(uniform_hash(np.arange(users.max(initial=-1) + 1), seed), kind="stable"))
    kept = np.zeros(len(users), dtype=bool)
    # of the kept events, by user and by item
    counts: tuple[np.ndarray, ...] = tuple(np.zeros(codes.max(initial=-1) + 1, np.int64) for codes in (users, items))
    unsettled = np.arange(len(users))
    fits, take, too_many = 0, len(place), len(place)
    while take > fits:
        taken = unsettled[place[users[unsettled]] < take]
        more = taken[_core(users[taken], items[taken], min_count, counts)]
        grown = tuple(
            old + np.bincount(codes[more], minlength=len(old))
            for old, codes in zip(counts, (users, items), strict=True)
        )
        if np.count_nonzero(grown[0]) <= max_users:
            fits, counts = take, grown
            kept[more] = True
            unsettled = unsettled[~kept[unsettled]]
        else:
            too_many, unsettled = take, more
        take = (fits + too_many) // 2
    if not kept.any():
        raise UserError(
            f"no sample of {max_users} users or fewer keeps {min_count} events of each user and item; "
            "allow more users or ask for fewer events"
        )
    return kept


def _core(users: np.ndarray, items: np.ndarray, min_count: int, others: tuple[np.ndarray, ...]) -> np.ndarray:
    """Which events are left when those of rare users and items go, until none is rare.

    Args:
        users, items: (n,) of the events.
        others: how many further events each user, and each item, has.
    """
    rows = np.arange(len(users))
    while True:
        frequent = np.ones(len(rows), dtype=bool)
        for codes, counts in zip((users, items), others, strict=True):
            own = codes[rows]
            frequent &= (counts + np.bincount(own, minlength=len(counts)) >= min_count)[own]
        if frequent.all():
            return rows
        rows = rows[frequent]
