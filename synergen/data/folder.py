"""A user's own log: a folder with interactions.{parquet,csv} and, where known, items.{parquet,csv}.

interactions: user, item, ts (whole Unix seconds), and optionally action, query (what the user typed), request (events
of one request share it). items: item, title, categories (csv: levels joined by ' > ', several paths by '|').
"""

import html
from pathlib import Path
from typing import Any

import pandas as pd

from synergen.errors import UserError
from synergen.events import Columns, RawLog, validate


def folder_files(folder: Path) -> list[Path]:
    """The interaction file and, where there is one, the item file.

    Raises:
        UserError: the folder has no interactions file.
    """
    interactions = _table_file(folder, "interactions")
    if interactions is None:
        raise UserError(f"{folder}: there is no interactions.parquet or interactions.csv in this folder")
    items = _table_file(folder, "items")
    return [interactions] if items is None else [interactions, items]


def load_folder(folder: Path) -> RawLog:
    """Read and validate a folder; the data set is named after it. HTML entities in titles are resolved."""
    files = folder_files(folder)
    interactions = _read(files[0])
    items = _read(files[1]) if len(files) > 1 else None
    if items is not None and Columns.TITLE in items.columns:
        items[Columns.TITLE] = [html.unescape(t) if isinstance(t, str) else "" for t in items[Columns.TITLE]]
    if items is not None and Columns.CATEGORIES in items.columns:
        items[Columns.CATEGORIES] = items[Columns.CATEGORIES].map(_paths)
    return validate(interactions, items, folder.resolve().name, str(files[0]))


def _table_file(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}.{ending}" for ending in ("parquet", "csv") if (folder / f"{stem}.{ending}").is_file()]
    return found[0] if found else None


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:  # pyarrow and pandas raise a dozen kinds for a damaged file
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path}: cannot be read ({reason}); the file may be cut short: fetch or write it again"
        ) from error


def _paths(value: Any) -> list[list[str]]:
    """Category paths from 'a > b|c > d', from one list of names, or from a list of lists."""
    if isinstance(value, str):
        return [[level.strip() for level in path.split(">")] for path in value.split("|") if path.strip()]
    if value is None or not hasattr(value, "__len__"):
        return []
    levels = [list(v) if not isinstance(v, str) else v for v in value]
    if levels and all(isinstance(v, str) for v in levels):
        return [[str(v) for v in levels]]
    return [[str(name) for name in path] for path in levels]
