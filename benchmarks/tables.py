"""From finished runs to a table: a pure function of their records and ranks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from benchmarks.admission import admitted
from benchmarks.consistency import refuse_impossible
from benchmarks.differences import Compared, compare
from benchmarks.facts import Value, facts_of
from benchmarks.gains import Gain, Reached, gains
from benchmarks.notes import notes
from benchmarks.references import knows_truth
from benchmarks.spec import Block, Printed, RowSpec, Spec, load_spec
from benchmarks.views import has_slates
from synergen.errors import UserError, unknown_name
from synergen.evaluation.cases import cases, users_of_cases
from synergen.evaluation.intervals import Interval, interval
from synergen.runs import Ranks, Run

__all__ = [
    "Block",
    "Row",
    "RowSpec",
    "Run",
    "Spec",
    "Status",
    "Table",
    "build",
    "load_spec",
]

Status = Literal["done", "pending", "not applicable"]
"""`pending`: no finished run yet. In a table of texts: whether the registry holds the model."""


@dataclass(frozen=True)
class Row:
    """A method in a block."""

    method: RowSpec
    block: Block
    status: Status
    seeds: int
    metrics: dict[str, Interval]
    """Ours by column, fractions; empty unless done."""
    paper: dict[str, Printed]
    """The paper's by column or fact, percent as printed."""
    runs: tuple[str, ...]
    """Ids of the runs, in order of their seeds."""
    facts: dict[str, Value] = field(default_factory=dict)
    """What the table states of the row and its costs, by name; empty where nothing was trained."""
    differences: dict[str, Compared] = field(default_factory=dict)
    """By column, from the row that the table compares with, where it does."""
    gains: dict[str, Gain] = field(default_factory=dict)
    """By column, over the best other row of ours; empty where there is none."""


@dataclass(frozen=True)
class Table:
    """A table with everything that is printed of it. Rows are ordered by method, then by block."""

    spec: Spec
    dataset: str | None
    protocol: Mapping[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def build(
    spec: Spec,
    runs: Mapping[str, Sequence[Run]],
    registry_tasks: Mapping[str, frozenset[str]],
    dataset: str | None = None,
    excluded: Sequence[str] = (),
) -> Table:
    """The table that finished runs make. Runs of other data, protocols or scales than the rest are left out, and a line
    under the table names each.

    Args:
        runs: by method, one a seed.
        registry_tasks: the tasks that each registered model serves.
        dataset: the data set asked for; by default that of the runs or, where there are none, the paper's.
        excluded: lines on runs that were left out before.

    Raises:
        UserError: runs of an unknown method, of another model, or of one seed twice.
        RuntimeError: ranks and metrics contradict one another.
    """
    methods = {row.method: row for row in spec.rows}
    for name, own in runs.items():
        if name not in methods:
            raise unknown_name("method", name, methods, where=f"table {spec.number}")
        _check_method(methods[name], own)
    runs, lines = admitted(runs, dataset)
    every = [run for row in spec.rows for run in runs.get(row.method, ())]
    dataset = dataset or (every[0].record["dataset"] if every else spec.paper_dataset)
    protocol = {**spec.protocol, **(every[0].record["protocol"] if every else {})}
    truth = has_slates(protocol) and dataset is not None and knows_truth(dataset)
    tasks = dict(registry_tasks)
    tasks |= {row.reference: row.tasks if truth else frozenset() for row in spec.rows if row.reference}
    rows = tuple(
        _row(spec, row, block, runs.get(row.method, ()), tasks, protocol) for row in spec.rows for block in spec.blocks
    )
    refuse_impossible(rows, protocol)
    rows = tuple(_gaining(tuple(_compared(rows, spec, runs, protocol)), spec, runs, protocol))
    table = Table(spec, dataset, protocol, rows, ())
    return replace(table, notes=(*notes(table, every, registry_tasks), *excluded, *lines))


def _check_method(row: RowSpec, runs: Sequence[Run]) -> None:
    for run in runs:
        if run.record["model"] != row.subject:
            raise UserError(
                f"run {run.record['id']} is of model {run.record['model']}, but row '{row.method}' is of "
                f"{row.subject}; give the run to the row of its model"
            )
    seeds = [run.record["seed"] for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"row '{row.method}' has several runs of one seed: {sorted(seeds)}; give one run a seed")


def _row(
    spec: Spec,
    row: RowSpec,
    block: Block,
    runs: Sequence[Run],
    tasks: Mapping[str, frozenset[str]],
    protocol: Mapping[str, Any],
) -> Row:
    paper = spec.paper(row, block)
    if block.task is None:
        return Row(row, block, "done" if row.model in tasks else "pending", 0, {}, paper, ())
    served = row.tasks & tasks.get(row.subject or "", row.tasks)
    readings = readings_of(row, block, protocol)
    if block.task not in served or not readings:
        return Row(row, block, "not applicable", 0, {}, paper, ())
    metrics: dict[str, Interval] = {}
    used: set[int] = set()
    for column, (name, metric) in readings.items():
        found = _ranks_by_seed(runs, block, name)
        used |= found.keys()
        if found:
            values = [cases(ranks, metric) for ranks in found.values()]
            metrics[column] = interval(values, users_of_cases(next(iter(found.values()))))
    ids = tuple(run.record["id"] for run in sorted(runs, key=_seed) if _seed(run) in used)
    known = facts_of((*spec.stated, *block.costs), runs)
    return Row(row, block, "done" if metrics else "pending", len(ids), metrics, paper, ids, known)


def _seed(run: Run) -> int:
    seed: int = run.record["seed"]
    return seed


def _ranks_by_seed(runs: Sequence[Run], block: Block, name: str) -> dict[int, Ranks]:
    """Ranks of that name in the block's task, seeds in order."""
    key = (block.task or "", name)
    return {_seed(run): run.ranks[key] for run in sorted(runs, key=_seed) if key in run.ranks}


def readings_of(row: RowSpec, block: Block, protocol: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """By column that applies, the name of the ranks and the metric."""
    found = ((column, block.reading(column, row.head, protocol)) for column in block.columns)
    return {column: reading for column, reading in found if reading is not None}


def _compared(
    rows: Sequence[Row], spec: Spec, runs: Mapping[str, Sequence[Run]], protocol: Mapping[str, Any]
) -> Iterator[Row]:
    """The rows, with their differences from the row that the table compares with."""
    bases = {row.block.name: row for row in rows if row.method.method == spec.compared_with}
    for row in rows:
        base = bases.get(row.block.name)
        if base is None or not is_compared(row.method, spec):
            yield row
            continue
        differences = {}
        theirs = readings_of(base.method, base.block, protocol)
        for column, (name, metric) in readings_of(row.method, row.block, protocol).items():
            found = compare(
                _ranks_by_seed(runs.get(row.method.method, ()), row.block, name),
                _ranks_by_seed(runs.get(base.method.method, ()), base.block, theirs[column][0]),
                metric,
                (row.paper.get(column), base.paper.get(column)),
            )
            if found is not None:
                differences[column] = found
        yield replace(row, differences=differences)


def _gaining(
    rows: Sequence[Row], spec: Spec, runs: Mapping[str, Sequence[Run]], protocol: Mapping[str, Any]
) -> Iterator[Row]:
    """The rows, with their gains over the best other one; what is no model has none."""
    found: dict[str | None, dict[str, dict[str, Gain]]] = {}
    for block in spec.blocks:
        columns: dict[str, dict[str, Reached]] = {}
        for row in rows:
            if row.block != block or row.method.reference or not row.metrics:
                continue
            for column, (name, metric) in readings_of(row.method, block, protocol).items():
                ranks = _ranks_by_seed(runs[row.method.method], block, name)
                if ranks:
                    reached = Reached(row.metrics[column].mean, metric, ranks)
                    columns.setdefault(column, {})[row.method.method] = reached
        found[block.name] = gains(columns)
    for row in rows:
        yield replace(row, gains=found[row.block.name].get(row.method.method, {}))


def is_compared(row: RowSpec, spec: Spec) -> bool:
    """Whether the table prints by how much a row differs from the one that it compares with."""
    return spec.compared_with not in (None, row.method) and row.reference is None
