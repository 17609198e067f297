"""Miniature files in the formats of the Amazon data of 2014."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Rating = tuple[str, str, float, int]
"""user, item, stars, time."""


def write_bytes(path: Path, content: bytes) -> Path:
    """Packed with gzip where the name says so."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def write_ratings(path: Path, ratings: Iterable[Rating]) -> Path:
    """csv without a header; ids are quoted where they hold more than ASCII letters and digits."""
    text = io.StringIO()
    plain, quoted = (csv.writer(text, lineterminator="\n", quoting=rule) for rule in (csv.QUOTE_NONE, csv.QUOTE_ALL))
    for rating in ratings:
        simple = all(name.isascii() and name.isalnum() for name in rating[:2])
        (plain if simple else quoted).writerow(rating)
    return write_bytes(path, text.getvalue().encode())


def review(user: str, item: str, stars: float, time: int, text: str = "", summary: str = "") -> dict[str, Any]:
    """A review with the fields that the publishers give it."""
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": "reader",
        "helpful": [0, 1],
        "reviewText": text,
        "overall": stars,
        "summary": summary,
        "unixReviewTime": time,
        "reviewTime": "05 3, 2014",
    }


def write_reviews(path: Path, reviews: Iterable[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    return write_bytes(path, "".join(f"{json.dumps(entry)}\n" for entry in reviews).encode())


def write_metadata(path: Path, entries: Iterable[Mapping[str, Any]]) -> Path:
    """One Python dictionary a line."""
    return write_bytes(path, "".join(f"{entry!r}\n" for entry in entries).encode(errors="surrogatepass"))
