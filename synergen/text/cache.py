"""Matrices computed once per machine and memory-mapped by everyone after that."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from synergen.errors import UserError
from synergen.files import write_atomically


def cache_root() -> Path:
    """`$SYNERGEN_CACHE`, or `~/.cache/synergen`."""
    return Path(os.environ.get("SYNERGEN_CACHE") or Path.home() / ".cache" / "synergen").expanduser()


def cached_matrix(path: Path, n_rows: int, compute: Callable[[], np.ndarray]) -> np.memmap:
    """The float16 matrix (n_rows, D) stored at `path`, computed and stored if it is not there yet.

    Processes that ask at the same time compute it once: the others wait. A stored file that is cut short or is
    not such a matrix is computed again.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    stored = _load(path, n_rows)
    if stored is not None:
        return stored
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise UserError(
            f"cannot write the text cache {path.parent}: {error.strerror or error}; "
            "set SYNERGEN_CACHE to a folder that you can write to"
        ) from error
    with lock:
        stored = _load(path, n_rows)  # another process may have been first
        if stored is not None:
            return stored
        for left_behind in path.parent.glob(f".{path.name}.*.tmp"):  # by a writer that was killed
            left_behind.unlink(missing_ok=True)
        matrix = compute().astype(np.float16, copy=False)
        write_atomically(path, lambda temporary: _save(temporary, matrix))
    return np.load(path, mmap_mode="r")


def _save(path: Path, matrix: np.ndarray) -> None:
    with open(path, "wb") as file:  # np.save would add .npy to a path
        np.save(file, matrix)


def _load(path: Path, n_rows: int) -> np.memmap | None:
    """The stored matrix, or None where there is no whole one."""
    try:
        matrix = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    whole = matrix.ndim == 2 and len(matrix) == n_rows and matrix.dtype == np.float16
    return matrix if whole and path.stat().st_size == matrix.offset + matrix.nbytes else None
