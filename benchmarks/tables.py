"""From finished runs to a table: a pure function of their records and ranks."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.differences import Compared, cases, compare, users_of_cases
from benchmarks.formats import NOT_APPLICABLE, Cell, Columns, Grid, Line, Panel, latex, markdown
from benchmarks.notes import notes
from benchmarks.references import knows_truth
from benchmarks.spec import Block, Printed, RowSpec, Spec, load_spec
from benchmarks.views import has_slates
from synergen.errors import UserError, unknown_name
from synergen.evaluation.intervals import Interval, interval
from synergen.files import write_json, write_text
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
    "grid",
    "load_spec",
    "to_csv",
    "to_json",
    "write",
]

_CSV_COLUMNS = (
    *("table", "dataset", "method", "group", "block", "metric"),
    *("status", "seeds", "mean", "low", "high", "paper", "runs"),
)
_CSV_DIFFERENCES = ("difference", "difference_low", "difference_high", "p_value", "paper_difference", "sign")
"""Further columns of a table that compares its rows."""

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
    """The paper's by column, percent as printed."""
    runs: tuple[str, ...]
    """Ids of the runs, in order of their seeds."""
    differences: dict[str, Compared] = field(default_factory=dict)
    """By column, from the row that the table compares with, where it does."""


@dataclass(frozen=True)
class Table:
    """A table with everything that is printed of it. Rows are ordered by method, then by block."""

    spec: Spec
    dataset: str | None
    protocol: Mapping[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def best(self, block: Block, column: str) -> float | None:
        """The highest mean of our models in a column, None where nothing is done."""
        rows = (row for row in self.rows if row.block == block and not row.method.reference)
        return max((row.metrics[column].mean for row in rows if column in row.metrics), default=None)


def build(
    spec: Spec,
    runs: Mapping[str, Sequence[Run]],
    registry_tasks: Mapping[str, frozenset[str]],
    dataset: str | None = None,
) -> Table:
    """The table that finished runs make.

    Args:
        runs: by method, one a seed.
        registry_tasks: the tasks that each registered model serves.
        dataset: the data set asked for; by default that of the runs or, where there are none, the paper's.

    Raises:
        UserError: runs of an unknown method, of another model, of one seed twice, or of different data, protocols or
            scales, which one table cannot hold side by side.
    """
    methods = {row.method: row for row in spec.rows}
    for name, own in runs.items():
        if name not in methods:
            raise unknown_name("method", name, methods, where=f"table {spec.number}")
        _check_method(methods[name], own)
    every = [run for row in spec.rows for run in runs.get(row.method, ())]
    _check_comparable(every, spec.number, dataset)
    dataset = dataset or (every[0].record["dataset"] if every else spec.paper_dataset)
    protocol = {**spec.protocol, **(every[0].record["protocol"] if every else {})}
    truth = has_slates(protocol) and dataset is not None and knows_truth(dataset)
    tasks = dict(registry_tasks)
    tasks |= {row.reference: row.tasks if truth else frozenset() for row in spec.rows if row.reference}
    rows = tuple(
        _row(spec, row, block, runs.get(row.method, ()), tasks, protocol) for row in spec.rows for block in spec.blocks
    )
    table = Table(spec, dataset, protocol, tuple(_compared(rows, spec, runs, protocol)), ())
    return replace(table, notes=tuple(notes(table, every, registry_tasks)))


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


def _check_comparable(runs: Sequence[Run], number: int, dataset: str | None) -> None:
    """One data set, one protocol, one scale (models that learn nothing have none)."""
    facts: dict[str, Any] = {} if dataset is None else {"data set": dataset}
    for run in runs:
        record = run.record
        own = {"data set": record["dataset"], "data hash": record["data"]["hash"], "scale": record["scale"]}
        for fact, value in (own | {f"protocol {k}": v for k, v in record["protocol"].items()}).items():
            if value is not None and facts.setdefault(fact, value) != value:
                raise UserError(
                    f"table {number} cannot hold run {record['id']} ({record['model']}): its {fact} is {value}, "
                    f"elsewhere {facts[fact]}; run the rows again under one protocol, or write to another --out"
                )


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
    readings = _readings(row, block, protocol)
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
    return Row(row, block, "done" if metrics else "pending", len(ids), metrics, paper, ids)


def _seed(run: Run) -> int:
    seed: int = run.record["seed"]
    return seed


def _ranks_by_seed(runs: Sequence[Run], block: Block, name: str) -> dict[int, Ranks]:
    """Ranks of that name in the block's task, seeds in order."""
    key = (block.task or "", name)
    return {_seed(run): run.ranks[key] for run in sorted(runs, key=_seed) if key in run.ranks}


def _readings(row: RowSpec, block: Block, protocol: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
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
        if base is None or not _is_compared(row.method, spec):
            yield row
            continue
        differences = {}
        theirs = _readings(base.method, base.block, protocol)
        for column, (name, metric) in _readings(row.method, row.block, protocol).items():
            found = compare(
                _ranks_by_seed(runs.get(row.method.method, ()), row.block, name),
                _ranks_by_seed(runs.get(base.method.method, ()), base.block, theirs[column][0]),
                metric,
                (row.paper.get(column), base.paper.get(column)),
            )
            if found is not None:
                differences[column] = found
        yield replace(row, differences=differences)


def _is_compared(row: RowSpec, spec: Spec) -> bool:
    return spec.compared_with not in (None, row.method) and row.reference is None


def to_json(table: Table) -> dict[str, Any]:
    """The table as plain values: ours as fractions, the paper's in percent as printed, nothing rounded."""
    return {
        "table": table.spec.number,
        "dataset": table.dataset,
        "protocol": dict(table.protocol),
        "rows": [
            {
                "method": row.method.method,
                "block": row.block.name,
                "status": row.status,
                "seeds": row.seeds,
                "metrics": {name: asdict(value) for name, value in row.metrics.items()},
                "paper": row.paper,
                "runs": list(row.runs),
                **({"differences": _plain(row.differences)} if table.spec.compared_with else {}),
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _plain(differences: Mapping[str, Compared]) -> dict[str, Any]:
    return {column: asdict(one.ours) | {"paper": one.paper, "sign": one.verdict} for column, one in differences.items()}


def to_csv(table: Table) -> str:
    """One line a method, block and column; ours as fractions, the paper's in percent as printed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    compares = table.spec.compared_with is not None
    writer.writerow([*_CSV_COLUMNS, *(_CSV_DIFFERENCES if compares else ())])
    for row in table.rows:
        for column in row.block.columns:
            ours = row.metrics.get(column)
            writer.writerow(
                [
                    table.spec.number,
                    table.dataset,
                    row.method.method,
                    row.method.group,
                    row.block.name,
                    column,
                    row.status,
                    row.seeds,
                    *((ours.mean, ours.low, ours.high) if ours else ("", "", "")),
                    row.paper.get(column, ""),
                    " ".join(row.runs),
                    *(_csv_difference(row.differences.get(column)) if compares else ()),
                ]
            )
    return out.getvalue()


def _csv_difference(one: Compared | None) -> tuple[Any, ...]:
    if one is None:
        return ("",) * len(_CSV_DIFFERENCES)
    return one.ours.mean, one.ours.low, one.ours.high, one.ours.p_value, one.paper, one.verdict


def grid(table: Table) -> Grid:
    """The table as texts: ours as mean ± half-width in percent."""
    spec = table.spec
    moved = f" (run on {table.dataset})" if table.dataset != spec.paper_dataset else ""
    legend = (
        f"Percent: ours ± half-width, then the paper's; the best of ours is bold; {NOT_APPLICABLE}: not applicable."
    )
    return Grid(
        name=f"Table {spec.number}",
        title=f"{spec.title}{moved}",
        heading=spec.heading,
        legend="" if spec.qualitative else legend,
        panels=(_levels(table), *((_differences(table),) if spec.compared_with else ())),
        notes=table.notes,
    )


def _levels(table: Table) -> Panel:
    """What is reached, by method."""
    spec = table.spec
    extra = ("In this benchmark",) if spec.qualitative else ()
    columns = tuple(Columns(block.name, (*block.columns, *extra)) for block in spec.blocks)
    return Panel(columns, _lines(table, spec.rows, lambda row: _cells(table, row)))


def _differences(table: Table) -> Panel:
    """How the methods differ from the one that the table compares with."""
    spec = table.spec
    assert spec.compared_with is not None
    base = f"{spec.compared_with[0].lower()}{spec.compared_with[1:]}"
    return Panel(
        tuple(Columns(block.name, block.columns) for block in spec.blocks),
        _lines(table, [row for row in spec.rows if _is_compared(row, spec)], _difference_cells),
        f"Difference to the {base}, points; does the sign agree with the paper",
    )


def _lines(table: Table, methods: Sequence[RowSpec], cells: Callable[[Row], tuple[Cell, ...]]) -> tuple[Line, ...]:
    return tuple(
        Line(method.method, method.group, tuple(cells(row) for row in table.rows if row.method == method))
        for method in methods
    )


def _cells(table: Table, row: Row) -> tuple[Cell, ...]:
    columns = row.block.columns
    if row.block.task is None:
        texts = (str(row.paper.get(column, "")) for column in columns)
        return (*map(Cell, texts), Cell("yes" if row.status == "done" else "no"))
    if row.status == "not applicable":
        return (Cell(NOT_APPLICABLE),) * len(columns)
    return tuple(_number_cell(table, row, column) for column in columns)


def _number_cell(table: Table, row: Row, column: str) -> Cell:
    printed = row.paper.get(column)
    paper = "" if printed is None else f"{printed:.2f}"
    if column not in _readings(row.method, row.block, table.protocol):
        return Cell(NOT_APPLICABLE)
    if column not in row.metrics:
        return Cell("pending", paper)
    ours, best = row.metrics[column], table.best(row.block, column)
    # Means that print alike are marked alike.
    is_best = best is not None and f"{100 * ours.mean:.2f}" == f"{100 * best:.2f}"
    return Cell(f"{100 * ours.mean:.2f} ± {100 * ours.half_width:.2f}", paper, is_best)


def _difference_cells(row: Row) -> tuple[Cell, ...]:
    return tuple(_difference_cell(row, column) for column in row.block.columns)


def _difference_cell(row: Row, column: str) -> Cell:
    one = row.differences.get(column)
    if one is None:
        return Cell("pending" if row.status == "pending" else NOT_APPLICABLE)
    p = "p < 0.0001" if one.ours.p_value < 1e-4 else f"p {one.ours.p_value:.2g}"
    verdict = f", {one.verdict}" if one.verdict else ""
    ours = f"{100 * one.ours.mean:+.2f} ± {100 * one.ours.half_width:.2f}, {p}{verdict}"
    return Cell(ours, "" if one.paper is None else f"{one.paper:+.2f}")


def write(table: Table, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.md, .csv, .tex and .json, each whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = grid(table)
    texts = {"md": markdown(shown), "csv": to_csv(table), "tex": latex(shown, stem)}
    paths = [folder / f"{stem}.{suffix}" for suffix in (*texts, "json")]
    for path, text in zip(paths, texts.values(), strict=False):
        write_text(path, text)
    write_json(paths[-1], to_json(table))
    return paths
