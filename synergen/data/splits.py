"""Which events train, validate and test."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from synergen.events import EventLog


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
