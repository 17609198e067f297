"""Which events train, validate and test."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from synergen.errors import UserError
from synergen.events import EventLog, Impressions


class Part(StrEnum):
    """The two parts of a split that are asked about."""

    VALID = "valid"
    TEST = "test"


@dataclass(frozen=True)
class LeaveOneOut:
    """Per user: the last event tests, the second last validates, the rest trains.

    At test time the validation event is history. The log's sort is stable, so tied times keep their file order.
    """

    log: EventLog

    def train_ends(self) -> np.ndarray:
        """(U,) int64: the events offsets[u]:train_ends[u] train."""
        return self.log.offsets[1:] - 2

    def targets(self, part: Part) -> np.ndarray:
        """(U,) int64: the event that user u is asked about; everything of the user before it is history."""
        return self.log.offsets[1:] - (1 if part is Part.TEST else 2)

    def item_counts(self) -> np.ndarray:
        """(V + 1,) int64: training events of each item."""
        train = np.ones(self.log.n_events, dtype=bool)
        for part in Part:
            train[self.targets(part)] = False
        return np.bincount(self.log.items[train], minlength=self.log.n_items + 1)


DAY = 86_400


@dataclass(frozen=True)
class TimeSplit:
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

    def item_counts(self) -> np.ndarray:
        """(V + 1,) int64: training events of each item."""
        train = np.arange(self.log.n_events) < self.train_ends()[self.log.users]
        return np.bincount(self.log.items[train], minlength=self.log.n_items + 1)


Split = LeaveOneOut | TimeSplit
