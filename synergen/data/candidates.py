"""Pools of one positive and K negatives, fixed per data set, split, task and seed and so the same for every model."""

import numpy as np

from synergen.contract import Task
from synergen.data.splits import EventSplit, Part
from synergen.errors import UserError
from synergen.events import EventLog
from synergen.files import digest


def touched_keys(log: EventLog) -> np.ndarray:
    """(≤N,) int64, sorted: user · (V + 1) + item for every pair in the log, held-out events included."""
    return np.unique(log.users * (log.n_items + 1) + log.items)


def pools(log: EventLog, split: EventSplit, part: Part, task: Task, seed: int, negatives: int = 99) -> np.ndarray:
    """(Q, 1 + negatives) int64 item ids, in the order of the split's questions: the positive first, then distinct items
    drawn uniformly from those that the user never touched.

    Raises:
        UserError: a user has too few untouched items.
    """
    keys = touched_keys(log)
    touched = np.bincount(keys // (log.n_items + 1), minlength=log.n_users)
    if log.n_items - touched.max() < negatives:
        user = int(touched.argmax())
        raise UserError(
            f"{log.name}: user {log.user_ids[user]} has touched {touched[user]} of {log.n_items} items, which leaves "
            f"fewer than the {negatives} negatives of a pool; use a larger catalogue or the full protocol"
        )
    rng = np.random.default_rng(int(digest(log.name, "pool", part, task, str(seed))[:16], 16))
    asked = split.held_out(part)  # for all tasks, so that a query more or less changes no other row
    base = log.users[asked][:, None] * (log.n_items + 1)
    drawn = rng.integers(1, log.n_items + 1, (len(asked), negatives))
    while True:
        bad = _contains(keys, base + drawn) | _repeats(drawn)
        if not bad.any():
            break
        drawn[bad] = rng.integers(1, log.n_items + 1, int(bad.sum()))
    own = split.questions(part, task)
    positives = log.items[own].astype(np.int64)
    return np.concatenate([positives[:, None], drawn[np.searchsorted(asked, own)]], axis=1)


def _contains(keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    at = np.searchsorted(keys, values)
    return keys[np.minimum(at, len(keys) - 1)] == values


def _repeats(rows: np.ndarray) -> np.ndarray:
    """True on every value that stands earlier in its row, so that the first of its kind is kept."""
    order = np.argsort(rows, axis=1, kind="stable")
    ordered = np.take_along_axis(rows, order, axis=1)
    again = np.zeros_like(rows, dtype=bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    repeats = np.zeros_like(again)
    np.put_along_axis(repeats, order, again, axis=1)
    return repeats
