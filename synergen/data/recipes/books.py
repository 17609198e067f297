"""book-review: the ratings of Amazon Books, May 1996 to July 2014, as HSTU and HLLM filter them.

Both keep what users and items with five ratings or more have to do with one another, counted once on the whole file,
and then users who still have five. HSTU numbers its items between the two steps.
"""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from synergen.data.filters import Filter
from synergen.data.recipe import Published, RawEvents, RawFiles, Recipe, Report
from synergen.data.recipes.amazon import (
    FETCH,
    LICENCE,
    RATINGS,
    download,
    find_file,
    need_file,
    numbered_lines,
)
from synergen.data.recipes.metadata import read_metadata
from synergen.data.recipes.times import LATEST_TIME, with_whole_seconds
from synergen.errors import UserError
from synergen.raw import Columns

_RATINGS, _METADATA = "ratings_Books.csv", "meta_Books.json.gz"
_SHA256 = "87d923ddac2aacf40c1d0e0e056dbf4bf69c9c7d41852c6b434e781e759c0707"
_SCHEMA = {Columns.USER: pl.String, Columns.ITEM: pl.String, "rating": pl.Float32, Columns.TIME: pl.Int64}
_BEFORE_AMAZON = 788_918_400  # 1995
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")


def find(folder: Path) -> RawFiles:
    """`ratings_Books.csv`, then `ratings_Books-*.csv` with later ratings in the order of their names, and
    `meta_Books.json.gz` where it is; each as it is or packed with gzip.

    Raises:
        UserError: there is no `ratings_Books.csv`.
    """
    names = sorted({path.name.removesuffix(".gz") for path in folder.glob("ratings_Books-*.csv*")})
    later = filter(None, (find_file(folder, name) for name in names if name.endswith(".csv")))
    metadata = find_file(folder, _METADATA)
    return RawFiles((need_file(folder, _RATINGS), *later), (metadata,) if metadata else ())


def read_ratings(path: Path, report: Report) -> RawEvents:
    """The rows user, item, rating, time of a csv file without a header, possibly packed with gzip.

    Every row has to be readable, or the file is refused; times alone may be odd (`with_whole_seconds`).

    Raises:
        UserError: the file is cut, damaged, or something else; with the line.
    """
    size = path.stat().st_size
    report(f"reading {path.name}", 0, size)
    try:
        table = pl.read_csv(path, has_header=False, schema=_SCHEMA)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _refusal(path, str(error).splitlines()[0]) from error
    if table.is_empty():
        raise _refusal(path, "there are no ratings")
    if not _is_readable(table):
        raise _refusal(path, "a row cannot be read")
    if _is_cut(path, table):
        raise _refusal(path, f"the last line is cut: it ends in {table[Columns.TIME][-1]}")
    stars = (pl.col("rating") - 1).cast(pl.UInt8).cat.to(RATINGS)
    events = table.select(Columns.USER, Columns.ITEM, Columns.TIME, stars.alias(Columns.ACTION))
    report(f"reading {path.name}", size, size)
    return RawEvents(*with_whole_seconds(events))


def _is_readable(table: pl.DataFrame) -> bool:
    rating = pl.col("rating")
    conditions = (
        pl.col(Columns.USER).str.len_bytes() > 0,
        pl.col(Columns.ITEM).str.len_bytes() > 0,
        rating.is_between(1, 5) & (rating == rating.floor()),
        pl.col(Columns.TIME).is_between(-LATEST_TIME, LATEST_TIME),
    )
    return all(table.select(condition.fill_null(False).all()).item() for condition in conditions)


def _is_cut(path: Path, table: pl.DataFrame) -> bool:
    """Whether the last line has no end and too early a time: digits are missing. (gzip knows its own length.)"""
    if path.suffix == ".gz" or table[Columns.TIME][-1] >= _BEFORE_AMAZON:
        return False
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def _refusal(path: Path, what: str) -> UserError:
    """The error for the first bad row, or for `what` where each row by itself is good."""
    problem = _first_problem(path) or what
    return UserError(f"{path}: {problem}; the file may be cut or something else than ratings: {FETCH}")


def _first_problem(path: Path) -> str | None:
    """What is wrong with a row, and on which line: found slowly, once it is known that something is."""
    line = b""

    def text() -> Iterator[str]:
        nonlocal line
        for _, line in numbered_lines(path, lambda *_: None):
            yield line.decode()

    rows = csv.reader(text())
    try:
        for row in rows:
            if len(row) != len(_SCHEMA):
                return f"line {rows.line_num} has {len(row)} fields in place of user, item, rating, time: {line[:60]!r}"
            user, item, rating, time = row
            if not user or not item:
                return f"line {rows.line_num}: user or item is empty"
            if _number(rating) not in {1, 2, 3, 4, 5}:
                return f"line {rows.line_num}: '{rating}' is no rating from 1 to 5"
            if not _WHOLE.fullmatch(time) or abs(int(time)) > LATEST_TIME:
                return f"line {rows.line_num}: '{time}' is no time in Unix seconds"
    except UnicodeDecodeError:
        return f"line {rows.line_num + 1} is no UTF-8 text"
    except csv.Error as error:
        return f"line {rows.line_num}: {error}"
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


_HLLM = Recipe(
    name="book-review",
    variant="hllm",
    about="Amazon Books ratings of 1996 to 2014, filtered as HLLM does",
    licence=LICENCE,
    downloads=(download(_RATINGS, _SHA256), download(_METADATA, needed=False)),
    find=find,
    read_events=read_ratings,
    read_items=read_metadata,
    rule=Filter.ONE_PASS_THEN_USERS,
    min_count=5,
    published=Published(694_898, 686_624, 10_053_086, "Chen et al. 2024 (HLLM), the counts that its code prints"),
    why_counts_differ="HLLM seems to count its padding id: UniGRF prints 694,897 users and 686,623 items.",
    action_is_outcome=True,
    makes_queries=False,
)

BOOKS: tuple[Recipe, ...] = (
    _HLLM,
    replace(
        _HLLM,
        variant="hstu",
        about="Amazon Books ratings of 1996 to 2014, filtered as HSTU does",
        published=Published(
            694_897,
            695_762,
            10_053_086,
            "Zhai et al. 2024 (HSTU): its code asserts the items; users and events by UniGRF",
        ),
        why_counts_differ="HSTU numbers items before it drops users who are left with fewer than five ratings: "
        "9,139 of its 695,762 items have no rating any more, 686,623 have.",
    ),
)
"""Variants of book-review, the default first. They hold the same events."""
