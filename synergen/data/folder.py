"""A user's own log: a folder with interactions.{parquet,csv} and, where known, items.{parquet,csv}.

interactions: user, item, ts (whole Unix seconds), and optionally action, query (what the user typed), request (events
of one request share it). items: item, title, categories (csv: levels joined by ' > ', several paths by '|').
impressions.parquet, where it is known what each request showed: request, user, ts, items (a list, in the order shown),
and optionally query; every event then names its request.
"""

import html
from pathlib import Path
from typing import Any

import pandas as pd

from synergen.data.impressions import with_impressions
from synergen.errors import UserError
from synergen.events import Columns, RawLog, validate


def folder_files(folder: Path) -> list[Path]:
    """The interaction file and, where there are such, the item file and the impression file.

    Raises:
        UserError: the folder has no interactions file.
    """
    interactions = _table_file(folder, "interactions")
    if interactions is None:
        raise UserError(f"{folder}: there is no interactions.parquet or interactions.csv in this folder")
    return [interactions, *filter(None, (_table_file(folder, "items"), _impressions_file(folder)))]


def load_folder(folder: Path) -> RawLog:
    """Read and validate a folder; the data set is named after it. HTML entities in titles are resolved."""
    interactions_file = folder_files(folder)[0]
    items_file, impressions_file = _table_file(folder, "items"), _impressions_file(folder)
    interactions = _read(interactions_file)
    items = _read(items_file) if items_file else None
    if items is not None and Columns.TITLE in items.columns:
        items[Columns.TITLE] = [html.unescape(t) if isinstance(t, str) else "" for t in items[Columns.TITLE]]
    if items is not None and Columns.CATEGORIES in items.columns:
        items[Columns.CATEGORIES] = items[Columns.CATEGORIES].map(_paths)
    raw = validate(interactions, items, folder.resolve().name, str(interactions_file))
    return with_impressions(raw, _read(impressions_file), items, str(impressions_file)) if impressions_file else raw


def _table_file(folder: Path, stem: str) -> Path | None:
    found = [folder / f"{stem}.{ending}" for ending in ("parquet", "csv") if (folder / f"{stem}.{ending}").is_file()]
    return found[0] if found else None


def _impressions_file(folder: Path) -> Path | None:
    path = folder / "impressions.parquet"
    return path if path.is_file() else None


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
