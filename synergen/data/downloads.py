"""Raw files from their publishers, checked before they take their name and before they are used."""

import gzip
import json
import os
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pooch

from synergen.data.recipe import Download, Report
from synergen.data.transfer import Refused, Transfer, is_page
from synergen.errors import UserError
from synergen.files import locked, write_json

CHECKSUMS = "checksums.json"

_FIRST_BYTES = {".gz": b"\x1f\x8b", ".zip": b"PK\x03\x04"}
_PIECE = 1 << 20


def fetch(
    downloads: Sequence[Download], folder: Path, report: Report, *, pause: Callable[[float], None] = time.sleep
) -> None:
    """Bring the files that are not in `folder` there, and check those that are.

    Bytes on their way are in `<name>.part`, from where a later attempt or process goes on. A file has its name only
    once it is as long as the server said, of the kind that its name says, readable to the end where it is
    compressed, and of the SHA-256 that is pinned or that `checksums.json` in the folder recorded at first use. One
    that has kept its size and time of change since then is not read again. What cannot be seen: a text file of
    unknown sum that its server cuts short, if that states the short length and takes no ranges.

    Args:
        report: is given a file's name, its bytes so far, and those in all or 0 where the server does not say.
        pause: waits between attempts, in seconds.

    Raises:
        UserError: a file cannot be had, is not the one expected, or cannot be written.
    """
    record = folder / CHECKSUMS
    try:
        with locked(record):
            entries = _read_entries(record)
            for download in downloads:
                path = folder / download.name
                known = entries.get(download.name, {})
                recorded = known.get("sha256")
                if not path.exists():
                    try:
                        found = _download(download, path, recorded, report, pause)
                    except Refused as error:
                        raise UserError(f"cannot fetch {download.url}: {error}{_by_hand(downloads)}") from error
                elif known != _entry(path, download.sha256 or recorded):
                    found = _check_present(download, path, recorded, report)
                else:
                    continue
                entries[download.name] = _entry(path, found)
                write_json(record, entries)
    except OSError as error:
        raise UserError(
            f"cannot read or write {error.filename or folder}: {error.strerror or error}; where the disk is full, "
            "free some space: what has arrived is kept, and the next call goes on from there"
        ) from error


def _by_hand(downloads: Sequence[Download]) -> str:
    names = ", ".join(download.name for download in downloads)
    return f"; or put {names} into a folder and name it with --raw DIR"


def _read_entries(record: Path) -> dict[str, dict[str, Any]]:
    try:
        return json.loads(record.read_text(encoding="utf-8")) if record.exists() else {}
    except ValueError as error:
        raise UserError(f"{record} is not JSON: {error}; mend it, or delete it to record the files anew") from error


def _entry(path: Path, sha256: str | None) -> dict[str, Any]:
    stat = path.stat()
    return {"sha256": sha256, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _check_present(download: Download, path: Path, recorded: str | None, report: Report) -> str:
    try:
        return _checked_sum(download, path, recorded, report)
    except _Damaged as error:
        raise UserError(f"{path} {error}; delete the file to fetch it again") from error


def _download(
    download: Download, path: Path, recorded: str | None, report: Report, pause: Callable[[float], None]
) -> str:
    """SHA-256 of the file that is brought to `path`."""
    shows_its_end = path.suffix in _FIRST_BYTES or bool(download.sha256 or recorded)
    transfer = Transfer(download.url, path, shows_its_end, report)
    found = ""

    def bring(url: str, output_file: str, store: pooch.Pooch) -> None:
        nonlocal found
        transfer.complete(pause)
        try:
            found = _checked_sum(download, transfer.part, recorded, report)
        except _Damaged as error:
            transfer.discard()
            raise Refused(f"what the server sends {error}; it is discarded, try again later") from error
        os.replace(transfer.part, output_file)
        transfer.discard()

    pooch.get_logger().setLevel("WARNING")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{CHECKSUMS}.", suffix=".tmp") as folder:
        # No hash for pooch: `bring` compares it while the bytes are still where a killed process finds them.
        store = pooch.Pooch(folder, base_url="", registry={path.name: None}, urls={path.name: download.url})
        os.replace(store.fetch(path.name, downloader=bring), path)
    return found


class _Damaged(Exception):
    """What is wrong with a file, as the end of a sentence."""


def _checked_sum(download: Download, path: Path, recorded: str | None, report: Report) -> str:
    """SHA-256 of the file at `path`; _Damaged if it is not whole or not the one expected."""
    with open(path, "rb") as file:
        _read_to_end(file, download.name, report)
    found = pooch.file_hash(path)
    expected = download.sha256 or recorded
    if expected in (None, found):
        return found
    remedy = "" if download.sha256 else f" (if the publisher changed the file, delete its entry in {CHECKSUMS})"
    raise _Damaged(f"has the SHA-256 {found} where {expected} is expected{remedy}")


def _read_to_end(file: BinaryIO, name: str, report: Report) -> None:
    """_Damaged if the file is empty, of another kind than its name says, or compressed and not whole."""
    head = file.read(1024)
    file.seek(0)
    named = Path(name).suffix if Path(name).suffix in _FIRST_BYTES else ""
    kind = next((suffix for suffix, first in _FIRST_BYTES.items() if head.startswith(first)), "")
    if not head:
        raise _Damaged("is empty")
    if is_page(head):
        raise _Damaged("is an HTML page")
    if kind != named:
        raise _Damaged(f"is no {named} file" if named else f"is a {kind} file, which its name does not say")
    try:
        if kind == ".gz":
            _unpack(file, name, report)
        elif kind == ".zip" and (broken := zipfile.ZipFile(file).testzip()):
            raise _Damaged(f"is damaged at {broken}")
    except (EOFError, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error) as error:
        raise _Damaged(f"is cut short or damaged ({error})") from error


def _unpack(file: BinaryIO, name: str, report: Report) -> None:
    size = os.fstat(file.fileno()).st_size
    with gzip.open(file) as content:
        while content.read(_PIECE):
            report(f"checking {name}", file.tell(), size)
