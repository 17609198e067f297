"""Ablations against the full model: by how much they differ, how surely, and whether the paper's sign agrees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.spec import Printed
from synergen.evaluation.cases import Ranks, cases, of_same_requests, users_of_cases
from synergen.evaluation.intervals import Difference, paired_difference

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
    pairs = [of_same_requests(ours[seed], theirs[seed]) for seed in seeds]
    own_values, their_values = ([cases(ranks, metric) for ranks in side] for side in zip(*pairs, strict=True))
    difference = paired_difference(own_values, their_values, users_of_cases(pairs[0][0]))
    own, base = printed
    known = isinstance(own, float) and isinstance(base, float)
    return Compared(difference, round(own - base, 2) if known else None)  # type: ignore[operator]
