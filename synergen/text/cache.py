"""Files computed once per machine, and matrices that everyone memory-maps after that."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from synergen.files import locked, write_atomically

T = TypeVar("T")

BLOCK = 4096
"""Rows of a matrix that are worked on at a time, where all would not fit in memory."""


def cached(path: Path, load: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What `load` reads at `path`, after `write` has written it there if there is no whole file yet.

    Processes that ask at the same time write it once: the others wait.

    Args:
        load: returns None where the file is absent or damaged.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    stored = load(path)
    if stored is not None:
        return stored
    with locked(path):
        stored = load(path)  # another process may have been first
        if stored is None:
            write_atomically(path, write)
            stored = load(path)
    assert stored is not None
    return stored


def cached_matrix(path: Path, n_rows: int, write: Callable[[Path], None]) -> np.memmap:
    """The float16 matrix (n_rows, D) stored at `path`, read-only; see `cached`."""
    return cached(path, partial(_load, n_rows=n_rows), write)


def new_matrix(path: Path, n_rows: int, width: int) -> np.memmap:
    """A matrix (n_rows, width) float16 of zeros in a file, to be filled in place.

    Every byte is written at once: where the disk is full this raises OSError, while a page that finds no room when it
    is filled would end the process.
    """
    with open(path, "wb") as file:
        header = {"descr": "<f2", "fortran_order": False, "shape": (n_rows, width)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, n_rows, BLOCK):
            file.write(bytes(2 * width * min(BLOCK, n_rows - start)))
    return np.load(path, mmap_mode="r+")


def _load(path: Path, n_rows: int) -> np.memmap | None:
    """The stored matrix, or None where there is no whole one."""
    try:
        matrix = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    whole = matrix.ndim == 2 and len(matrix) == n_rows and matrix.dtype == np.float16
    return matrix if whole and path.stat().st_size == matrix.offset + matrix.nbytes else None
