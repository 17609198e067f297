"""Which events train, validate and test."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np

from synergen.contract import Task
from synergen.errors import UserError
from synergen.events import MIN_EVENTS, EventLog, Impressions

DAY = 86_400


class Part(StrEnum):
    """The two parts of a split that are asked about."""

    VALID = "valid"
    TEST = "test"


class _Split(ABC):
    """Training events are the first of each user."""

    log: EventLog

    @abstractmethod
    def train_ends(self) -> np.ndarray:
        """(U,) int64: the events offsets[u]:train_ends[u] train."""

    def trains(self) -> np.ndarray:
        """(N,) bool: the event trains."""
        return np.arange(self.log.n_events) < self.train_ends()[self.log.users]

    def item_counts(self) -> np.ndarray:
        """(V + 1,) int64: training events of each item."""
        return np.bincount(self.log.items[self.trains()], minlength=self.log.n_items + 1)


class EventSplit(_Split):
    """Asks which item an event is of; everything of its user before its request is history, whichever part that
    belongs to.

    The log's sort is stable, so tied times keep their file order.
    """

    @abstractmethod
    def questions(self, part: Part, task: Task) -> np.ndarray:
        """(Q,) int64: the events asked about, ascending positions in the log. Search asks where there is a query."""

    def held_out(self, part: Part) -> np.ndarray:
        """(≤N,) int64: the events that any task asks about, ascending."""
        asked = np.zeros(self.log.n_events, dtype=bool)
        for task in Task:
            asked[self.questions(part, task)] = True
        return np.flatnonzero(asked)

    def left_out(self, events: np.ndarray) -> np.ndarray:
        """(B,) int64: the event that is no history of each of `events`, though it came before; itself for none."""
        return events


@dataclass(frozen=True)
class LeaveOneOut(EventSplit):
    """Per user: the last event tests, the second last validates, the rest trains."""

    log: EventLog

    def train_ends(self) -> np.ndarray:
        return self.log.offsets[1:] - 2

    def targets(self, part: Part) -> np.ndarray:
        """(U,) int64: the event held out of each user."""
        return self.log.offsets[1:] - (1 if part is Part.TEST else 2)

    def questions(self, part: Part, task: Task) -> np.ndarray:
        return _asked(self.log, self.targets(part), task)


@dataclass(frozen=True)
class LastN(EventSplit):
    """Per user: the last n events test, the n before them validate, the rest trains.

    Users with fewer than 2n + 1 events are never asked; all of their events train.
    """

    log: EventLog
    n: int

    def __post_init__(self) -> None:
        if not self._asked_users().any():
            raise UserError(
                f"{self.log.name}: no user has the {2 * self.n + 1} events that the split last-{self.n} needs; "
                "hold out fewer"
            )

    def train_ends(self) -> np.ndarray:
        return self.log.offsets[1:] - np.where(self._asked_users(), 2 * self.n, 0)

    def questions(self, part: Part, task: Task) -> np.ndarray:
        ends = self.log.offsets[1:][self._asked_users()] - (0 if part is Part.TEST else self.n)
        return _asked(self.log, (ends[:, None] + np.arange(-self.n, 0)).ravel(), task)

    def _asked_users(self) -> np.ndarray:
        return np.diff(self.log.offsets) > 2 * self.n  # (U,)


@dataclass(frozen=True)
class TimePoint(EventSplit):
    """Two points of time for all users: training ends at the first, which begins validation, and the second begins
    the test. So no training event is later than any question.

    The last `share` of all events, by time, lies at or after the second point, and as much between the two; events at
    the time of a point are all after it. What falls into the `gap_days` after a point is history only, neither trained
    on nor asked about. Each user is asked about the last event of a period, if any other event is before it, so test
    questions are among those of leave-one-out.
    """

    log: EventLog
    share: float
    gap_days: int = 0

    def __post_init__(self) -> None:
        if not self.trains().any():
            raise self._leaves_nothing("to train on")
        for part in Part:
            if not len(self._targets(part)):
                raise self._leaves_nothing(f"to ask about in the {part} part")

    def _leaves_nothing(self, purpose: str) -> UserError:
        return UserError(
            f"{self.log.name}: a split by time with {100 * self.share:g} % of the events for each part and gaps of "
            f"{self.gap_days} days leaves nothing {purpose}; hold out another share or shorten the gap"
        )

    @cached_property
    def points(self) -> tuple[int, int]:
        """The times (Unix seconds) at which validation and test begin, gaps included."""
        n = self.log.n_events
        held = max(1, round(self.share * n))
        first, second = max(0, n - 2 * held), n - held
        ordered = np.partition(self.log.times, (first, second))
        return int(ordered[first]), int(ordered[second])

    def train_ends(self) -> np.ndarray:
        return self._ends(self.points[0])

    def questions(self, part: Part, task: Task) -> np.ndarray:
        return _asked(self.log, self._targets(part), task)

    def _targets(self, part: Part) -> np.ndarray:
        valid, test = self.points
        begin, ends = (test, self.log.offsets[1:]) if part is Part.TEST else (valid, self._ends(test))
        last = ends - 1  # (U,)
        asked = (last > self.log.offsets[:-1]) & (self.log.times[last] >= begin + self.gap_days * DAY)
        return last[asked]

    def _ends(self, time: int) -> np.ndarray:
        """(U,) int64: the user's events before `time` end there."""
        return self.log.offsets[:-1] + np.bincount(self.log.users[self.log.times < time], minlength=self.log.n_users)


@dataclass(frozen=True)
class PerTask(EventSplit):
    """For logs in which a purchase stands twice, as a feed event and as a search, after the published construction of
    search data from reviews. Recommendation asks for the user's last feed event, search for the last search, validation
    for the second last of each; users with fewer than three events of a kind are not asked for it.

    What came before the first held-out event of a user trains; later events are history only.
    """

    log: EventLog

    def __post_init__(self) -> None:
        for task in Task:
            if not len(self.questions(Part.TEST, task)):
                raise UserError(
                    f"{self.log.name}: no user has {MIN_EVENTS} events of {task} for the split per-task, which is for "
                    "logs in which a purchase stands twice, with and without its query; use leave-one-out"
                )

    def train_ends(self) -> np.ndarray:
        ends = self.log.offsets[1:].copy()
        for task in Task:
            events = self.questions(Part.VALID, task)
            users = self.log.users[events]
            ends[users] = np.minimum(ends[users], events)
        return ends

    def questions(self, part: Part, task: Task) -> np.ndarray:
        events = np.flatnonzero(self.log.searched == (task is Task.SEARCH))
        counts = np.bincount(self.log.users[events], minlength=self.log.n_users)
        held_out = np.cumsum(counts) - (1 if part is Part.TEST else 2)  # (U,) numbers among `events`
        return events[held_out[counts >= MIN_EVENTS]]

    def left_out(self, events: np.ndarray) -> np.ndarray:
        """(B,) int64: the feed event right before each search (searches in between aside), where it is of the same
        item: the published construction removes no other copy."""
        log = self.log
        feed = np.flatnonzero(~log.searched)
        copies = feed[np.maximum(np.searchsorted(feed, events) - 1, 0)]  # (B,)
        removed = (copies < events) & log.searched[events]
        removed &= (log.users[copies] == log.users[events]) & (log.items[copies] == log.items[events])
        return np.where(removed, copies, events)


def _asked(log: EventLog, events: np.ndarray, task: Task) -> np.ndarray:
    """Those of `events` that the task is asked about."""
    return events if task is Task.RECOMMENDATION else events[log.queries[events] > 0]


@dataclass(frozen=True)
class TimeSplit(_Split):
    """One point of time for all users: the last `days` of a log with impressions test, as many before them validate,
    the rest trains (paper section 4.1: "two days after training").

    A request is asked with all of its user's earlier requests as history, those after the training period too.
    """

    log: EventLog
    days: int = 2

    def __post_init__(self) -> None:
        if (self.training_requests() == 0).all():
            raise UserError(f"{self.log.name}: nothing is left to train on before the last {2 * self.days} days")

    @property
    def impressions(self) -> Impressions:
        assert self.log.impressions is not None
        return self.log.impressions

    def part_of_request(self) -> np.ndarray:
        """(M,) int8: 0 training, 1 validation, 2 test."""
        times, span = self.impressions.times, self.days * DAY
        end = times.max() + 1
        return (times >= end - 2 * span).astype(np.int8) + (times >= end - span)

    def training_requests(self) -> np.ndarray:
        """(U,) int64: how many of each user's requests train: the first ones."""
        shown = self.impressions
        return np.bincount(shown.users[self.part_of_request() == 0], minlength=self.log.n_users)

    def train_ends(self) -> np.ndarray:
        """(U,) int64: the events offsets[u]:train_ends[u] train."""
        shown = self.impressions
        ends = shown.offsets[:-1] + self.training_requests()
        stops = np.append(shown.stops, self.log.n_events)
        return np.where(ends < shown.offsets[1:], stops[ends], self.log.offsets[1:])

    def requests(self, part: Part, searches: bool, action: int) -> np.ndarray:
        """Requests of a part, with or without a query, in which something got this action or a stronger one."""
        shown = self.impressions
        wanted = (self.part_of_request() == (1 if part is Part.VALID else 2)) & ((shown.queries > 0) == searches)
        return np.flatnonzero(wanted & (shown.outcomes >= action).any(1))


Split = EventSplit | TimeSplit

_SPLITS = {
    "leave-one-out": "the last event of each user",
    "last-N": "the last N events of each user, such as last-3",
    "point-P": "the last P percent of all events by time, such as point-10",
    "point-P+Gd": "the same after a gap of G days, such as point-10+7d",
    "per-task": "the last feed event and the last search of each user",
}
"""What each name holds out for the test; validation holds out as much before it."""


def parse_split(text: str, log: EventLog) -> EventSplit:
    """The split of a log by its name: leave-one-out, last-N, point-P, point-P+Gd or per-task.

    Raises:
        UserError: no such split, or one that leaves nothing of this log to train on or to ask about.
    """
    if text == "leave-one-out":
        return LeaveOneOut(log)
    if text == "per-task":
        return PerTask(log)
    if last := re.fullmatch(r"last-([1-9]\d*)", text):
        return LastN(log, int(last[1]))
    point = re.fullmatch(r"point-(\d+(?:\.\d+)?)(?:\+(\d+)d)?", text)
    if point and 0 < float(point[1]) < 50:
        return TimePoint(log, float(point[1]) / 100, int(point[2] or 0))
    known = "; ".join(f"{name} ({about})" for name, about in _SPLITS.items())
    why = "two parts of P percent leave nothing to train on unless 0 < P < 50" if point else "unknown split"
    raise UserError(
        f"split '{text}': {why}; known, by what is held out for the test: {known}; time (the last days, for logs with "
        "impressions)"
    )
