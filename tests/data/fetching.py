"""What is fetched from the faulty server, and how."""

import gzip
import hashlib
import io
import json
import zipfile
from pathlib import Path

import pytest
from faulty_server import Answer, FaultyServer

from synergen.data.downloads import CHECKSUMS, fetch
from synergen.data.recipe import Download
from synergen.errors import UserError

ROWS = b"".join(b"A%d,B%d,5.0,1400000000\n" % (row, row % 7) for row in range(4000))
PACKED = gzip.compress(ROWS, mtime=0)
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>Please log in</body></html>"
OTHER = ROWS.replace(b"5.0", b"1.0")
GOOD = Answer(ROWS)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.csv", ROWS)
    return file.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def bring(server: FaultyServer, folder: Path, name: str = "rows.csv", pinned: str | None = None) -> list[float]:
    """Fetch one file, without waiting; the pauses that were asked for."""
    pauses: list[float] = []
    fetch([Download(name, server.url + name, pinned)], folder, lambda *_: None, pause=pauses.append)
    return pauses


def refused(server: FaultyServer, folder: Path, name: str = "rows.csv", pinned: str | None = None) -> str:
    """The message of a fetch that must fail and leave nothing that claims to be the file."""
    with pytest.raises(UserError) as error:
        bring(server, folder, name, pinned)
    assert not (folder / name).exists()
    assert name not in recorded(folder)
    assert not list(folder.glob(".*.tmp"))
    return str(error.value)


def recorded(folder: Path) -> dict[str, dict[str, object]]:
    record = folder / CHECKSUMS
    return json.loads(record.read_text()) if record.exists() else {}


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {CHECKSUMS, f"{CHECKSUMS}.lock"}
