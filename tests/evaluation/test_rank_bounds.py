"""Bounds between metrics against closed forms, hand computation, and all rankings of a few questions."""

from itertools import combinations_with_replacement

import numpy as np
import pytest
from scipy.optimize import linprog

from synergen.evaluation.metrics import metrics
from synergen.evaluation.rank_bounds import Conflict, Measure, Quoted, allowed, conflicts

EXACT = 1e-12


def quoted(values: dict[str, float], half_unit: float = EXACT) -> dict[Measure, Quoted]:
    """By name, fractions."""
    made = {Measure.parse(name): Quoted(value, half_unit) for name, value in values.items()}
    assert None not in made
    return made  # type: ignore[return-value]


def measure(name: str) -> Measure:
    (found,) = quoted({name: 0.0})
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("R@10", "R@10"),
        ("Recall@10", "R@10"),
        ("HR@5", "R@5"),
        ("Hit@1", "R@1"),
        ("hit rate@20", "R@20"),
        ("recall10", "R@10"),
        ("N@5", "N@5"),
        ("NDCG@10 ↑", "N@10"),
        ("nDCG@10 (%)", "N@10"),
        ("N@$_{10}$", "N@10"),
        ("MRR", "MRR"),
        ("mrr@10", "MRR@10"),
        ("M@10", "MRR@10"),
    ],
)
def test_names_of_measures(name: str, expected: str) -> None:
    assert str(Measure.parse(name)) == expected


@pytest.mark.parametrize(
    "name", ["", "SASRec", "click NDCG", "P@5", "Precision@10", "R", "Method", "10", "MAP", "F1@5"]
)
def test_what_is_no_measure(name: str) -> None:
    """click NDCG is over all that was shown, several of it relevant; precision is of other units."""
    assert Measure.parse(name) is None


def test_bounds_between_two_cut_offs_are_the_closed_form() -> None:
    """N@k + (R@m - R@k) / log2(m + 1) ≤ N@m ≤ N@k + (R@m - R@k) / log2(k + 2): all new hits last, or first."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        k, m = sorted(rng.choice(np.arange(1, 60), 2, replace=False))
        ranks = rng.integers(1, 80, 30).astype(float)
        values = metrics(ranks, (f"R@{k}", f"N@{k}", f"R@{m}"))
        gained = values[f"R@{m}"] - values[f"R@{k}"]
        low, high = allowed(measure(f"N@{m}"), quoted(values))
        assert low == pytest.approx(values[f"N@{k}"] + gained / np.log2(m + 1), abs=1e-6)
        assert high == pytest.approx(values[f"N@{k}"] + gained / np.log2(k + 2), abs=1e-6)


def test_bounds_of_the_reciprocal_rank_by_hand() -> None:
    """R@1 ¼ and R@3 ¾: the half between has 1/3 to 1/2 each, the last quarter 0 to 1/4."""
    low, high = allowed(measure("MRR"), quoted({"R@1": 0.25, "R@3": 0.75}))
    assert low == pytest.approx(0.25 + 0.5 / 3, abs=1e-6)
    assert high == pytest.approx(0.25 + 0.5 / 2 + 0.25 / 4, abs=1e-6)
    assert allowed(measure("MRR@3"), quoted({"R@1": 0.25, "R@3": 0.75}))[1] == pytest.approx(0.5, abs=1e-6)


def test_half_ranks_widen_the_upper_bound() -> None:
    """Ranks behind the first begin at 1½: 1 / log2(2½) in place of 1 / log2(3)."""
    given = quoted({"R@1": 0.2, "R@5": 0.5})
    assert allowed(measure("N@5"), given)[1] == pytest.approx(0.2 + 0.3 / np.log2(3), abs=1e-6)
    assert allowed(measure("N@5"), given, half_ranks=True)[1] == pytest.approx(0.2 + 0.3 / np.log2(2.5), abs=1e-6)


NAMES = ("R@1", "R@2", "R@4", "MRR", "N@2", "N@4")


def rankings(step: float) -> list[dict[str, float]]:
    """The metrics of all rankings of four questions up to rank 6."""
    ranks = np.arange(1, 6 + step, step)
    return [metrics(np.array(some), NAMES) for some in combinations_with_replacement(ranks, 4)]


@pytest.mark.parametrize("half_ranks", [False, True])
def test_whatever_ranks_have_is_possible(half_ranks: bool) -> None:
    """All 126 rankings of four questions (of half ranks every seventh of 1,001), exactly and as printed with two
    digits."""
    for values in rankings(0.5)[::7] if half_ranks else rankings(1.0):
        assert conflicts(quoted(values), half_ranks) == []
        assert conflicts(quoted({k: round(v, 2) for k, v in values.items()}, 0.005), half_ranks) == []


def test_no_ranking_is_outside_the_bounds_and_some_reach_them() -> None:
    """Of rankings with equal R@1, R@2 and R@4 none has an N@4 outside, and where all are counted the extremes are met
    by a ranking: hits last or first between two cut-offs."""
    groups: dict[tuple[float, ...], list[float]] = {}
    for values in rankings(1.0):
        groups.setdefault(tuple(values[name] for name in NAMES[:3]), []).append(values["N@4"])
    for recalls, reached in groups.items():
        low, high = allowed(measure("N@4"), quoted(dict(zip(NAMES[:3], recalls, strict=True))))
        assert (min(reached), max(reached)) == pytest.approx((low, high), abs=1e-6)


def test_random_rows_are_judged_as_by_another_programme() -> None:
    """Reference: feasibility of the shares at each rank, written down anew with equalities and slack variables, for 200
    rows of random numbers near possible ones; both verdicts occur often."""
    rng = np.random.default_rng(1)
    names = ("R@1", "R@5", "N@5", "MRR")
    ranks = np.append(np.arange(1.0, 7), np.inf)
    table = np.array([ranks <= 1, ranks <= 5, (ranks <= 5) / np.log2(ranks + 1), 1 / ranks])
    possible = 0
    for _ in range(200):
        values = metrics(rng.integers(1, 12, 8).astype(float), names)
        values = {name: value + rng.normal(0, 0.03) for name, value in values.items()}
        half = 0.01
        slack = np.eye(4)
        answer = linprog(
            np.zeros(11),
            A_eq=np.vstack([np.hstack([table, slack]), np.append(np.ones(7), np.zeros(4))]),
            b_eq=[*values.values(), 1.0],
            bounds=[(0, None)] * 7 + [(-half, half)] * 4,
        )
        assert (conflicts(quoted(values, half)) == []) == (answer.status == 0)
        possible += answer.status == 0
    assert 40 < possible < 160


def test_what_is_said_names_the_reasons() -> None:
    """CoPPS of the paper's Table 3, and its SynerGen of Table 2, in percent with two decimals; by hand
    31.17 + 34.99 / log2(3) = 53.25; 7.15 + 11.19 / log2(201) = 8.61. R@10, N@10 say nothing of the latter."""
    copps = {"R@1": 0.3117, "R@5": 0.6616, "R@10": 0.7707, "N@5": 0.6281}
    (found,) = conflicts(quoted(copps, 0.5e-4))
    assert found.said(percent=True) == "its R@1 and R@5 allow N@5 to be 53.25 at most, 62.81 is printed"
    assert found.because == (measure("R@1"), measure("R@5"))
    synergen = {"R@10": 0.0991, "R@50": 0.1929, "R@200": 0.3048, "N@10": 0.0545, "N@50": 0.0715, "N@200": 0.0843}
    (found,) = conflicts(quoted(synergen, 0.5e-4))
    assert found.said(percent=True) == "its R@50, R@200 and N@50 force N@200 to be 8.61 or more, 8.43 is printed"
    assert found.said(percent=False).endswith("to be 0.0861 or more, 0.0843 is printed")


def test_recalls_that_fall_and_shares_above_one() -> None:
    falling = conflicts(quoted({"R@10": 0.3, "R@5": 0.4}, 0.005))
    assert [one.said(percent=False) for one in falling] == ["its R@5 forces R@10 to be 0.40 or more, 0.30 is printed"]
    (above,) = conflicts(quoted({"R@1": 1.2}, 0.05))
    assert isinstance(above, Conflict)
    assert above.bound == pytest.approx(1)


@pytest.mark.parametrize(("printed", "possible"), [(0.50, True), (0.51, True), (0.52, False)])
def test_rounding_is_allowed_for(printed: float, possible: bool) -> None:
    """N@5 ≤ R@5 where R@1 = R@5 = 0.5; half a unit of 0.005 on either side bridges 0.01 and not 0.02."""
    found = conflicts(quoted({"R@1": 0.5, "R@5": 0.5, "N@5": printed}, 0.005 + 1e-9))
    assert (found == []) == possible
