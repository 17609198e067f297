"""Two rows of a table, user by user: the randomisation test, the bootstrap over users and seeds, and effect sizes.

Everything follows from ranks on record. Users count, not requests: what a user was asked several times is taken
together. Draws come from a fixed seed, so that a table is a function of its records.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from synergen.errors import UserError
from synergen.evaluation.cases import Ranks, cases, of_same_requests, users_of_cases
from synergen.evaluation.intervals import Interval

DRAWS = 10_000
"""Of signs and of users; all signs are had where there are no more patterns of them."""
MOST_GROUPS = 4096
"""More users than this are put together into so many groups, whose signs are drawn and which are resampled. The test
keeps its level (the group's signs are some of the users' signs) and hardly loses power; time stops growing."""

_CHUNK = 500

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class UserDifferences:
    """Ours minus theirs in one metric, added up over the cases of each of G users, of S seeds."""

    sums: np.ndarray  # (S, G)
    counts: np.ndarray  # (G,) cases of each user

    @property
    def by_user(self) -> np.ndarray:
        """(G,) means over seeds and over the cases of a user."""
        means: np.ndarray = self.sums.mean(axis=0) / self.counts
        return means

    @property
    def mean(self) -> float:
        """Over seeds and cases, as a table prints it."""
        return float(self.sums.mean(axis=0).sum() / self.counts.sum())

    @property
    def effect(self) -> float | None:
        """The mean over users in standard deviations of their differences (Cohen's d of pairs); None where all differ
        alike."""
        by_user = self.by_user
        spread = float(by_user.std(ddof=1))
        return float(by_user.mean()) / spread if spread > 1e-12 else None

    @property
    def wins(self) -> int:
        """Users for whom ours is better."""
        return int((self.by_user > 1e-12).sum())

    @property
    def losses(self) -> int:
        """Users for whom theirs is better."""
        return int((self.by_user < -1e-12).sum())

    def grouped(self) -> "UserDifferences":
        """User i in group i mod `MOST_GROUPS`; the same where users are no more than that."""
        n_users = len(self.counts)
        if n_users <= MOST_GROUPS:
            return self
        rest = -n_users % MOST_GROUPS
        sums = np.pad(self.sums, ((0, 0), (0, rest))).reshape(len(self.sums), -1, MOST_GROUPS).sum(axis=1)
        counts = np.pad(self.counts, (0, rest)).reshape(-1, MOST_GROUPS).sum(axis=0)
        return UserDifferences(sums, counts)


def user_differences(
    ours_by_seed: Sequence[np.ndarray], theirs_by_seed: Sequence[np.ndarray], clusters: np.ndarray | None = None
) -> UserDifferences:
    """The differences of the cases that both were asked.

    Args:
        ours_by_seed: S arrays (N,), one a seed; NaN for a case that was not asked.
        theirs_by_seed: S arrays (N,) of the same seeds and cases.
        clusters: (N,) ints, the user of each case where a user has several.

    Raises:
        UserError: the two have different seeds or cases, or share fewer than two users.
    """
    shapes = {np.shape(values) for values in (*ours_by_seed, *theirs_by_seed)}
    if len(ours_by_seed) != len(theirs_by_seed) or len(shapes) != 1:
        raise UserError("the rows compared have different seeds or cases; run both with the same --seeds and data")
    differences = np.stack(ours_by_seed) - np.stack(theirs_by_seed)  # (S, N)
    asked = ~np.isnan(differences).any(axis=0)
    users = np.arange(len(asked)) if clusters is None else clusters
    names, numbers = np.unique(users[asked], return_inverse=True)
    if len(names) < 2:
        raise UserError(f"the rows compared were both asked about {len(names)} user(s); a comparison needs two or more")
    sums = np.stack([np.bincount(numbers, one, minlength=len(names)) for one in differences[:, asked]])
    return UserDifferences(sums, np.bincount(numbers, minlength=len(names)))


def compare_ranks(ours: Mapping[int, Ranks], theirs: Mapping[int, Ranks], metric: str) -> UserDifferences | None:
    """The differences in a metric over the seeds that both have (ranks by seed); None where there is no such seed.

    Raises:
        UserError: runs that were asked about different users or requests, or an unknown metric.
    """
    seeds = sorted(set(ours) & set(theirs))
    if not seeds:
        return None
    pairs = [of_same_requests(ours[seed], theirs[seed]) for seed in seeds]
    own, others = ([cases(ranks, metric) for ranks in side] for side in zip(*pairs, strict=True))
    return user_differences(own, others, users_of_cases(pairs[0][0]))


def randomisation_test(compared: Sequence[UserDifferences]) -> list[float]:
    """Two-sided p-values: how often the mean is as far from 0 where each user's difference has a random sign.

    If both rows were equally good for every user, either sign would be as likely (Fisher 1935; for retrieval: Smucker,
    Allan and Carterette, CIKM 2007). The seeds of a row are averaged for each user, so the test speaks of other users
    under these trainings. (1 + #as far) / (1 + draws), and exact where there are no more sign patterns than draws.
    """
    return _by_groups(compared, _sign_flips)


def bootstrap(compared: Sequence[UserDifferences]) -> list[Interval]:
    """Means with 95 % percentile intervals over users and seeds.

    Each draw takes as many users as there are, with replacement, and adds an error for the seeds: Student's t with
    S - 1 degrees of freedom times the standard error that the S seeds add. Seeds are too few to be resampled like
    users: of three, the resampled variance is a third too small and has no tails. On simulated ranks the interval
    covers the truth in 94 to 97 % of cases with one, three or five seeds, and in 91 % or more with two. One seed adds
    nothing: the interval then speaks of other users under this one training.
    """
    return _by_groups(compared, _resampled)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number: all rejected at 0.05 are true with probability 0.95 (Holm, Scandinavian
    Journal of Statistics 6, 1979)."""
    order = np.argsort(p_values, kind="stable")
    weights = len(order) - np.arange(len(order))
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(weights * np.asarray(p_values)[order]))
    return adjusted.tolist()


def _by_groups(
    compared: Sequence[UserDifferences], draw: Callable[[Sequence[UserDifferences]], list[_Found]]
) -> list[_Found]:
    """`draw` for all comparisons of as many groups at once: they share the draws, which cost more than their use."""
    grouped = [one.grouped() for one in compared]
    found: dict[int, _Found] = {}
    for groups in {len(one.counts) for one in grouped}:
        at = [number for number, one in enumerate(grouped) if len(one.counts) == groups]
        found |= zip(at, draw([grouped[number] for number in at]), strict=True)
    return [found[number] for number in range(len(grouped))]


def _sign_flips(compared: Sequence[UserDifferences]) -> list[float]:
    sums = np.stack([one.sums.sum(axis=0) for one in compared], axis=1)  # (G, comparisons)
    exact = len(sums) < DRAWS.bit_length()
    draws = 2 ** len(sums) if exact else DRAWS
    # Sums that differ by rounding alone are as far.
    observed = np.abs(sums.sum(axis=0)) - 1e-9 * np.abs(sums).sum(axis=0)
    as_far = np.zeros(len(compared), dtype=int)
    rng = np.random.default_rng(0)
    for chunk in _chunks(draws):
        if exact:
            bits = ((chunk[:, None] >> np.arange(len(sums))) & 1).astype(np.uint8)
        else:
            octets = rng.integers(256, size=(len(chunk), -(-len(sums) // 8)), dtype=np.uint8)
            bits = np.unpackbits(octets, axis=1, count=len(sums))
        as_far += (np.abs((2.0 * bits - 1) @ sums) >= observed).sum(axis=0)
    return (as_far / draws if exact else (1 + as_far) / (1 + draws)).tolist()


def _resampled(compared: Sequence[UserDifferences]) -> list[Interval]:
    sums = np.stack([one.sums.mean(axis=0) for one in compared], axis=1)  # (G, comparisons)
    counts = np.stack([one.counts for one in compared], axis=1).astype(float)
    rng = np.random.default_rng(0)
    means = np.empty((DRAWS, len(compared)))
    for chunk in _chunks(DRAWS):
        drawn = rng.integers(len(sums), size=(len(chunk), len(sums))) + len(sums) * np.arange(len(chunk))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        means[chunk] = (times @ sums) / (times @ counts)
    for one, column in zip(compared, means.T, strict=True):
        if len(one.sums) > 1:
            column += rng.standard_t(len(one.sums) - 1, DRAWS) * _error_of_seeds(one)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return [Interval(one.mean, *ends) for one, *ends in zip(compared, low.tolist(), high.tolist(), strict=True)]


def _error_of_seeds(one: UserDifferences) -> float:
    """The standard error that seeds add to the mean: that of their means, less what users' differences within a seed
    add to these, which resampled users bring along (the variance component of a two-way layout; 0 where negative)."""
    n_seeds, groups = one.sums.shape
    values = one.sums * groups / one.counts.sum()  # (S, G), whose mean is that over cases
    by_seed, by_group = values.mean(axis=1, keepdims=True), values.mean(axis=0)
    within = np.square(values - by_seed - by_group + values.mean()).sum() / ((n_seeds - 1) * (groups - 1))
    return math.sqrt(max(0.0, float(by_seed.var(ddof=1) - within / groups)) / n_seeds)


def _chunks(draws: int) -> list[np.ndarray]:
    """The numbers of the draws, as many at a time as memory is spent on."""
    return np.split(np.arange(draws), range(_CHUNK, draws, _CHUNK))
