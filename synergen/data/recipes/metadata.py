"""Titles and categories of items from a metadata file of 2014."""

import html
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from synergen.data.recipe import RawItems, Report
from synergen.data.recipes.amazon import numbered_lines
from synergen.data.recipes.literals import may_describe, read_literal
from synergen.raw import Columns

_TAG = re.compile(r"</?\w[^<>]*>")
_TABLE = pa.schema(
    [
        (Columns.ITEM, pa.large_string()),
        (Columns.TITLE, pa.large_string()),
        (Columns.CATEGORIES, pa.large_list(pa.large_list(pa.large_string()))),
    ]
)
_LONGEST_DESCRIPTION = 300  # characters; as many as a sentence encoder reads


def read_metadata(paths: Sequence[Path], items: pl.Series, report: Report) -> RawItems:
    """What is known of the items, as plain text: HTML entities are resolved, tags left out.

    Where a line holds a description and no title, the first 300 characters of it stand for the title; other
    descriptions are left out. (HLLM reads titles and descriptions of the same file.) Lines of other items are not read,
    lines that are no Python literal left out and counted; of several lines of an item the first counts.

    Raises:
        UserError: a file that cannot be read, or is cut or damaged.
    """
    wanted = set(items.cast(pl.String))
    wanted_bytes = {item.encode() for item in wanted}
    found: dict[str, tuple[str, list[list[str]]]] = {}
    notes: Counter[str] = Counter()
    for path in paths:
        for _, line in numbered_lines(path, report):
            if not may_describe(line, wanted_bytes):
                continue
            entry = read_literal(line)
            if entry is None:
                notes["metadata lines that are no literal, left out"] += 1
                continue
            item = entry.get("asin")
            if isinstance(item, str) and item in wanted and item not in found:
                title = _text(entry.get("title")) or _text(entry.get("description"))[:_LONGEST_DESCRIPTION]
                found[item] = title, _paths(entry.get("categories"))
    if missing := len(wanted) - len(found):
        notes["items without metadata"] = missing
    titles, categories = zip(*found.values(), strict=True) if found else ((), ())
    # through Arrow: polars takes twenty times as long to make lists of lists of Python's
    table = pa.table([list(found), titles, categories], schema=_TABLE)
    return RawItems(pl.DataFrame(table), dict(notes))


def _text(value: Any) -> str:
    """A value as one line of text, "" if it is none."""
    if not isinstance(value, str):
        return ""
    text = html.unescape(_TAG.sub(" ", value))
    return " ".join(text.encode(errors="replace").decode().split())  # half a surrogate pair is no text


def _paths(value: Any) -> list[list[str]]:
    """The category paths of a value, root first; names are shared among items, which have few."""
    paths = value if isinstance(value, list) else []
    return [[sys.intern(name) for name in map(_text, path) if name] for path in paths if isinstance(path, list)]
