"""Prepared data: an event log as arrays to be memory-mapped, tables of ids and texts, and a manifest.

A prepared folder is whole or absent. Its manifest says from which files and by which rules it was made, and the
checksum of everything in it.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from synergen.errors import UserError
from synergen.events import EventLog, Impressions
from synergen.files import write_json, write_table
from synergen.raw import category_paths, listed

FORMAT = 2
"""Raised when the same source and rules give another log or another layout, so that older folders are made anew."""

MANIFEST = "manifest.json"

_EVENTS = ("offsets", "items", "actions", "times", "groups", "queries", "searched")
_REQUESTS = ("offsets", "times", "queries", "groups", "stops", "items", "outcomes")
_TOLD = ("name", "action_names", "action_is_outcome", "categories_are_flat", "dropped")


def write_prepared(folder: Path, log: EventLog, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Write a log and its manifest into a folder that is there; returns the manifest, with what the log holds added."""
    for name in _EVENTS:
        np.save(folder / f"{name}.npy", getattr(log, name))
    write_table(folder / "users.parquet", _ids(log.user_ids).to_frame("user"))
    items = {
        "item": _ids(log.item_ids[1:]),
        "title": pl.Series(log.titles[1:], dtype=pl.String),
        "categories": category_paths(log.categories[1:]),
    }
    write_table(folder / "items.parquet", pl.DataFrame(items))
    write_table(folder / "queries.parquet", pl.Series("query", log.query_texts[1:], dtype=pl.String).to_frame())
    if log.impressions is not None:
        for name in _REQUESTS:
            np.save(folder / f"requests.{name}.npy", getattr(log.impressions, name))
        write_table(folder / "requests.parquet", _ids(log.impressions.ids).to_frame("request"))
    counts = {"users": log.n_users, "items": log.n_items, "events": log.n_events}
    log_hash, sums = log.data_hash, checksums(folder)
    told = {name: getattr(log, name) for name in _TOLD}
    complete = {"format": FORMAT, **manifest, "counts": counts, "data_hash": log_hash, "log": told, "files": sums}
    write_manifest(folder, complete)
    return complete


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write what is told of a prepared folder."""
    write_json(folder / MANIFEST, manifest)


def _ids(values: np.ndarray) -> pl.Series:
    return pl.Series(values.tolist())


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a prepared folder, or None where there is no whole one of the present format.

    Costs milliseconds: of the files, only the sizes are looked at.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        sizes = {name: told["bytes"] for name, told in manifest["files"].items()}
        whole = manifest["format"] == FORMAT and all((folder / n).stat().st_size == size for n, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest if whole else None


def altered_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Names of the files whose contents are not those that were written."""
    found = checksums(folder)
    return sorted(name for name, told in manifest["files"].items() if found.get(name) != told)


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Bytes and SHA-256 of every array and table of a folder, by name."""
    files = sorted(path for path in folder.iterdir() if path.suffix in (".npy", ".parquet"))
    with ThreadPoolExecutor() as pool:
        sums = pool.map(_hash, files)
        return {
            path.name: {"bytes": path.stat().st_size, "sha256": found} for path, found in zip(files, sums, strict=True)
        }


_known_sums: dict[tuple[str, int, int], str] = {}


def sha256_of(path: Path) -> str:
    """Of a file's contents; one of the same size and time of change as before is not read again."""
    (stamp,) = stamps([path])
    key = tuple(stamp.values())
    if key not in _known_sums:
        _known_sums[key] = _hash(path)
    return _known_sums[key]


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def recall_sums(manifest: Mapping[str, Any]) -> None:
    """Take the checksums of raw files over from what was prepared of them."""
    for told in manifest["source"]["files"]:
        if "sha256" in told:
            _known_sums[told["path"], told["bytes"], told["mtime_ns"]] = told["sha256"]


def read_prepared(folder: Path, manifest: Mapping[str, Any]) -> EventLog:
    """The log of a prepared folder, its arrays memory-mapped.

    Raises:
        UserError: a file cannot be read.
    """
    try:
        told = manifest["log"]
        items = pl.read_parquet(folder / "items.parquet")
        arrays: dict[str, Any] = {name: _mapped(folder / f"{name}.npy") for name in _EVENTS}
        return EventLog(
            **arrays,
            user_ids=pl.read_parquet(folder / "users.parquet")["user"].to_numpy(),
            item_ids=np.array([None, *items["item"].to_list()], dtype=object),
            titles=["", *items["title"].to_list()],
            categories=[[], *listed(items["categories"])],
            query_texts=["", *pl.read_parquet(folder / "queries.parquet")["query"].to_list()],
            impressions=_read_requests(folder) if (folder / "requests.parquet").exists() else None,
            **told,
        )
    except Exception as error:  # numpy and polars raise a dozen kinds for a damaged file
        raise UserError(f"{folder} cannot be read ({error}); remove it, and it is prepared again") from error


def _read_requests(folder: Path) -> Impressions:
    return Impressions(
        **{name: _mapped(folder / f"requests.{name}.npy") for name in _REQUESTS},
        ids=pl.read_parquet(folder / "requests.parquet")["request"].to_numpy(),
    )


def _mapped(path: Path) -> np.ndarray:
    """A plain array, whose slices cost less than those of a memmap."""
    return np.load(path, mmap_mode="r").view(np.ndarray)


def stamps(files: list[Path]) -> list[dict[str, Any]]:
    """Path, bytes and time of change of each file: what tells without reading that it is still the same."""
    told = []
    for path in files:
        status = path.stat()
        told.append({"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns})
    return told
