"""MovieLens 1M and 20M from the archives of GroupLens: all ratings, and films with title and genres.

The rating is the action. A line that is no rating or no film stops the reading; a rating that lacks a field or has a
negative time is left out and counted.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from synergen.data.recipe import Download, Published, RawEvents, RawItems, Recipe, Report
from synergen.data.recipes.archives import find_archive, place_of, read_lines, read_tables
from synergen.data.recipes.times import with_whole_seconds
from synergen.errors import UserError
from synergen.raw import CATEGORY_PATHS, Columns

_Rows = Iterator[tuple[int, list[str]]]
"""Line number and fields of each film."""


@dataclass(frozen=True)
class _Edition:
    """How an archive writes its two files."""

    ratings: str
    films: str
    separator: str
    header: str | None
    """Names of the fields of a rating, where the file does not give them."""
    scale: tuple[str, ...]
    """The ratings that can be given."""
    film_rows: Callable[[str], _Rows]


def _read_ratings(path: Path, report: Report, edition: _Edition) -> RawEvents:
    types = {"userId": pl.Int32(), "movieId": pl.Int32(), "rating": pl.Enum(edition.scale), "timestamp": pl.Int64()}
    names = [f"rating {stars}" for stars in edition.scale]
    action = pl.lit(pl.Series(names, dtype=pl.Enum(names))).gather(pl.col("rating").to_physical())
    blocks, incomplete = [], 0
    for block in read_tables(path, edition.ratings, types, report, edition.header, edition.separator):
        ratings = block.drop_nulls()
        incomplete += len(block) - len(ratings)
        columns = {
            Columns.USER: pl.col("userId"),
            Columns.ITEM: pl.col("movieId"),
            Columns.TIME: pl.col("timestamp"),
            Columns.ACTION: action,
        }
        blocks.append(ratings.select(**columns))
    events, notes = with_whole_seconds(pl.concat(blocks))
    return RawEvents(events, notes | ({"lines left out: a field is missing": incomplete} if incomplete else {}))


def _read_films(paths: Sequence[Path], rated: pl.Series, report: Report, edition: _Edition) -> RawItems:
    """The rated films; the genres of a film are its one path."""
    where = place_of(paths[0], edition.films)
    ids = {str(film): film for film in rated}
    films = []
    try:
        for line, fields in edition.film_rows(_decoded(b"".join(read_lines(paths[0], edition.films, report)))):
            if len(fields) != 3 or not fields[0].isdecimal():
                raise UserError(
                    f"{where}, line {line}, '{edition.separator.join(fields)[:100]}': this is not the id, title and "
                    "genres of a film; repair or remove the line, or download the archive again"
                )
            number, title, genres = fields
            if number in ids:
                path = [] if genres in ("", "(no genres listed)") else genres.split("|")
                films.append((ids[number], title, [path] if path else []))
    except csv.Error as error:
        raise UserError(f"{where}: {error}; download the archive again") from error
    schema = {Columns.ITEM: rated.dtype, Columns.TITLE: pl.String(), Columns.CATEGORIES: CATEGORY_PATHS}
    return RawItems(pl.DataFrame(films, schema, orient="row"))


def _decoded(text: bytes) -> str:
    """GroupLens writes ml-1m in Latin-1 and ml-20m in UTF-8, and copies of ml-1m in UTF-8 are about."""
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError:
        return text.decode("latin-1")


def _rows_of_1m(text: str) -> _Rows:
    """id::title::genres; a title may hold the separator too."""
    for line, row in enumerate(text.split("\n"), start=1):
        if row.strip():
            fields = row.rstrip("\r").split("::")
            yield line, [fields[0], "::".join(fields[1:-1]), fields[-1]] if len(fields) > 2 else fields


def _rows_of_20m(text: str) -> _Rows:
    """movieId,title,genres, with a header and quotes."""
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    for fields in rows:
        if fields and fields != ["movieId", "title", "genres"]:
            yield rows.line_num, fields


def _recipe(name: str, about: str, sha256: str, published: Published, edition: _Edition) -> Recipe:
    download = Download(f"{name}.zip", f"https://files.grouplens.org/datasets/movielens/{name}.zip", sha256)
    return Recipe(
        name=name,
        variant="all",
        about=about,
        licence="for research: to be acknowledged, not to be redistributed nor used commercially without permission "
        "(README of the archive)",
        downloads=(download,),
        find=partial(
            find_archive, download=download, inner=name, events=[edition.ratings], about_items=[edition.films]
        ),
        read_events=partial(_read_ratings, edition=edition),
        read_items=partial(_read_films, edition=edition),
        published=published,
        action_is_outcome=True,
        categories_are_flat=True,
    )


_SOURCE = "README of the archive; rated films as the published code of HSTU (Zhai et al., ICML 2024) counts them"

ML_1M: tuple[Recipe, ...] = (
    _recipe(
        "ml-1m",
        "MovieLens 1M: ratings of films by users who joined in 2000, from 1 to 5 stars",
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        Published(users=6_040, items=3_706, events=1_000_209, source=_SOURCE),
        _Edition("ratings.dat", "movies.dat", "::", "userId,movieId,rating,timestamp", tuple("12345"), _rows_of_1m),
    ),
)

ML_20M: tuple[Recipe, ...] = (
    _recipe(
        "ml-20m",
        "MovieLens 20M: ratings of films from 1995 to 2015, from half a star to 5 stars",
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        Published(users=138_493, items=26_744, events=20_000_263, source=_SOURCE),
        _Edition("ratings.csv", "movies.csv", ",", None, tuple(f"{half / 2}" for half in range(1, 11)), _rows_of_20m),
    ),
)
