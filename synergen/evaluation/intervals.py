"""Means with 95 % intervals over users and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from synergen.errors import UserError


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its 95 % interval, which is symmetric and not cut at 0 or 1."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def interval(values_by_seed: Sequence[np.ndarray]) -> Interval:
    """The mean over users and seeds, with its 95 % interval.

    Two sources of error are combined as the root of the sum of their squares:

    - users: 1.96 standard errors of the mean over users, each user's value being the mean over seeds;
    - seeds: t(0.975, S - 1) · sd / √S of the S seeds' means. It is left out where S = 1: the interval of a single
      seed speaks of other users under this one training, and not of another training.

    What seeds add to single users is in both terms, so the interval errs on the wide side.

    Args:
        values_by_seed: S arrays (U,), one a seed, users in the same order; NaN for a user who was not asked.

    Raises:
        UserError: the seeds asked different users, or fewer than two.
    """
    if len({np.shape(values) for values in values_by_seed}) != 1:
        raise UserError("the seeds of a row have different users; run the row again with --force on one data set")
    values = np.stack([np.asarray(one, dtype=np.float64) for one in values_by_seed])  # (S, U)
    asked = ~np.isnan(values)
    if (asked != asked[0]).any():
        raise UserError("the seeds of a row asked different users; run the row again with --force on one data set")
    values = values[:, asked[0]]  # (S, users asked)
    n_seeds, n_users = values.shape
    if n_users < 2:
        raise UserError(f"an interval needs two users or more, here {n_users} was asked; use a larger data set")
    half = 1.96 * stats.sem(values.mean(axis=0))
    if n_seeds > 1:
        half = np.hypot(half, stats.t.ppf(0.975, n_seeds - 1) * stats.sem(values.mean(axis=1)))
    mean = float(values.mean())
    return Interval(mean, mean - float(half), mean + float(half))
