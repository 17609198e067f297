"""Ablations against the full model: by how much they differ, how surely, and whether the paper's sign agrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.spec import Printed
from synergen.errors import UserError
from synergen.evaluation.intervals import Difference, paired_difference
from synergen.evaluation.metrics import metric_values
from synergen.evaluation.slates import SlateRanks
from synergen.runs import Ranks

Verdict = Literal["agrees", "disagrees", "undecided"]


@dataclass(frozen=True)
class Compared:
    """One cell against the cell of the full model in the same column."""

    ours: Difference
    """Fractions; paired by seed and by user or request."""
    paper: float | None
    """Percentage points, of the printed numbers; None where the paper leaves a cell empty."""

    @property
    def verdict(self) -> Verdict | None:
        """Whether our sign is the paper's: undecided where our 95 % interval holds 0; None where the paper says
        nothing."""
        if self.paper is None:
            return None
        if self.ours.low <= 0 <= self.ours.high:
            return "undecided"
        return "agrees" if np.sign(self.ours.mean) == np.sign(self.paper) else "disagrees"


def cases(ranks: Ranks, metric: str) -> np.ndarray:
    """One metric by user, NaN where not asked, or by request where users have several."""
    return ranks.values(metric) if isinstance(ranks, SlateRanks) else metric_values(ranks, metric)


def users_of_cases(ranks: Ranks) -> np.ndarray | None:
    """The user of each case, where users have several; None where each has one."""
    return ranks.clusters() if isinstance(ranks, SlateRanks) else None


def compare(
    ours: Mapping[int, Ranks], theirs: Mapping[int, Ranks], metric: str, printed: tuple[Printed | None, Printed | None]
) -> Compared | None:
    """Ours minus theirs over the seeds that both have (ranks by seed), or None where there is no such seed.

    Raises:
        UserError: runs that were asked about different users or requests.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    for seed in seeds:
        _refuse_other_requests(ours[seed], theirs[seed])
    difference = paired_difference(
        [cases(ours[seed], metric) for seed in seeds],
        [cases(theirs[seed], metric) for seed in seeds],
        users_of_cases(ours[seeds[0]]),
    )
    own, base = printed
    known = isinstance(own, float) and isinstance(base, float)
    return Compared(difference, round(own - base, 2) if known else None)  # type: ignore[operator]


def _refuse_other_requests(ours: Ranks, theirs: Ranks) -> None:
    slates = isinstance(ours, SlateRanks) and isinstance(theirs, SlateRanks)
    if slates and not np.array_equal(ours.requests, theirs.requests):  # type: ignore[union-attr]
        raise UserError("two rows were asked about different requests; run them again with --force on one data set")
