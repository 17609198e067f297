"""Runs and their records: what was run, under which protocol, with which ranks of single users or requests.

A run is (model, data set, task, seed, settings, trainer, protocol); its id is the hash of these. Its record is one JSON
file beside one parquet file of ranks; both are written whole or not at all, ranks first, so that a record always finds
its ranks.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from synergen.errors import UserError
from synergen.evaluation.cases import Ranks
from synergen.evaluation.slates import SlateRanks
from synergen.files import canonical_json, digest, write_atomically, write_json

RECORD_VERSION = 1
"""Raised when older records must not be reused."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSpec:
    """Everything that decides a run's numbers, the data themselves aside."""

    model: str
    dataset: str
    task: str
    """recommendation, search or joint."""
    seed: int
    settings: dict[str, Any]
    trainer: dict[str, Any]
    protocol: dict[str, Any]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """What a record is of."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits."""
        return digest(str(RECORD_VERSION), canonical_json(asdict(self)))[:12]


@dataclass(frozen=True)
class Run:
    """A finished run: its record, and ranks by (task, candidates), users in order of the data set."""

    record: dict[str, Any]
    ranks: dict[tuple[str, str], Ranks]


class RunStore:
    """The folder of a campaign: runs/ (records and ranks, kept), models/ and checkpoints/ (weights, not for git)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def record_path(self, run_id: str) -> Path:
        return self.folder / "runs" / f"{run_id}.json"

    def ranks_path(self, run_id: str) -> Path:
        return self.folder / "runs" / f"{run_id}.parquet"

    def checkpoint_path(self, run_id: str) -> Path:
        """The state of an unfinished training."""
        return self.folder / "checkpoints" / f"{run_id}.unfinished.pt"

    def save(self, run: Run) -> None:
        """Write ranks, then the record."""
        run_id = run.record["id"]
        rows = [
            _columns(ranks).assign(task=task, candidates=candidates) for (task, candidates), ranks in run.ranks.items()
        ]
        table = pd.concat(rows, ignore_index=True)
        table = table.astype({"task": "category", "candidates": "category"})
        write_atomically(self.ranks_path(run_id), lambda path: table.to_parquet(path, compression="zstd", index=False))
        write_json(self.record_path(run_id), run.record)

    def load(self, run_id: str) -> Run | None:
        """The finished run, or None where there is none or its files are damaged (a warning says which)."""
        path = self.record_path(run_id)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            table = pd.read_parquet(self.ranks_path(run_id))
            users = record["data"]["users"]
            ranks = {
                (str(task), str(candidates)): _ranks(rows, users)
                for (task, candidates), rows in table.groupby(["task", "candidates"], observed=True)
            }
        except Exception as error:
            _log.warning(
                "%s or its ranks are damaged (%s): the run counts as not done and will be run again",
                path,
                type(error).__name__,
            )
            return None
        return Run(record, ranks)

    def discard(self, run_id: str) -> None:
        """Forget a run, finished or not."""
        for path in (self.record_path(run_id), self.ranks_path(run_id)):
            path.unlink(missing_ok=True)
        self.drop_checkpoints(run_id)

    def drop_checkpoints(self, run_id: str) -> None:
        """Remove the state of an unfinished training, and the step that a failed one kept."""
        for path in (self.folder / "checkpoints").glob(f"{run_id}.*.pt"):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.checkpoint_path(run_id).with_suffix(".tables"), ignore_errors=True)

    def sweep(self, run_id: str) -> None:
        """Remove what a process killed in the middle of a write left of this run; for the holder of the run's lock."""
        for folder in ("runs", "checkpoints"):
            for path in (self.folder / folder).glob(f".{run_id}.*.tmp"):
                path.unlink(missing_ok=True)
        for path in (self.folder / "models").glob(f".{run_id}.*.tmp"):
            shutil.rmtree(path, ignore_errors=True)

    def records(self) -> list[dict[str, Any]]:
        """All readable records, for estimates and listings."""
        found = []
        for path in sorted((self.folder / "runs").glob("*.json")):
            try:
                found.append(json.loads(path.read_text(encoding="utf-8")))
            except (OSError, ValueError):
                _log.warning("%s is damaged and is left out", path)
        return found

    def check_writable(self) -> None:
        """Raise UserError now and not after an hour of training."""
        probe = self.folder / "runs" / ".writable"
        write_atomically(probe, lambda path: None)
        probe.unlink(missing_ok=True)


def refuse_other_data(record: Mapping[str, Any], source_hash: str, dataset: str) -> None:
    """Raise UserError where a record was made from other files of the same name."""
    made_from = record["data"]["source_hash"]
    if made_from != source_hash:
        raise UserError(
            f"record {record['id']} is of a data set '{dataset}' with other contents ({made_from[:12]}, now "
            f"{source_hash[:12]}); use --force to run again, --out for another results folder, or rename the data set"
        )


def _columns(ranks: Ranks) -> pd.DataFrame:
    """Ranks as columns of whole numbers, with the request where a user has several."""
    if isinstance(ranks, SlateRanks):
        twice = np.rint(2 * ranks.ranks).astype(np.int32)
        columns = {
            "user": ranks.users.astype(np.int32),
            "twice_rank": twice,
            "request": ranks.requests.astype(np.int32),
        }
        return pd.DataFrame(columns)
    asked = np.flatnonzero(~np.isnan(ranks))
    return pd.DataFrame({"user": asked.astype(np.int32), "twice_rank": np.rint(2 * ranks[asked]).astype(np.int32)})


def _ranks(rows: pd.DataFrame, users: int) -> Ranks:
    ranks = rows["twice_rank"].to_numpy() / 2
    if "request" in rows and rows["request"].notna().all():
        return SlateRanks(rows["request"].to_numpy(np.int32), rows["user"].to_numpy(), ranks)
    values = np.full(users, np.nan)
    values[rows["user"].to_numpy()] = ranks
    return values
