"""What figures are made of: a table, the runs behind it, and what lies beside their records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.inputs import load_for
from benchmarks.spec import Block
from benchmarks.tables import Row, Table, readings_of
from synergen.data.dataset import Dataset
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.plot_style import Mark, marks
from synergen.runs import Ranks, Run


@dataclass(frozen=True)
class Material:
    """A table with its runs."""

    table: Table
    runs: Mapping[str, Sequence[Run]]
    """By method."""
    source: str
    """The name or folder of the data set."""
    folder: Path
    """Of the results: runs/, studies/, models/."""

    @property
    def title(self) -> str:
        """Where the numbers of a figure are from."""
        return f"Table {self.table.spec.number}, {self.table.dataset}"

    @property
    def marks(self) -> dict[str, Mark]:
        """By method, the same in all figures of a table, whatever has been run."""
        return marks(row.method for row in self.table.spec.rows)

    def main_blocks(self) -> list[Block]:
        """The first block of each task."""
        found: dict[str, Block] = {}
        for block in self.table.spec.blocks:
            if block.task is not None:
                found.setdefault(block.task, block)
        return list(found.values())

    def main_column(self, block: Block) -> str:
        """What figures show of a block: the metric that training is stopped by or, where that is no column, the first
        one."""
        validation = self.table.protocol.get("validation")
        name = validation.get(block.task) if isinstance(validation, Mapping) else validation
        return name if name in block.columns else block.columns[0]

    def rows(self, block: Block) -> list[Row]:
        """The rows of a block whose main column has been measured, references aside."""
        rows = (row for row in self.table.rows if row.block == block and not row.method.reference)
        return [row for row in rows if self.main_column(block) in row.metrics]

    def runs_of(self, row: Row) -> list[Run]:
        """Those behind a row, seeds in order."""
        runs = [run for run in self.runs.get(row.method.method, ()) if run.record["id"] in row.runs]
        return sorted(runs, key=lambda run: run.record["seed"])

    def reading(self, row: Row, column: str) -> tuple[str, str]:
        """The name of the ranks behind a cell, and the metric that it makes of them."""
        return readings_of(row.method, row.block, self.table.protocol)[column]

    def ranks(self, row: Row, column: str) -> list[Ranks]:
        """Test ranks behind a cell, a seed each."""
        key = (str(row.block.task), self.reading(row, column)[0])
        return [run.ranks[key] for run in self.runs_of(row) if key in run.ranks]

    def dataset(self) -> Dataset:
        """The data set of the records.

        Raises:
            UserError: there are no records, or the data are not here, or have changed since.
        """
        records = [run.record for runs in self.runs.values() for run in runs]
        if not records:
            raise UserError("no run of this table is on record")
        source_hash(find_source(self.source))  # refuses what would have to be downloaded
        found = load_for(self.source, self.table.protocol)
        if found.log.data_hash != records[0]["data"]["hash"]:
            here, recorded = found.log.data_hash[:12], records[0]["data"]["hash"][:12]
            raise UserError(
                f"the data set {self.table.dataset} at hand (hash {here}) is not that of the records ({recorded}); "
                "give the files that they were made from, or run the table again"
            )
        return found
