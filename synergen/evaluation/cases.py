"""One metric of every case that a run was asked: of a user, or of a request where users have several."""

import numpy as np

from synergen.errors import UserError
from synergen.evaluation.metrics import metric_values
from synergen.evaluation.slates import SlateRanks

Ranks = np.ndarray | SlateRanks
"""(U,) of users who were asked one question each, NaN for who was not; or of the items chosen in requests, or asked
about by several questions a user."""


def cases(ranks: Ranks, metric: str) -> np.ndarray:
    """One metric by user, NaN where not asked, or by request where users have several."""
    return ranks.values(metric) if isinstance(ranks, SlateRanks) else metric_values(ranks, metric)


def users_of_cases(ranks: Ranks) -> np.ndarray | None:
    """The user of each case, where users have several; None where each has one."""
    return ranks.clusters() if isinstance(ranks, SlateRanks) else None


def refuse_other_requests(ours: Ranks, theirs: Ranks) -> None:
    """Raise UserError where the two do not answer the same requests in one order."""
    slates = isinstance(ours, SlateRanks) and isinstance(theirs, SlateRanks)
    if slates and not np.array_equal(ours.requests, theirs.requests):  # type: ignore[union-attr]
        raise UserError("two rows were asked about different requests; run them again with --force on one data set")
