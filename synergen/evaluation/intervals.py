"""Means and paired differences with 95 % intervals over users and seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from synergen.errors import UserError

_LEAST_LOG_P = -600.0
"""Smaller p-values count as 0; the quantiles of this one are still finite."""


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval, which is symmetric and not cut at 0 or 1."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Difference(Interval):
    """The mean of paired differences, ours minus theirs."""

    p_value: float
    """Two-sided: below 0.05 where 0 is outside the interval."""
    n: int
    """Cases that both were asked."""
    seeds: int


def interval(values_by_seed: Sequence[np.ndarray], clusters: np.ndarray | None = None) -> Interval:
    """The mean over users and seeds, with its 95 % interval.

    Two sources of error are combined as the root of the sum of their squares:

    - users: 1.96 standard errors of the mean over users, each user's value being the mean over seeds;
    - seeds: t(0.975, S - 1) · sd / √S of the S seeds' means. It is left out where S = 1: the interval of a single
      seed speaks of other users under this one training, and not of another training.

    For normal errors this covers the truth in 95 % of cases or more, whatever the two spreads (Banerjee, Sankhyā 22,
    1960, 357-358). What seeds add to single users is in both terms, which makes it wider still.

    Args:
        values_by_seed: S arrays (N,), one a seed, users in the same order; NaN for a user who was not asked.
        clusters: (N,) ints, the user of each value where a user has several. The users' standard error is then robust
            to what the values of one user share: SE² = G / (G - 1) · Σ_g (Σ_{i ∈ g} (x_i - mean))² / N² of G users.

    Raises:
        UserError: the seeds asked different users, or fewer than two.
    """
    values, asked = _asked(values_by_seed, "the seeds of a row")
    users, seeds = _standard_errors(values, None if clusters is None else clusters[asked])
    half = float(np.hypot(1.96 * users, stats.t.ppf(0.975, _freedom(values)) * seeds))
    mean = float(values.mean())
    return Interval(mean, mean - half, mean + half)


def paired_difference(
    ours_by_seed: Sequence[np.ndarray], theirs_by_seed: Sequence[np.ndarray], clusters: np.ndarray | None = None
) -> Difference:
    """The mean difference of two rows that answered the same cases, paired by case and by seed.

    The interval is that of `interval` on the differences. The p-value inverts it: it is the p at which the interval of
    confidence 1 - p just reaches 0. So the two agree (up to 1.96 standing for 1.95996), and where errors are normal at
    most a share p of true null hypotheses is rejected at p. A t-test with Welch-Satterthwaite degrees of freedom is
    sharper, but with two seeds it rejects up to twice as many (tests/evaluation/test_intervals.py simulates both).

    Args:
        ours_by_seed: S arrays (N,), one a seed; NaN for a case that was not asked.
        theirs_by_seed: S arrays (N,) of the same seeds and cases.
        clusters: as in `interval`.

    Raises:
        UserError: the two have different seeds or cases, or fewer than two users were asked.
    """
    if len(ours_by_seed) != len(theirs_by_seed):
        counts = f"{len(ours_by_seed)} and {len(theirs_by_seed)}"
        raise UserError(f"rows of {counts} seeds cannot be paired; run both with the same --seeds")
    values, asked = _asked([*ours_by_seed, *theirs_by_seed], "the rows compared")
    ours, theirs = np.split(values, 2)  # (S, cases asked) each
    differences = ours - theirs
    kept = None if clusters is None else clusters[asked]
    found = interval(list(differences), kept)
    p_value = _p_value(abs(found.mean), *_standard_errors(differences, kept), _freedom(differences))
    n_seeds, n_cases = differences.shape
    return Difference(found.mean, found.low, found.high, p_value, n_cases, n_seeds)


def _asked(rows: Sequence[np.ndarray], what: str) -> tuple[np.ndarray, np.ndarray]:
    """The values (rows, cases asked), and which of the (N,) cases these are."""
    advice = "run them again with --force on one data set"
    if len({np.shape(values) for values in rows}) != 1:
        raise UserError(f"{what} have different users; {advice}")
    values = np.stack([np.asarray(one, dtype=np.float64) for one in rows])  # (rows, N)
    asked = ~np.isnan(values)
    if (asked != asked[0]).any():
        raise UserError(f"{what} asked different users; {advice}")
    return values[:, asked[0]], asked[0]


def _standard_errors(values: np.ndarray, clusters: np.ndarray | None) -> tuple[float, float]:
    """Of the mean of values (S, N): over users, and over seeds, which is 0 where there is one seed."""
    by_case = values.mean(axis=0)  # (N,)
    n_users = len(by_case) if clusters is None else len(np.unique(clusters))
    if n_users < 2:
        raise UserError(f"an interval needs two users or more, here {n_users} was asked; use a larger data set")
    if clusters is None:
        users = stats.sem(by_case)
    else:
        sums = np.bincount(np.unique(clusters, return_inverse=True)[1], by_case - by_case.mean())  # (G,)
        users = math.sqrt(n_users / (n_users - 1) * np.square(sums).sum()) / len(by_case)
    return users, stats.sem(values.mean(axis=1)) if len(values) > 1 else 0.0


def _freedom(values: np.ndarray) -> int:
    """Degrees of freedom of the seeds' standard error; any will do for one seed, whose error is 0."""
    return max(1, len(values) - 1)


def _p_value(distance: float, users: float, seeds: float, freedom: int) -> float:
    """The p at which the half-width of the interval of confidence 1 - p is `distance`."""

    def excess(log_p: float) -> float:
        tail = math.exp(log_p) / 2
        return float(np.hypot(special.ndtri(tail) * users, special.stdtrit(freedom, tail) * seeds)) - distance

    if distance == 0:
        return 1.0
    if excess(_LEAST_LOG_P) <= 0:
        return 0.0
    return math.exp(optimize.brentq(excess, _LEAST_LOG_P, 0.0))
