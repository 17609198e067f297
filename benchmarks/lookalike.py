"""A generated file in the format and of the size of the Amazon Books ratings of 2014, to measure preparation on.

The real file holds 22,507,155 ratings of 2,330,066 items by 8,026,324 users, grouped by item, at whole days. Here users
and items have as many ratings as power laws give them, and these three counts come out exactly. Nothing in it is real.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import polars as pl

if __package__ in (None, ""):  # python benchmarks/lookalike.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synergen.files import write_atomically

ROWS, USERS, ITEMS = 22_507_155, 8_026_324, 2_330_066
_DAY = 86_400
_FIRST_DAY, _LAST_DAY = 9_648, 16_273  # 1 June 1996 to 22 July 2014
_DIGITS = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", dtype=np.uint8)


def write_lookalike(path: Path, rows: int = ROWS, users: int = USERS, items: int = ITEMS, seed: int = 0) -> None:
    """Write user, item, rating, timestamp as csv without a header. Equal arguments give equal bytes."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(users), _degrees(users, rows, 1.47, 0.0, rng)))
    item = np.repeat(np.arange(items), _degrees(items, rows, 1.45, 3.0, rng))
    days = _LAST_DAY - ((_LAST_DAY - _FIRST_DAY) * rng.beta(0.6, 2.2, rows)).astype(np.int64)  # most are recent
    _write(path, user, item, days, rng)


def write_later(path: Path, rows: int, users: int = USERS, items: int = ITEMS, seed: int = 1) -> None:
    """Write ratings of the month that follows: one user in fifty and one item in fifty is new."""
    rng = np.random.default_rng(seed)
    user, item = (rng.integers(0, n + n // 50, rows) for n in (users, items))
    _write(path, user, item, _LAST_DAY + rng.integers(1, 31, rows), rng)


def _write(path: Path, user: np.ndarray, item: np.ndarray, days: np.ndarray, rng: np.random.Generator) -> None:
    table = pl.DataFrame(
        {
            "user": _names(np.arange(user.max() + 1), "A", 13)[user],
            "item": _names(np.arange(item.max() + 1), "", 10)[item],
            "rating": rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], len(user), p=[0.05, 0.05, 0.1, 0.2, 0.6]),
            "ts": days * _DAY,
        }
    )
    write_atomically(path, lambda temporary: table.write_csv(temporary, include_header=False))


def _degrees(n: int, total: int, exponent: float, shift: float, rng: np.random.Generator) -> np.ndarray:
    """(n,) whole numbers from 1 up that sum to `total`: k or more with probability ((k + shift) / (1 + shift)) to the
    -exponent, but for what is taken away or added, evenly over all ratings, to meet the sum."""
    degrees = np.floor((1 + shift) * rng.random(n) ** (-1 / exponent) - shift).astype(np.int64).clip(max=20_000)
    missing = total - int(degrees.sum())
    if missing < 0:
        return degrees - rng.multivariate_hypergeometric(degrees - 1, -missing, method="marginals")
    owner = np.repeat(np.arange(n), degrees)
    return degrees + np.bincount(owner[rng.integers(len(owner), size=missing)], minlength=n)


def _names(numbers: np.ndarray, prefix: str, width: int) -> pl.Series:
    """Distinct ids of `width` digits and capitals after the prefix, as Amazon's are."""
    spread = (numbers.astype(np.uint64) * np.uint64(2_654_435_761)) % np.uint64(2**42)  # odd factor: no two alike
    letters = np.empty((len(numbers), width), np.uint8)
    for place in range(width - 1, -1, -1):
        spread, digit = np.divmod(spread, np.uint64(36))
        letters[:, place] = _DIGITS[digit]
    return prefix + pl.Series(letters.view(f"S{width}").ravel().astype(str))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", type=Path, help="where to write it: ratings_Books.csv of a folder for --raw; about 940 MB")
    options = p.parse_args(arguments)
    write_lookalike(options.file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
