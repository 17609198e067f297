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


def answered(ranks: Ranks, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """The users or requests that were asked, by number, rising, and one metric of each."""
    values = cases(ranks, metric)
    if isinstance(ranks, SlateRanks):
        return np.unique(ranks.requests), values
    asked = np.flatnonzero(~np.isnan(values))
    return asked, values[asked]


def users_of_cases(ranks: Ranks) -> np.ndarray | None:
    """The user of each case, where users have several; None where each has one."""
    return ranks.clusters() if isinstance(ranks, SlateRanks) else None


def of_same_requests(ours: Ranks, theirs: Ranks) -> tuple[Ranks, Ranks]:
    """Both, with the requests that both were asked: one may have been asked a sample of the other's.

    Raises:
        UserError: each was asked what the other was not.
    """
    if not (isinstance(ours, SlateRanks) and isinstance(theirs, SlateRanks)):
        return ours, theirs
    shared = np.intersect1d(ours.requests, theirs.requests)
    common = ours.of(shared), theirs.of(shared)
    if not any(len(some.ranks) == len(all_.ranks) for some, all_ in zip(common, (ours, theirs), strict=True)):
        raise UserError("two rows were asked about different requests; run them again with --force on one data set")
    if not np.array_equal(common[0].requests, common[1].requests):
        raise UserError("two rows chose different items in their requests; run them again with --force on one data set")
    return common
