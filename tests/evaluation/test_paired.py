"""Paired tests, bootstrap intervals and Holm's correction against scipy, hand computation and simulation."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from synergen.errors import UserError
from synergen.evaluation.metrics import metric_values
from synergen.evaluation.paired import (
    DRAWS,
    MOST_GROUPS,
    UserDifferences,
    bootstrap,
    compare_ranks,
    holm,
    randomisation_test,
    user_differences,
)
from synergen.evaluation.slates import SlateRanks


def ranks_of(rng: np.random.Generator, users: np.ndarray, seed_spread: float, seeds: int, shift: float = 0.0):
    """Simulated ranks (S, U): users of different difficulty, seeds of different quality, and chance."""
    noise = rng.normal(0, seed_spread, (seeds, 1)) + rng.normal(0, 0.7, (seeds, len(users)))
    return 1 + np.floor(np.exp(1.5 + shift + users + noise))


def two_rows(seed: int, users: int, shift: float, seeds: int = 1) -> UserDifferences:
    """Two simulated rows in N@10, the second one worse by `shift`."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(0, 1, users)
    ours, theirs = (metric_values(ranks_of(rng, difficulty, 0.0, seeds, by), "N@10") for by in (0.0, shift))
    return user_differences(list(ours), list(theirs))


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("users", [2, 7, 12])
def test_all_signs_of_few_users_are_scipys_exact_test(users: int, seeds: int) -> None:
    """Reference: scipy.stats.permutation_test, which has all 2ⁿ signs of n paired samples where these are few."""
    one = two_rows(users, users, 0.5, seeds)
    expected = stats.permutation_test(
        (one.by_user,), np.mean, permutation_type="samples", alternative="two-sided", n_resamples=10**5, vectorized=True
    )
    assert randomisation_test([one]) == pytest.approx([expected.pvalue], abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("users", [60, 2 * MOST_GROUPS + 5])
def test_drawn_signs_agree_with_scipys(users: int, shift: float) -> None:
    """Reference: scipy's test with as many draws; each has a standard error of √(p (1 - p) / draws). More users than
    groups are tested in groups, whose p-values scatter around the same: within 0.05."""
    one = two_rows(5, users, shift if users < MOST_GROUPS else shift / 10)
    expected = stats.permutation_test(
        (one.by_user,), np.mean, permutation_type="samples", n_resamples=2000, rng=np.random.default_rng(1), batch=200
    ).pvalue
    error = np.sqrt(expected * (1 - expected) * (1 / 2000 + 1 / DRAWS))
    assert abs(randomisation_test([one])[0] - expected) < 4 * error + (0.002 if users < MOST_GROUPS else 0.05)


def test_hits_and_misses_are_mcnemars_exact_test() -> None:
    """In R@1 of one seed only users with one hit count: 30 against 14 of 44. Reference: scipy.stats.binomtest."""
    values = np.repeat([1.0, -1.0, 0.0], [30, 14, 500])
    found = randomisation_test([user_differences([values], [np.zeros(544)])])[0]
    expected = stats.binomtest(14, 44).pvalue
    assert found == pytest.approx(expected, abs=4 * np.sqrt(expected / DRAWS))


def test_true_null_hypotheses_are_rejected_at_their_level() -> None:
    """Of 1,000 simulated pairs that differ by chance alone 5 % have p < 0.05, to three standard errors (2.1 %); half of
    them are of more users than are flipped apart."""
    for users in (100, MOST_GROUPS + 100):
        rng = np.random.default_rng(users)
        rows = rng.choice([-0.5, 0.0, 0.0, 0.5, 1.0, -1.0], (500, users))
        p_values = randomisation_test([UserDifferences(row[None], np.ones(users, dtype=int)) for row in rows])
        assert abs(np.mean(np.array(p_values) < 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / 500)


def test_equal_rows_differ_by_nothing() -> None:
    same = user_differences([np.ones(50)], [np.ones(50)])
    assert randomisation_test([same]) == [1.0]
    assert (same.effect, same.wins, same.losses) == (None, 0, 0)
    (found,) = bootstrap([same])
    assert (found.mean, found.low, found.high) == (0, 0, 0)


@pytest.mark.parametrize(("seeds", "seed_spread"), [(1, 0.0), (3, 0.0), (3, 0.05), (3, 0.2), (5, 0.05), (5, 0.2)])
def test_the_bootstrap_covers_the_true_mean(seeds: int, seed_spread: float) -> None:
    """Of 1,500 simulated rows of 300 users the interval of N@10 covers the mean of two million such users and seeds
    in 93 to 97 % of cases, whatever seeds add: nothing, as much as users, or more."""
    rng = np.random.default_rng(seeds)
    drawn = rng.normal(0, np.hypot(1, seed_spread), 2_000_000)
    truth = metric_values(ranks_of(rng, drawn, 0.0, 1), "N@10").mean()
    rows = [
        UserDifferences(
            metric_values(ranks_of(rng, rng.normal(0, 1, 300), seed_spread, seeds), "N@10"), np.ones(300, dtype=int)
        )
        for _ in range(1500)
    ]
    covered = np.mean([one.low <= truth <= one.high for one in bootstrap(rows)])
    assert 0.93 <= covered <= 0.97


@pytest.mark.parametrize("users", [400, MOST_GROUPS + 900])
def test_the_bootstrap_of_one_seed_is_scipys(users: int) -> None:
    """Reference: scipy.stats.bootstrap, percentile method; quantiles of 2,000 draws scatter by 2 % of the width."""
    one = two_rows(3, users, 0.2)
    expected = stats.bootstrap(
        (one.by_user,), np.mean, method="percentile", n_resamples=2000, batch=200, rng=np.random.default_rng(2)
    ).confidence_interval
    (found,) = bootstrap([one])
    width = expected.high - expected.low
    assert found.mean == pytest.approx(one.by_user.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.06 * width)


def test_seeds_that_all_users_feel_alike_give_the_t_interval() -> None:
    """Users who agree add nothing; reference: scipy.stats.t.interval, whose tails 10,000 draws meet to a twentieth."""
    by_seed = [0.2, 0.25, 0.27, 0.31]
    (found,) = bootstrap([user_differences([np.full(50, one) for one in by_seed], [np.zeros(50)] * 4)])
    low, high = stats.t.interval(0.95, 3, np.mean(by_seed), stats.sem(by_seed))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_requests_of_a_user_stand_together() -> None:
    """Every case twice under one user's name is as much evidence as once: the same p-value and interval; by hand, the
    mean of users with (1, 0) and (1) is ⅔ over cases."""
    one = two_rows(1, 80, 0.3)
    twice = user_differences([np.repeat(one.by_user, 2)], [np.zeros(160)], np.repeat(np.arange(80), 2))
    assert randomisation_test([twice]) == randomisation_test([one])
    (once, again) = (bootstrap([made])[0] for made in (one, twice))
    assert (again.low, again.high) == pytest.approx((once.low, once.high))
    mixed = user_differences([np.array([1.0, 0.0, 1.0])], [np.zeros(3)], np.array([7, 7, 2]))
    assert mixed.mean == pytest.approx(2 / 3)
    assert sorted(mixed.by_user) == [0.5, 1.0]


def test_effects_by_hand() -> None:
    """Means over two seeds are ½, ½, -½, 0: mean ⅛, sd √(11/48); two users won, one lost."""
    ours, theirs = np.array([[[1.0, 1, 0, 0], [0, 0, 0, 1]], [[0, 0, 1, 0], [0, 0, 0, 1]]])
    one = user_differences(list(ours), list(theirs))
    assert one.effect == pytest.approx(0.125 / np.sqrt(11 / 48))
    assert (one.wins, one.losses, one.mean) == (2, 1, 0.125)


def test_users_whom_one_row_was_not_asked_are_left_out() -> None:
    """A sample of users against all of them: those of the sample."""
    sample = np.array([1.0, np.nan, 0.0, np.nan])
    one = user_differences([sample], [np.array([0.0, 1.0, 0.0, 1.0])])
    assert (one.mean, len(one.counts)) == (0.5, 2)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ([[1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], "different seeds or cases"),
        ([[1.0, 0.0]], [[1.0, 0.0, 1.0]], "different seeds or cases"),
        ([[1.0, np.nan]], [[np.nan, 1.0]], r"both asked about 0 user\(s\)"),
    ],
)
def test_rows_that_cannot_be_paired_are_refused(ours, theirs, message) -> None:
    with pytest.raises(UserError, match=message):
        user_differences([np.array(one) for one in ours], [np.array(one) for one in theirs])


def test_ranks_are_compared_over_common_seeds() -> None:
    """R@1 on seed 1 alone: 1 and 0 against 0 and 0; without a common seed there is nothing."""
    ours, theirs = {0: np.array([9.0, 9.0]), 1: np.array([1.0, 2.0])}, {1: np.array([3.0, 4.0])}
    found = compare_ranks(ours, theirs, "R@1")
    assert found is not None
    assert found.mean == 0.5
    assert compare_ranks({0: ours[0]}, theirs, "R@1") is None


def test_requests_that_one_row_was_not_asked_are_left_out() -> None:
    """Of requests 3, 5 and 8 the sample has 3 and 8: R@1 0 and 1 there, 1 and 1 of the row that was asked all."""
    whole = SlateRanks(np.array([3, 5, 8]), np.array([0, 0, 1]), np.array([1.0, 9.0, 1.0]))
    sample = SlateRanks(np.array([3, 8]), np.array([0, 1]), np.array([2.0, 1.0]))
    for ours, theirs, mean in ((whole, sample, 0.5), (sample, whole, -0.5)):
        found = compare_ranks({0: ours}, {0: theirs}, "R@1")
        assert found is not None
        assert (found.mean, len(found.counts)) == (mean, 2)
    other = SlateRanks(np.array([3, 9]), np.array([0, 1]), np.array([2.0, 1.0]))
    with pytest.raises(UserError, match="different requests"):
        compare_ranks({0: whole}, {0: other}, "R@1")


def test_holm_is_the_closure_of_bonferroni() -> None:
    """The definition (Marcus, Peritz and Gabriel 1976): an adjusted p-value is the largest Bonferroni p-value of all
    sets of hypotheses that hold this one."""
    rng = np.random.default_rng(0)
    for count in (1, 2, 5):
        p_values = rng.random(count) ** 3
        closed = [
            max(
                min(1.0, size * min(p_values[list(chosen)]))
                for size in range(1, count + 1)
                for chosen in combinations(range(count), size)
                if at in chosen
            )
            for at in range(count)
        ]
        assert holm(p_values.tolist()) == pytest.approx(closed)


def test_comparisons_share_draws_without_touching_one_another() -> None:
    """Of different sizes, in any company, each has the numbers that it has alone."""
    rows = [two_rows(1, 50, 0.2), two_rows(2, 9, 0.2), two_rows(3, 50, 0.0, 2)]
    assert randomisation_test(rows) == [randomisation_test([one])[0] for one in rows]
    alone = [bootstrap([one])[0] for one in rows]
    for found, one in zip(bootstrap(rows), alone, strict=True):
        assert (found.low, found.high) == pytest.approx((one.low, one.high), abs=0.02)
