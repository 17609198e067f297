"""Intervals against scipy, hand computation and simulation."""

import numpy as np
import pytest
from scipy import stats

from synergen.errors import UserError
from synergen.evaluation.intervals import interval, paired_difference


def test_by_hand_with_two_seeds() -> None:
    """Users' means over seeds are 0, 1, ½ (sd ½, se ½/√3); seeds' means are ⅓ and ⅔ (se ⅙); t(0.975, 1) = 12.7062."""
    found = interval([np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 1.0])])
    half = np.hypot(1.96 * 0.5 / np.sqrt(3), 12.706204736432095 / 6)
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half))
    assert found.half_width == pytest.approx(half)


def test_one_seed_is_the_normal_interval_over_users() -> None:
    """Reference: scipy.stats.norm.interval, whose 1.95996 is rounded to 1.96 here."""
    values = np.random.default_rng(0).random(400)
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    found = interval([values])
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-5)


def test_seeds_alone_give_the_t_interval() -> None:
    """Users who all agree add nothing; reference: scipy.stats.t.interval of the seeds' means."""
    seeds = [0.2, 0.25, 0.27, 0.31]
    low, high = stats.t.interval(0.95, 3, np.mean(seeds), stats.sem(seeds))
    found = interval([np.full(10, mean) for mean in seeds])
    assert (found.low, found.high) == pytest.approx((low, high))


def test_users_who_were_not_asked_count_for_nothing() -> None:
    """Dropping them by hand gives the same."""
    first, second = np.array([1.0, np.nan, 0.0, 1.0]), np.array([0.0, np.nan, 0.0, 1.0])
    assert interval([first, second]) == interval([first[[0, 2, 3]], second[[0, 2, 3]]])


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ([[1.0, 0.0], [1.0, 0.0, 1.0]], "different users"),
        ([[1.0, np.nan, 0.0], [1.0, 0.0, np.nan]], "asked different users"),
        ([[1.0, np.nan]], "two users or more, here 1"),
    ],
)
def test_what_cannot_be_averaged_is_refused(seeds: list[list[float]], message: str) -> None:
    """Seeds must ask the same users, and one user has no spread."""
    with pytest.raises(UserError, match=message):
        interval([np.array(values) for values in seeds])


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_the_interval_covers_the_truth(n_seeds: int) -> None:
    """Of 1,000 simulated tables whose true mean is 0.3, at least 93.5 % are covered (95 % less two standard errors).

    With one seed the truth is that of this one training, so seeds have no effect of their own there.
    """
    rng = np.random.default_rng(0)
    seed_spread = 0.02 if n_seeds > 1 else 0.0
    covered = 0
    for _ in range(1000):
        user, seed = rng.normal(0, 0.2, 100), rng.normal(0, seed_spread, n_seeds)
        values = 0.3 + user + seed[:, None] + rng.normal(0, 0.1, (n_seeds, 100))
        found = interval(list(values))
        covered += found.low <= 0.3 <= found.high
    assert covered / 1000 >= 0.935


def test_several_values_of_a_user_by_hand() -> None:
    """Users have (0, 1), (1, 1) and (0); mean 3/5. Sums of deviations are -1/5, 4/5, -3/5, squares together 26/25;
    SE² = 3/2 · 26/25 / 25."""
    found = interval([np.array([0.0, 1.0, 1.0, 1.0, 0.0])], np.array([4, 4, 9, 9, 7]))
    assert found.mean == pytest.approx(0.6)
    assert found.half_width == pytest.approx(1.96 * np.sqrt(1.5 * 26 / 25 / 25))


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_one_value_a_user_is_the_interval_without_clusters(n_seeds: int) -> None:
    """G/(G - 1) · Σ(x - mean)² / N² is the squared standard error of a mean where G = N."""
    rng = np.random.default_rng(n_seeds)
    values = list(np.where(np.arange(50) % 7 == 0, np.nan, rng.random((n_seeds, 50))))
    plain, clustered = interval(values), interval(values, rng.permutation(50))
    assert (clustered.low, clustered.high) == pytest.approx((plain.low, plain.high), rel=0, abs=1e-12)


def test_repeating_every_value_changes_nothing() -> None:
    """A user whose value stands there twice tells no more than once; without clusters the interval shrinks by √2."""
    values = np.random.default_rng(0).random(100)
    twice = np.repeat(values, 2)
    once = interval([values])
    assert interval([twice], np.repeat(np.arange(100), 2)).half_width == pytest.approx(once.half_width)
    assert interval([twice]).half_width < 0.75 * once.half_width


def test_values_of_one_user_are_no_interval() -> None:
    """One cluster has no spread between clusters, however many values it has."""
    with pytest.raises(UserError, match="two users or more, here 1"):
        interval([np.array([0.0, 1.0, 1.0])], np.zeros(3, dtype=int))


def test_clusters_cover_the_truth_where_users_answer_often() -> None:
    """As above for users of 1 to 20 values with a shared part: 93.5 % or more of 1,000 (less two standard errors)."""
    rng = np.random.default_rng(1)
    user = np.repeat(np.arange(200), rng.integers(1, 21, 200))
    covered = 0
    for _ in range(1000):
        found = interval([0.3 + rng.normal(0, 0.2, 200)[user] + rng.normal(0, 0.1, len(user))], user)
        covered += found.low <= 0.3 <= found.high
    assert covered / 1000 >= 0.935


def test_a_difference_of_one_seed_is_the_z_test_of_the_differences() -> None:
    """Reference: scipy's standard error and normal tails, and `interval` on the differences."""
    ours, theirs = np.random.default_rng(0).random((2, 80))
    found = paired_difference([ours + 0.1], [theirs])
    differences = ours + 0.1 - theirs
    assert (found.mean, found.n, found.seeds) == (pytest.approx(differences.mean()), 80, 1)
    assert found.p_value == pytest.approx(2 * stats.norm.sf(differences.mean() / stats.sem(differences)), rel=1e-9)
    assert (found.low, found.high) == pytest.approx((interval([differences]).low, interval([differences]).high))


def test_a_difference_that_only_seeds_blur_is_the_t_test_of_their_means() -> None:
    """Users who all agree add nothing; reference: scipy's one-sample t-test on the seeds' mean differences."""
    by_seed = [0.01, 0.04, 0.02, 0.05]
    found = paired_difference([np.full(10, 0.3 + d) for d in by_seed], [np.full(10, 0.3)] * 4)
    assert found.p_value == pytest.approx(stats.ttest_1samp(by_seed, 0).pvalue, rel=1e-9)


def test_p_is_below_a_twentieth_where_zero_is_outside() -> None:
    """The definition, for 200 random tables with effects near the edge; ours and theirs swapped give the same p."""
    rng = np.random.default_rng(2)
    outside = 0
    for _ in range(200):
        users, n_seeds = rng.integers(5, 60), rng.integers(1, 5)
        clusters = rng.integers(0, users, users) if rng.random() < 0.5 else None
        ours = list(rng.normal(0.3, 1, (n_seeds, users)) + rng.normal(0, 0.1, (n_seeds, 1)))
        theirs = list(rng.normal(0, 1, (n_seeds, users)))
        found, swapped = paired_difference(ours, theirs, clusters), paired_difference(theirs, ours, clusters)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        assert (swapped.mean, swapped.p_value) == (-found.mean, found.p_value)
        outside += found.p_value < 0.05
    assert 20 < outside < 180  # both sides of the edge were met


@pytest.mark.parametrize(("shift", "p_value"), [(0.0, 1.0), (0.5, 0.0)])
def test_differences_without_spread(shift: float, p_value: float) -> None:
    """Equal rows differ by nothing; rows that differ everywhere by as much (a half is exact) leave no doubt."""
    values = np.arange(8.0)
    found = paired_difference([values + shift] * 2, [values] * 2)
    assert (found.low, found.high, found.p_value) == (shift, shift, p_value)


def test_true_null_hypotheses_are_rejected_in_five_percent_or_less() -> None:
    """500 simulated pairs of two seeds, whose training noise outweighs the users': at most 6.9 % (two standard errors
    above 5 %) have p < 0.05, where the Welch-Satterthwaite t-test on the same errors rejects more."""
    rng = np.random.default_rng(0)
    rejected = welch_rejected = 0
    for _ in range(500):
        differences = rng.normal(0, 0.2, 200) + rng.normal(0, 0.05, (2, 1)) + rng.normal(0, 0.1, (2, 200))
        rejected += paired_difference(list(differences), [np.zeros(200)] * 2).p_value < 0.05
        users, seeds = stats.sem(differences.mean(axis=0)), stats.sem(differences.mean(axis=1))
        error = np.hypot(users, seeds)
        freedom = error**4 / (users**4 / 199 + seeds**4)
        welch_rejected += stats.t.sf(abs(differences.mean()) / error, freedom) < 0.025
    assert rejected / 500 <= 0.069 < welch_rejected / 500


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([[1.0, 0.0, np.nan]], [[1.0, np.nan, 0.0]], "rows compared asked different users"),
        ([[1.0, 0.0]], [[1.0, 0.0, 1.0]], "rows compared have different users"),
        ([[1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], "1 and 2 seeds"),
    ],
)
def test_rows_of_different_cases_are_refused(ours: list[list[float]], theirs: list[list[float]], message: str) -> None:
    """A pair needs the same case and the same seed on both sides."""
    with pytest.raises(UserError, match=message):
        paired_difference([np.array(one) for one in ours], [np.array(one) for one in theirs])
