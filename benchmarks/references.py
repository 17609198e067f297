"""What no model may see: rankings by what a simulator knows of its own requests."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergen.data.sessions import Truth
from synergen.data.slates import SlateQuestion
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.events import EventLog, Impressions

ORACLE, POLICY = "oracle", "policy"
REFERENCES = (ORACLE, POLICY)
"""The best order that can be achieved, and the order in which the logging policy showed the items."""


def knows_truth(dataset: str) -> bool:
    """Whether the data set of this name is simulated, so that true probabilities are known."""
    try:
        return find_source(dataset).simulator is not None
    except UserError:
        return False


@dataclass(frozen=True)
class KnownTruth:
    """True probabilities, in the numbers of a log with impressions."""

    truth: Truth
    log: EventLog

    @classmethod
    def of(cls, source: str, log: EventLog) -> "KnownTruth":
        """The truth beside the files of a simulated data set.

        Raises:
            UserError: the data set is not simulated.
        """
        return cls(Truth.load(find_source(source).files()[0].parent), log)

    @property
    def impressions(self) -> Impressions:
        assert self.log.impressions is not None
        return self.log.impressions

    def slates(self, at: np.ndarray, action: int) -> np.ndarray:
        """(B, S) probability that each item shown by the requests numbered `at` gets `action` or a stronger one."""
        requests = self.impressions.ids[at].astype(np.int64)
        known = self.truth.click(requests) if action == 1 else self.truth.purchase(requests)
        return known[:, : self.impressions.items.shape[1]]

    def catalogue(self, at: np.ndarray, kind: str) -> np.ndarray:
        """(B, V) scores of all items for the requests numbered `at`."""
        assert kind in REFERENCES
        scores = self.truth.catalogue_log_scores(self.impressions.ids[at].astype(np.int64), kind)  # type: ignore[arg-type]
        return scores[:, self.log.item_ids[1:].astype(np.int64)]


@dataclass(frozen=True)
class Reference:
    """The oracle or the logging policy, asked as a model is."""

    kind: str
    known: KnownTruth

    def slate(self, question: SlateQuestion) -> Tensor:
        """(B, S) scores of what the requests showed."""
        if self.kind == POLICY:
            return -torch.arange(question.slates.shape[1]).expand_as(question.slates)
        return torch.from_numpy(self.known.slates(question.at, int(question.requests.actions[0])))

    def catalogue(self, question: SlateQuestion) -> Tensor:
        """(B, V) scores of all items."""
        return torch.from_numpy(self.known.catalogue(question.at, self.kind))
