"""Files that are either whole or absent, whatever stops the writer."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
from filelock import FileLock

from synergen.errors import UserError


def cache_root() -> Path:
    """`$SYNERGEN_CACHE`, or `~/.cache/synergen`."""
    return Path(os.environ.get("SYNERGEN_CACHE") or Path.home() / ".cache" / "synergen").expanduser()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock beside `path`, a file or folder of the cache, against other processes; whoever comes later waits.

    What a writer that was killed left beside `path` is removed.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock")).acquire()
    except OSError as error:
        raise UserError(
            f"cannot write the cache {path.parent}: {error.strerror or error}; "
            "set SYNERGEN_CACHE to a folder that you can write to"
        ) from error
    with lock:
        for left_behind in path.parent.glob(f".{path.name}.*.tmp"):
            shutil.rmtree(left_behind) if left_behind.is_dir() else left_behind.unlink(missing_ok=True)
        yield


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that takes the name and the place of `folder` in the end, or is removed. Until then what stood
    there stays.

    Raises:
        UserError: it cannot be written or the disk is full; nothing is left behind.
    """
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        partial = temporary / "new"
        partial.mkdir()
        yield partial
        if folder.exists():
            folder.rename(temporary / "replaced")
        partial.rename(folder)
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror or error}; free some space or choose a writable folder"
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` on a temporary file beside `path`, then move it into place.

    Raises:
        UserError: the folder cannot be written or the disk is full; nothing is left behind.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose a writable folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable by people and by `git diff`."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_table(path: Path, table: pl.DataFrame) -> None:
    """Write a parquet file into a `whole_folder`.

    Raises:
        OSError: it cannot be written, which polars itself reports as a computation that failed.
    """
    try:
        table.write_parquet(path, compression="lz4")
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error)) from error


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: what run ids are hashes of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(*parts: bytes | memoryview | str) -> str:
    """SHA-256 of the parts, each preceded by its length in bytes so that no two lists of parts collide."""
    sha = hashlib.sha256()
    small: list[bytes] = []  # one update for many texts
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        small.append((data.nbytes if isinstance(data, memoryview) else len(data)).to_bytes(8, "little"))
        if isinstance(data, bytes) and len(data) < 1 << 12:
            small.append(data)
        else:
            sha.update(b"".join(small))
            small.clear()
            sha.update(data)
    sha.update(b"".join(small))
    return sha.hexdigest()


def digest_files(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of files: that of `digest` with name and bytes in turn."""
    sha = hashlib.sha256()
    for path in sorted(paths):
        name = path.name.encode()
        sha.update(len(name).to_bytes(8, "little") + name + path.stat().st_size.to_bytes(8, "little"))
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                sha.update(piece)
    return sha.hexdigest()
