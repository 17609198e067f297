"""Raw files, read once: what parsing and numbering gave is kept in the cache, by the contents of the file.

So a file that is added to others, and another variant of the same files, cost no second reading of what was there.
"""

import json
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from synergen.files import cache_root, digest, locked, whole_folder, write_json, write_table
from synergen.raw import CODED, Coded, RawLog

_log = logging.getLogger(__name__)

FORMAT = 1
"""Raised when a reader gives something else for the same file, so that what older ones gave is read anew."""

KEPT_FROM = 1 << 24
"""Bytes of a raw file from which on the result is kept: a smaller one is read as fast as its result would be."""

_VOCABULARY = "vocabulary.parquet"


def parsed(path: Path, sha256: str, reader: str, read: Callable[[], RawLog]) -> RawLog:
    """What `read` gives for a file, from the cache where it was read before.

    Args:
        sha256: of the file.
        reader: which reader it is, since several may read one file.
    """
    if path.stat().st_size < KEPT_FROM:
        return read()
    folder = cache_root() / "parsed" / digest(str(FORMAT), reader, sha256)[:16]
    with locked(folder):
        kept = _read(folder)
        if kept is not None:
            return kept
        found = read()
        with whole_folder(folder) as partial:
            _write(partial, found)
        return found


def _write(folder: Path, raw: RawLog) -> None:
    np.save(folder / "times.npy", raw.times)
    columns = [name for name in CODED if getattr(raw, name) is not None]
    for name in columns:
        coded: Coded = getattr(raw, name)
        np.save(folder / f"{name}.npy", coded.codes)
        write_table(folder / f"{name}.parquet", coded.ids.rename(name).to_frame())
    if raw.vocabulary is not None:
        write_table(folder / _VOCABULARY, pl.DataFrame({"word": sorted(raw.vocabulary)}))
    told = {"name": raw.name, "columns": columns, "dropped": raw.dropped, "checks": _checks(folder)}
    write_json(folder / "log.json", told)


def _read(folder: Path) -> RawLog | None:
    """What is kept, or None where nothing is, or where it is damaged."""
    if not (folder / "log.json").exists():
        return None
    try:
        told = json.loads((folder / "log.json").read_text(encoding="utf-8"))
        if told["checks"] != _checks(folder):
            raise ValueError("a file was altered")
        columns: dict[str, Any] = {
            name: Coded(
                np.load(folder / f"{name}.npy", mmap_mode="r"), pl.read_parquet(folder / f"{name}.parquet").to_series()
            )
            for name in told["columns"]
        }
        times = np.load(folder / "times.npy", mmap_mode="r")
        words = folder / _VOCABULARY
        vocabulary = frozenset(pl.read_parquet(words)["word"]) if words.exists() else None
    except Exception as error:  # numpy, polars and json raise a dozen kinds for a damaged file
        _log.warning("%s is damaged (%s): the raw file is read again", folder, error)
        return None
    return RawLog(told["name"], times=times, dropped=told["dropped"], vocabulary=vocabulary, **columns)


def _checks(folder: Path) -> dict[str, int]:
    """CRC-32 of each file: enough against accidents, and four times as fast as SHA-256."""
    files = sorted(folder.glob("*.npy")) + sorted(folder.glob("*.parquet"))
    return {path.name: zlib.crc32(np.memmap(path, dtype=np.uint8, mode="r").data) for path in files}
