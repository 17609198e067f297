"""Preparing a ratings file of the size of Amazon Books 2014, from csv to memory-mapped arrays.

Each side runs in a process of its own, so that its memory is its own, and on a file that the operating system has in
memory, so that no disk is measured.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl

from benchmarks.environment import peak_memory_mib
from benchmarks.lookalike import ROWS, write_later, write_lookalike
from benchmarks.measure import Setting, Value, figure, median_ratio
from synergen.contract import Task
from synergen.data.dataset import make_split
from synergen.data.preparation import Rules, prepare_source
from synergen.data.prepared import read_prepared
from synergen.data.recipes import RECIPES
from synergen.data.sources import find_source, use_raw_folder
from synergen.data.splits import EventSplit, Part

_REPEATS = 3
"""At most: a repeat takes half a minute."""


@dataclass(frozen=True)
class _Times:
    scan: list[float]  # seconds
    prepare: list[float]
    append: list[float]
    peak: float  # GB


@figure("x", 2.0, "lower", dtype=None, threads=2)
def prepare_vs_scan(setting: Setting) -> Value:
    """Time to prepare a ratings file, over the time in which polars reads it and sorts it by user and time, and
    nothing else.

    The file: 22,507,155 rows, 8,026,324 users, 2,330,066 items, generated (see benchmarks/lookalike.py). To prepare
    is to checksum, parse, number, filter, sort and split it, to write arrays and manifest with their checksums, and to
    keep what was parsed for later events. Three repeats.
    """
    times = _times(setting.threads, min(setting.repeats, _REPEATS))
    scan, ours = statistics.median(times.scan), statistics.median(times.prepare)
    return Value(median_ratio(times.prepare, times.scan), f"{ours:.1f} s against {scan:.1f} s")


@figure("GB", 6.0, "lower", dtype=None, threads=2)
def prepare_peak_gb(setting: Setting) -> Value:
    """The most memory that preparing the file of `prepare_vs_scan` takes, interpreter and libraries included."""
    times = _times(setting.threads, min(setting.repeats, _REPEATS))
    return Value(times.peak, "resident, the csv of 0.92 GB as far as it is mapped")


@figure("x", 0.25, "lower", dtype=None, threads=2)
def append_user(setting: Setting) -> Value:
    """Time to prepare the file of `prepare_vs_scan` again with 1 % later events in a second file, new users and
    items among them, over the time to prepare it from nothing."""
    times = _times(setting.threads, min(setting.repeats, _REPEATS))
    ours = statistics.median(times.append)
    return Value(median_ratio(times.append, times.prepare), f"{ours:.2f} s")


@lru_cache
def _times(threads: int, repeats: int) -> _Times:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        raw.mkdir()
        write_lookalike(raw / "ratings_Books.csv")
        later = Path(folder) / "later.csv"
        write_later(later, ROWS // 100)
        rows = []
        for _ in range(repeats):
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                scan, _peak = _in_a_process("scan", raw, cache, threads)
                prepare, peak = _in_a_process("prepare", raw, cache, threads)
                with _added(later, raw):
                    append, _peak = _in_a_process("prepare", raw, cache, threads)
                rows.append((scan, prepare, append, peak))
    scans, prepares, appends, peaks = (list(column) for column in zip(*rows, strict=True))
    return _Times(scans, prepares, appends, max(peaks))


@contextmanager
def _added(later: Path, raw: Path) -> Iterator[None]:
    path = raw / "ratings_Books-1.csv"
    later.rename(path)
    yield
    path.rename(later)


def _in_a_process(what: str, raw: Path, cache: str, threads: int) -> tuple[float, float]:
    """Seconds and GB of `_scan` or `_prepare`, imports aside."""
    command = [sys.executable, "-m", "benchmarks.figures.preparation", what, str(raw)]
    limits = {"POLARS_MAX_THREADS": str(threads), "OMP_NUM_THREADS": str(threads), "SYNERGEN_CACHE": cache}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        command, env={**os.environ, **limits}, cwd=root, stdout=subprocess.PIPE, check=True, text=True
    )
    return tuple(json.loads(done.stdout))


def _scan(raw: Path) -> None:
    columns = ["user", "item", "rating", "ts"]
    pl.read_csv(raw / "ratings_Books.csv", has_header=False, new_columns=columns).sort("user", "ts")


def _prepare(raw: Path) -> None:
    use_raw_folder(RECIPES["book-review"], raw, any_checksum=True)
    ready = prepare_source(find_source("book-review"), Rules())
    split = make_split("leave-one-out", read_prepared(ready.folder, ready.manifest))
    assert isinstance(split, EventSplit)
    split.item_counts()
    for part in Part:
        split.questions(part, Task.RECOMMENDATION)


def _peak() -> float:
    """GB that this process has held at most; getrusage would tell of the process that started it, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e6  # type: ignore[index]
    return peak_memory_mib() * 2**20 / 1e9


if __name__ == "__main__":
    start = time.perf_counter()
    {"scan": _scan, "prepare": _prepare}[sys.argv[1]](Path(sys.argv[2]))
    print(json.dumps([time.perf_counter() - start, _peak()]))
