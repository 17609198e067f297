"""What recalls, NDCGs and reciprocal ranks of one ranking leave for one another, where each question has one relevant
item.

All are means over questions of a gain that depends on the rank alone: R@k of 1 where rank ≤ k, N@k of
1 / log2(rank + 1) where rank ≤ k, MRR of 1 / rank. So printed numbers are possible exactly where some distribution of
ranks has them, which a linear programme decides. For two cut-offs k < m it gives

    N@k + (R@m - R@k) / log2(m + 1) ≤ N@m ≤ N@k + (R@m - R@k) / log2(k + 2),    N@1 = R@1.

Means of means over seeds or users are such numbers again, so averaging excuses nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.optimize import linprog

_TOLERANCE = 1e-7
"""The solver's."""
_NAMES = (
    ("R", re.compile(r"(?:r@|h@|(?:recall|hr|hits?|hit-?rate|hit-?ratio)@?)(\d+)")),
    ("N", re.compile(r"(?:n@|ndcg@?)(\d+)")),
    ("MRR", re.compile(r"(?:m@|mrr@?)(\d+)|mrr")),
)


@dataclass(frozen=True)
class Measure:
    """R@k, N@k, MRR@k, or MRR without a cut-off."""

    kind: str
    """R, N or MRR."""
    cutoff: int | None

    @classmethod
    def parse(cls, name: str) -> "Measure | None":
        """From a table's heading: `R@10`, `Recall@10`, `HR@10`, `NDCG@10`, `mrr`; None where it is none of these."""
        bare = re.sub(r"[\s$^_{}\\()%↑]", "", name).lower()
        for kind, pattern in _NAMES:
            if found := pattern.fullmatch(bare):
                return cls(kind, int(found[1]) if found[1] and int(found[1]) else None)
        return None

    def __str__(self) -> str:
        return self.kind if self.cutoff is None else f"{self.kind}@{self.cutoff}"

    @property
    def place(self) -> tuple[int, float]:
        """The order in which numbers are taken for granted: recalls, reciprocal ranks, NDCGs, short cut-offs first."""
        return ("R", "MRR", "N").index(self.kind), self.cutoff or np.inf

    def gains(self, ranks: np.ndarray) -> np.ndarray:
        """Of ranks (N,), which may be infinite."""
        gain = {"R": np.ones_like(ranks), "N": 1 / np.log2(ranks + 1), "MRR": 1 / ranks}[self.kind]
        return np.where(ranks <= (self.cutoff or np.inf), gain, 0.0)


@dataclass(frozen=True)
class Quoted:
    """A printed number as a fraction: it stands for all that round to it."""

    value: float
    half_unit: float
    """Of the last digit."""

    @property
    def low(self) -> float:
        return self.value - self.half_unit

    @property
    def high(self) -> float:
        return self.value + self.half_unit


@dataclass(frozen=True)
class Conflict:
    """A number that no ranking has which has the others named."""

    measure: Measure
    printed: Quoted
    bound: float
    """What it would have to be at most where it is too high, at least where it is too low."""
    because: tuple[Measure, ...]
    """The numbers that the bound follows from."""

    def said(self, percent: bool) -> str:
        """In words, numbers with as many digits as the table's."""
        factor = 100 if percent else 1
        digits = max(0, round(-np.log10(2 * self.printed.half_unit * factor)))
        bound, value = (f"{factor * number:.{digits}f}" for number in (self.bound, self.printed.value))
        *most, last = map(str, self.because) if self.because else ("definition",)
        reasons = f"{', '.join(most)} and {last}" if most else last
        if self.printed.value > self.bound:
            return f"its {reasons} allow{'' if most else 's'} {self.measure} to be {bound} at most, {value} is printed"
        return f"its {reasons} force{'' if most else 's'} {self.measure} to be {bound} or more, {value} is printed"


def conflicts(values: Mapping[Measure, Quoted], half_ranks: bool = False) -> list[Conflict]:
    """The numbers of one row that cannot be of one ranking: taken one after another, recalls first, those that the ones
    taken before them rule out.

    Args:
        half_ranks: ties share their mean rank, so that ranks are multiples of ½.
    """
    names = tuple(sorted(values, key=lambda measure: measure.place))
    if _Programme(names, half_ranks).is_possible(values):
        return []
    taken: dict[Measure, Quoted] = {}
    found = []
    for name in names:
        programme = _Programme((*taken, name), half_ranks)
        (low, forcing), (high, limiting) = programme.end(name, taken, 1), programme.end(name, taken, -1)
        if values[name].high < low - _TOLERANCE:
            found.append(Conflict(name, values[name], low, forcing))
        elif values[name].low > high + _TOLERANCE:
            found.append(Conflict(name, values[name], high, limiting))
        else:
            taken[name] = values[name]
    return found


def allowed(measure: Measure, given: Mapping[Measure, Quoted], half_ranks: bool = False) -> tuple[float, float]:
    """The least and the greatest value of a measure in rankings that have the given ones, which must be possible."""
    programme = _Programme((*given, measure), half_ranks)
    return programme.end(measure, given, 1)[0], programme.end(measure, given, -1)[0]


@dataclass(frozen=True)
class _Programme:
    """Distributions of ranks: shares of questions at each rank up to the largest cut-off, just behind it, and never."""

    measures: tuple[Measure, ...]
    half_ranks: bool

    def gains(self, measure: Measure) -> np.ndarray:
        deepest = max((one.cutoff or 1 for one in self.measures), default=1)
        return _gains(measure, deepest, 0.5 if self.half_ranks else 1.0)

    def end(self, measure: Measure, given: Mapping[Measure, Quoted], sign: int) -> tuple[float, tuple[Measure, ...]]:
        """The least (sign 1) or greatest (-1) value, and the given numbers that hold it there."""
        found = self._solve(sign * self.gains(measure), given)
        prices = np.abs(found.ineqlin.marginals).reshape(2, -1).max(axis=0) if given else ()
        because = tuple(one for one, price in zip(given, prices, strict=True) if price > _TOLERANCE)
        return sign * float(found.fun), because

    def is_possible(self, given: Mapping[Measure, Quoted]) -> bool:
        return bool(self._solve(np.zeros_like(self.gains(self.measures[0])), given).status == 0)

    def _solve(self, costs: np.ndarray, given: Mapping[Measure, Quoted]) -> Any:
        rows = np.array([self.gains(one) for one in given]).reshape(len(given), len(costs))
        limits = [one.high for one in given.values()] + [-one.low for one in given.values()]
        return linprog(
            costs, A_ub=np.concatenate([rows, -rows]), b_ub=limits, A_eq=np.ones((1, len(costs))), b_eq=[1.0]
        )


@lru_cache(maxsize=256)
def _gains(measure: Measure, deepest: int, step: float) -> np.ndarray:
    return measure.gains(np.append(np.arange(1, deepest + 1.5 * step, step), np.inf))
