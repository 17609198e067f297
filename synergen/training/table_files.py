"""The rows of tables that are spread over processes, on disk: each process writes its own, and any number of processes
reads them again (torch.distributed.checkpoint)."""

import shutil
from pathlib import Path

from torch.distributed import checkpoint as distributed_checkpoint

from synergen import distributed
from synergen.contract import Recommender
from synergen.errors import UserError
from synergen.sharded_table import tables_of


class TableFiles:
    """Folders beside the checkpoint of a training, one for each state that it, or the one before it, stands for.

    For models without such tables nothing is written. All processes must call the methods together.
    """

    def __init__(self, checkpoint: Path, model: Recommender) -> None:
        self._tables = tables_of(model)
        self._folder = checkpoint.with_suffix(".tables")

    def set_rate(self, rate: float) -> None:
        """Learn at this rate from now on."""
        for table in self._tables.values():
            table.set_rate(rate)

    def save(self, name: str) -> None:
        """Write the tables as they are now.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        if not self._tables:
            return
        try:
            distributed_checkpoint.save(self._state(), checkpoint_id=self._folder / name)
        except distributed_checkpoint.CheckpointException as error:
            raise UserError(f"cannot write {self._folder / name}: {error}; free some space") from error

    def load(self, name: str) -> None:
        """Make the tables what they were.

        Raises:
            UserError: the files are not there, or damaged.
        """
        if not self._tables:
            return
        try:
            distributed_checkpoint.load(self._state(), checkpoint_id=self._folder / name)
        except distributed_checkpoint.CheckpointException as error:
            raise UserError(
                f"{self._folder / name}: the tables cannot be read ({error}); remove {self._folder} and the checkpoint "
                "beside it to begin anew"
            ) from error

    def keep(self, *names: str) -> None:
        """Remove all states but these."""
        if self._tables and distributed.rank() == 0:
            for old in self._folder.iterdir():
                if old.name not in names:
                    shutil.rmtree(old, ignore_errors=True)

    def _state(self) -> dict[str, object]:
        return {name: table.state() for name, table in self._tables.items()}
