"""Intervals against scipy, hand computation and simulation."""

import numpy as np
import pytest
from scipy import stats

from synergen.errors import UserError
from synergen.evaluation.intervals import interval


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
