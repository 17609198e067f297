"""The simulation written to a folder, block of users by block of users."""

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from synergen.data.sessions.block import simulate_block
from synergen.data.sessions.catalogue import catalogue_size, make_catalogue
from synergen.data.sessions.tables import block_tables, catalogue_tables
from synergen.errors import UserError
from synergen.files import cache_root, locked, whole_folder, write_json

VERSION = 3
"""Of the simulator: raise it whenever the same users and seed give other data."""

FEWEST_USERS, MOST_USERS = 100, 1_000_000
_USERS_AT_ONCE = 4_096

Progress = Callable[[int, int], None]
"""Called with (users done, users in all)."""


def simulate(folder: Path, users: int = 10_000, seed: int = 0, progress: Progress | None = None) -> None:
    """Simulate a shop into a new folder, which appears when it is whole. Equal arguments give equal tables.

    The folder holds `interactions.parquet` and `items.parquet` (see `synergen.data.folder`), `impressions.parquet`
    (what was shown), `truth.parquet` and `items_truth.parquet` (see `Truth`), and `sessions.json` (counts). Users,
    items and requests are numbered from 0; requests are sorted by user and time and numbered in that order.

    Raises:
        UserError: users are not 100 to 1,000,000, the folder exists, or it cannot be written.
    """
    if not FEWEST_USERS <= users <= MOST_USERS:
        raise UserError(f"sessions of {users} users: the simulator takes {FEWEST_USERS:,} to {MOST_USERS:,} users")
    if folder.exists():
        raise UserError(f"{folder} exists already; name a new folder or remove this one")
    with whole_folder(folder) as partial:
        counts = _write_tables(partial, users, seed, progress)
        write_json(partial / "sessions.json", {"version": VERSION, "users": users, "seed": seed} | counts)


def folder_for(users: int, seed: int = 0) -> Path:
    """The folder of this simulation in the cache, simulated if it is not there yet. Processes that ask at the same
    time simulate once.

    Raises:
        UserError: see `simulate`.
    """
    size = f"{users // 1000}k" if users % 1000 == 0 else str(users)
    folder = cache_root() / "sessions" / f"v{VERSION}-seed{seed}" / f"sessions-{size}"
    if not folder.exists():
        with locked(folder):
            if not folder.exists():  # another process may have been first
                simulate(folder, users, seed)
    return folder


def _write_tables(folder: Path, users: int, seed: int, progress: Progress | None) -> dict[str, int]:
    """Writes all tables and returns what they count."""
    catalogue_seed, *block_seeds = np.random.SeedSequence(seed).spawn(1 + -(-users // _USERS_AT_ONCE))
    catalogue = make_catalogue(catalogue_size(users), np.random.default_rng(catalogue_seed))
    for name, table in catalogue_tables(catalogue).items():
        pq.write_table(table, folder / f"{name}.parquet")
    counts = Counter(items=len(catalogue.items))
    with ExitStack() as files:
        writers: dict[str, Any] = {}
        for number, block_seed in enumerate(block_seeds):
            first = number * _USERS_AT_ONCE
            last = min(users, first + _USERS_AT_ONCE)
            block = simulate_block(last - first, catalogue, block_seed)
            for name, table in block_tables(block, first, counts["requests"]).items():
                if name not in writers:
                    writers[name] = files.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", table.schema))
                writers[name].write_table(table)
            counts["requests"] += len(block.state)
            counts["searches"] += int(block.state.search.sum())
            counts["clicks"] += int((~block.events.purchases).sum())
            counts["purchases"] += int(block.events.purchases.sum())
            if progress:
                progress(last, users)
    return dict(counts)
