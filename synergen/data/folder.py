"""A user's own log: a folder with interactions.{parquet,csv} and, where known, items.{parquet,csv}.

interactions: user, item, ts (whole Unix seconds), and optionally action, query (what the user typed), request (events
of one request share it). Later events may follow in interactions-*.{parquet,csv}, which are read in the order of their
names. items: item, title, categories (csv: levels joined by ' > ', several paths by '|').
impressions.parquet, where it is known what each request showed: request, user, ts, items (a list, in the order shown),
and optionally query; every event then names its request.
"""

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from synergen.data.impressions import with_impressions
from synergen.errors import UserError
from synergen.raw import Columns, RawLog, category_paths, validate

_ENDINGS = (".parquet", ".csv")


def folder_files(folder: Path) -> list[Path]:
    """The interaction files and, where there are such, the item file and the impression file.

    Raises:
        UserError: the folder has no interactions file.
    """
    others = (_table_file(folder, "items"), _impressions_file(folder))
    return [*interaction_files(folder), *filter(None, others)]


def interaction_files(folder: Path) -> list[Path]:
    """The interaction file and those that follow it.

    Raises:
        UserError: the folder has no interactions file.
    """
    first = _table_file(folder, "interactions")
    if first is None:
        raise UserError(f"{folder}: there is no interactions.parquet or interactions.csv in this folder")
    return [first, *sorted(path for path in folder.glob("interactions-*") if path.suffix in _ENDINGS)]


def load_folder(folder: Path) -> RawLog:
    """Read and validate a folder; the data set is named after it. HTML entities in titles are resolved."""
    files = interaction_files(folder)
    tables = [read_table(path) for path in files]
    for path, table in zip(files[1:], tables[1:], strict=True):
        if table.schema != tables[0].schema:
            raise UserError(
                f"{path}: its columns are {_columns(table)} and those of {files[0].name} {_columns(tables[0])}; "
                "write all interaction files with the same columns"
            )
    raw = validate(pl.concat(tables), read_items(folder), folder.resolve().name, str(files[0]))
    impressions = _impressions_file(folder)
    return raw if impressions is None else with_impressions(raw, _read_pandas(impressions), str(impressions))


def read_items(folder: Path) -> pl.DataFrame | None:
    """The item table with titles as text and categories as paths, or None where there is none."""
    path = _table_file(folder, "items")
    if path is None:
        return None
    items = read_table(path)
    if Columns.TITLE in items.columns:
        titles = [html.unescape(t) if isinstance(t, str) else "" for t in items[Columns.TITLE].to_list()]
        items = items.with_columns(pl.Series(Columns.TITLE, titles, dtype=pl.String))
    if Columns.CATEGORIES in items.columns:
        paths = [_paths(value) for value in items[Columns.CATEGORIES].to_list()]
        items = items.with_columns(category_paths(paths).alias(Columns.CATEGORIES))
    return items


def read_table(path: Path) -> pl.DataFrame:
    """A parquet or csv file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        try:
            return pl.read_csv(path)
        except pl.exceptions.ComputeError:  # a column that starts as numbers goes on as text
            return pl.read_csv(path, infer_schema_length=None)
    except Exception as error:  # polars raises a dozen kinds for a damaged file
        raise _unreadable(path, error) from error


def _read_pandas(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(f"{path}: cannot be read ({reason}); the file may be cut short: fetch or write it again")


def _table_file(folder: Path, stem: str) -> Path | None:
    return next((path for ending in _ENDINGS if (path := folder / f"{stem}{ending}").is_file()), None)


def _impressions_file(folder: Path) -> Path | None:
    path = folder / "impressions.parquet"
    return path if path.is_file() else None


def _columns(table: pl.DataFrame) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in table.schema.items())


def _paths(value: Any) -> list[list[str]]:
    """Category paths from 'a > b|c > d', from one list of names, or from a list of lists."""
    if isinstance(value, str):
        return [[level.strip() for level in path.split(">")] for path in value.split("|") if path.strip()]
    if not isinstance(value, Sequence):
        return []
    if value and all(isinstance(level, str) for level in value):
        return [[str(level) for level in value]]
    return [[str(name) for name in path] for path in value]
