"""Each row of a table against the best other one, column by column: by how much, how surely, for how many users."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from synergen.evaluation.cases import Ranks
from synergen.evaluation.intervals import Interval
from synergen.evaluation.paired import UserDifferences, bootstrap, compare_ranks, holm, randomisation_test

LEVEL = 0.05


@dataclass(frozen=True)
class Reached:
    """A cell, and what it is made of."""

    mean: float
    """As printed, over all of its seeds."""
    metric: str
    """The column's."""
    ranks: Mapping[int, Ranks]
    """By seed."""


@dataclass(frozen=True)
class Gain:
    """A cell minus that of the best other row in its column, over the seeds and users that both have."""

    other: str
    """The method of that row."""
    difference: Interval
    """Fractions; 95 % bootstrap interval over users and seeds."""
    p_value: float
    """Of the randomisation test by user."""
    p_holm: float
    """The same, adjusted for all comparisons of the block."""
    effect: float | None
    """The mean over users in standard deviations of their differences."""
    wins: int
    """Users for whom this row is better."""
    losses: int
    users: int
    seeds: int

    @property
    def verdict(self) -> Literal["won", "lost", "undecided"]:
        """Against that row, where the adjusted p-value is below 0.05 and 0 outside the interval, which knows seeds."""
        if self.p_holm >= LEVEL or self.difference.low <= 0 <= self.difference.high:
            return "undecided"
        return "won" if self.difference.mean > 0 else "lost"

    def mirrored(self, other: str) -> "Gain":
        """The same comparison, seen from the other row; `other` is this one's method."""
        difference = Interval(-self.difference.mean, -self.difference.high, -self.difference.low)
        effect = None if self.effect is None else -self.effect
        return replace(self, other=other, difference=difference, effect=effect, wins=self.losses, losses=self.wins)


def gains(columns: Mapping[str, Mapping[str, Reached]]) -> dict[str, dict[str, Gain]]:
    """Every row of a block against the best other row; of the best row, against the second.

    Args:
        columns: cells by column and method.

    Returns: by method and column; without rows that share no seed with the row that they are compared with.

    Raises:
        UserError: runs that were asked about different users or requests.
    """
    pairs: list[tuple[str, str, str]] = []  # column, method, the best one
    compared: list[UserDifferences] = []
    seconds: dict[str, str] = {}
    for column, rows in columns.items():
        best, *others = [method for method, _ in sorted(rows.items(), key=lambda row: -row[1].mean)]
        if others:
            seconds[column] = others[0]
        for method in others:
            if (found := compare_ranks(rows[method].ranks, rows[best].ranks, rows[best].metric)) is not None:
                pairs.append((column, method, best))
                compared.append(found)
    made: dict[str, dict[str, Gain]] = {}
    for (column, method, best), gain in zip(pairs, _tested(compared, [best for *_, best in pairs]), strict=True):
        made.setdefault(method, {})[column] = gain
        if method == seconds[column]:
            made.setdefault(best, {})[column] = gain.mirrored(method)
    return made


def _tested(compared: Sequence[UserDifferences], others: Sequence[str]) -> Iterator[Gain]:
    p_values = randomisation_test(compared)
    found = zip(compared, others, bootstrap(compared), p_values, holm(p_values), strict=True)
    for one, other, drawn, p_value, p_holm in found:
        # Draws know no more than six digits, and a sum that is rounded otherwise elsewhere must not change a table.
        difference = Interval(drawn.mean, round(drawn.low, 6), round(drawn.high, 6))
        users, seeds = len(one.counts), len(one.sums)
        yield Gain(other, difference, p_value, p_holm, one.effect, one.wins, one.losses, users, seeds)
