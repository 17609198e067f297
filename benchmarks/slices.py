"""Which test questions are about rare items, short histories, long pauses or repeats, and what models reach on them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from synergen.contract import Task
from synergen.data.copies import earlier_copies
from synergen.data.dataset import Dataset
from synergen.data.splits import DAY, EventSplit, Part
from synergen.errors import UserError
from synergen.evaluation.cases import cases
from synergen.evaluation.intervals import Interval, interval
from synergen.evaluation.slates import SlateRanks
from synergen.runs import Ranks

HEAD_SHARE = 0.2
"""The share of items, the most popular ones, that are no long tail."""
SHORT_HISTORY = 5
"""Events, at most, of a new user."""
LEAST = 20
"""Questions of a bin: smaller ones are joined with the next."""

POPULARITY_EDGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)
HISTORY_EDGES = (1, 3, 6, 11, 21, 51, 101, 201, 501, 1_001)
GAP_EDGES = (0, 1, 60, 3_600, DAY, 7 * DAY, 30 * DAY, 365 * DAY)


@dataclass(frozen=True)
class Questions:
    """The Q test questions of a task."""

    events: np.ndarray  # (Q,) positions in the log, ascending
    users: np.ndarray  # (Q,)
    popularity: np.ndarray  # (Q,) training events of the item asked for
    in_tail: np.ndarray  # (Q,) bool: the item was trained on, but is not among the most popular ones
    history: np.ndarray  # (Q,) events of the user's earlier requests
    gap: np.ndarray  # (Q,) float64 seconds since the last of these, NaN where there is none
    repeated: np.ndarray  # (Q,) bool: the item is among them


def questions_of(dataset: Dataset, task: Task) -> Questions:
    """The test questions of a task, with what slices are made by.

    Raises:
        UserError: the split asks about requests with several chosen items, which have no one popularity.
    """
    log, split = dataset.log, dataset.split
    if not isinstance(split, EventSplit):
        raise UserError("questions are requests with slates here, and slices are made of single held-out events")
    events = split.questions(Part.TEST, task)
    users, left_out = log.users[events], split.left_out(events)
    begins, stops = log.offsets[users], log.request_starts[events]
    counts = split.item_counts()
    popularity = counts[log.items[events]]
    popular = np.argsort(-counts[1:], kind="stable")[: int(HEAD_SHARE * log.n_items)] + 1
    last = np.where(left_out == stops - 1, stops - 2, stops - 1)
    gap = np.where(last >= begins, log.times[events] - log.times[np.maximum(last, 0)], np.nan)
    copies = (left_out < stops).astype(np.int64)  # events of the same item that are no history
    repeated = earlier_copies(log)[0][events] > copies
    in_tail = (popularity > 0) & ~np.isin(log.items[events], popular)
    return Questions(events, users, popularity, in_tail, stops - begins - copies, gap, repeated)


def by_question(ranks: Ranks, metric: str, questions: Questions) -> np.ndarray:
    """(Q,) one metric of each question, NaN where it was not asked."""
    values = cases(ranks, metric)
    if not isinstance(ranks, SlateRanks):
        return values[questions.users]
    found = np.full(len(questions.events), np.nan)
    found[np.searchsorted(questions.events, np.unique(ranks.requests))] = values
    return found


def reached(ranks_by_seed: Sequence[Ranks], metric: str, questions: Questions, chosen: np.ndarray) -> Interval | None:
    """What a row reaches on the `chosen` (Q,) bool questions; None where fewer than two users were asked."""
    values = [by_question(ranks, metric, questions)[chosen] for ranks in ranks_by_seed]
    asked = ~np.isnan(values[0])
    users = questions.users[chosen]
    if len(np.unique(users[asked])) < 2:
        return None
    several = len(np.unique(questions.users)) < len(questions.users)
    return interval(values, users if several else None)


@dataclass(frozen=True)
class Bin:
    """Questions whose value is from `low` up to, and without, `high`."""

    low: float
    high: float
    chosen: np.ndarray  # (Q,) bool


def bins(values: np.ndarray, edges: Sequence[float], alone: float | None = None) -> list[Bin]:
    """Bins of values (Q,), between edges, the last without an end. Those of fewer than `LEAST` questions are joined
    with the next, the last one with that before it; NaN is in none.

    Args:
        alone: a value that has a bin of its own, however small.
    """
    found: list[Bin] = []
    rest = np.ones(len(values), dtype=bool)
    if alone is not None:
        rest = values != alone
        if not rest.all():
            found.append(Bin(alone, alone, ~rest))
    ends, own = [*edges[1:], np.inf], len(found)
    low = edges[0]
    for high in ends:
        chosen = rest & (values >= low) & (values < high)
        if not chosen.any():
            low = high
        elif chosen.sum() >= LEAST or (high == np.inf and len(found) == own):
            found.append(Bin(low, high, chosen))
            low = high
        elif high == np.inf:
            last = found.pop()
            found.append(Bin(last.low, high, last.chosen | chosen))
    return found
