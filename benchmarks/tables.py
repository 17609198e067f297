"""From finished runs to a table: a pure function of their records and ranks."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.formats import NOT_APPLICABLE, Cell, Columns, Grid, Line, latex, markdown
from benchmarks.spec import Block, Printed, RowSpec, Spec, load_spec
from synergen.errors import UserError, unknown_name
from synergen.evaluation.intervals import Interval, interval
from synergen.evaluation.metrics import metric_values
from synergen.files import write_json, write_text
from synergen.runs import Run

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


@dataclass(frozen=True)
class Table:
    """A table with everything that is printed of it. Rows are ordered by method, then by block."""

    spec: Spec
    dataset: str | None
    protocol: Mapping[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    def best(self, block: Block, column: str) -> float | None:
        """The highest of our means in a column, None where nothing is done."""
        rows = (row for row in self.rows if row.block == block and row.status == "done")
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
    rows = tuple(
        _row(spec, row, block, runs.get(row.method, ()), registry_tasks, protocol)
        for row in spec.rows
        for block in spec.blocks
    )
    return Table(spec, dataset, protocol, rows, tuple(_notes(spec, dataset, protocol, rows, every, registry_tasks)))


def _check_method(row: RowSpec, runs: Sequence[Run]) -> None:
    for run in runs:
        if run.record["model"] != row.model:
            raise UserError(
                f"run {run.record['id']} is of model {run.record['model']}, but row '{row.method}' is of {row.model}; "
                "give the run to the row of its model"
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
    registry_tasks: Mapping[str, frozenset[str]],
    protocol: Mapping[str, Any],
) -> Row:
    paper = spec.paper(row, block)
    if block.task is None:
        return Row(row, block, "done" if row.model in registry_tasks else "pending", 0, {}, paper, ())
    served = row.tasks & registry_tasks.get(row.model or "", row.tasks)
    if block.task not in served:
        return Row(row, block, "not applicable", 0, {}, paper, ())
    found: dict[str, np.ndarray] = {}
    for run in sorted(runs, key=lambda run: run.record["seed"]):
        ranks = run.ranks.get((block.task, protocol["candidates"]))
        if ranks is not None:
            found[run.record["id"]] = ranks
    if not found:
        return Row(row, block, "pending", 0, {}, paper, ())
    metrics = {name: interval([metric_values(ranks, name) for ranks in found.values()]) for name in block.columns}
    return Row(row, block, "done", len(found), metrics, paper, tuple(found))


def _notes(
    spec: Spec,
    dataset: str | None,
    protocol: Mapping[str, Any],
    rows: Sequence[Row],
    runs: Sequence[Run],
    registry_tasks: Mapping[str, frozenset[str]],
) -> Iterable[str]:
    """What a reader must know to judge the numbers, a line each."""
    if protocol:
        yield _protocol_line(protocol, sorted({row.seeds for row in rows if row.status == "done"}))
    if runs:
        data = runs[0].record["data"]
        scale = next((run.record["scale"] for run in runs if run.record["scale"]), "none")
        yield (
            f"Data: {dataset}, {data['users']:,} users, {data['items']:,} items, {data['events']:,} events, "
            f"sha256 {data['hash'][:12]}. Scale of models and training: {scale}."
        )
        statistics = data.get("statistics", {})
        if protocol["search_share"] and "query rule" in statistics:
            yield (
                f"Queries: {statistics['query rule']}; {100 * statistics['items without a query']:.1f} % of items have "
                f"none, {100 * statistics['test users asked by search']:.1f} % of users are asked by search."
            )
    if not spec.qualitative and dataset != spec.paper_dataset:
        yield (
            f"Data set is {dataset}, not the paper's {spec.paper_dataset}: levels are not comparable; the paper's "
            "numbers are printed for orientation."
        )
    yield from _audit_lines(runs)
    if cut := _cut_short(rows, runs):
        yield f"Training not ended by early stopping, so perhaps too short: {', '.join(cut)}."
    if not spec.qualitative:
        pending = {row.method.method: row.method.model for row in rows if row.status == "pending"}
        missing = [method for method, model in pending.items() if model not in registry_tasks]
        waiting = [method for method, model in pending.items() if model in registry_tasks]
        if missing:
            yield f"Pending, model not in the registry: {', '.join(missing)}."
        if waiting:
            yield f"Pending, no finished run: {', '.join(waiting)}."
    yield from spec.remarks


def _protocol_line(protocol: Mapping[str, Any], seeds: Sequence[int]) -> str:
    if protocol["candidates"] == "full":
        candidates = "all items are candidates, those seen by the user before removed"
    else:
        candidates = (
            f"candidates are the positive and {protocol['negatives']} items drawn uniformly from those that the user "
            "never touched, the same for every model"
        )
    kept = "unfiltered" if protocol["filter"] == "none" else f"{protocol['filter']} filter of {protocol['min_count']}"
    line = (
        f"Protocol: {protocol['split']} split ({kept}); histories of up to {protocol['max_history']} events; "
        f"{candidates}; early stopping on validation {protocol['validation']}, the test events read once, after it; "
        "rank = 1 + #better + ½·#ties"
    )
    line += f"; text by the frozen encoder {protocol['encoder']}"
    if share := protocol["search_share"]:
        line += f"; {100 * share:.0f} % of events drawn as searches where the log has no queries of its own"
    if not seeds:
        return f"{line}."
    counts = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
    line += f"; seeds: {counts}; ± is the half-width of a 95 % interval"
    if seeds[-1] == 1:
        return f"{line} over users (1.96 standard errors) and not over seeds, of which there is one."
    line += " over users (1.96 standard errors) and seeds (t interval), the root of the sum of their squares"
    return f"{line}; over users only where a row has one seed." if seeds[0] == 1 else f"{line}."


def _audit_lines(runs: Sequence[Run]) -> Iterable[str]:
    """The leak audit, numbers as means over seeds: pools differ from seed to seed."""
    by_label: dict[str, dict[int, Any]] = {}
    for run in runs:
        for label, value in run.record["data"].get("audit", {}).items():
            by_label.setdefault(label, {})[run.record["seed"]] = value
    for label, by_seed in by_label.items():
        values = list(by_seed.values())
        numeric = all(isinstance(value, int | float) for value in values)
        yield f"{label}: {f'{np.mean(values):.4g}' if numeric else values[0]}"


def _cut_short(rows: Sequence[Row], runs: Sequence[Run]) -> list[str]:
    """Methods with trained runs that something other than early stopping ended."""
    ends = {run.record["id"]: run.record["training"] for run in runs}
    cut: dict[str, set[str]] = {}
    for row in rows:
        for training in (ends[run_id] for run_id in row.runs):
            if "epochs" in training and training["stopped"] != "early stopping":
                cut.setdefault(row.method.method, set()).add(training["stopped"])
    return [f"{method} ({', '.join(sorted(reasons))})" for method, reasons in cut.items()]


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
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def to_csv(table: Table) -> str:
    """One line a method, block and column; ours as fractions, the paper's in percent as printed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
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
                ]
            )
    return out.getvalue()


def grid(table: Table) -> Grid:
    """The table as texts: ours as mean ± half-width in percent."""
    spec = table.spec
    moved = f" (run on {table.dataset})" if table.dataset != spec.paper_dataset else ""
    extra = ("In this benchmark",) if spec.qualitative else ()
    lines = []
    for method in spec.rows:
        rows = [row for row in table.rows if row.method == method]
        lines.append(Line(method.method, method.group, tuple(_cells(table, row) for row in rows)))
    legend = (
        f"Percent: ours ± half-width, then the paper's; the best of ours is bold; {NOT_APPLICABLE}: not applicable."
    )
    return Grid(
        name=f"Table {spec.number}",
        title=f"{spec.title}{moved}",
        heading=spec.heading,
        legend="" if spec.qualitative else legend,
        columns=tuple(Columns(block.name, (*block.columns, *extra)) for block in spec.blocks),
        lines=tuple(lines),
        notes=table.notes,
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
    if row.status == "pending":
        return Cell("pending", paper)
    ours, best = row.metrics[column], table.best(row.block, column)
    # Means that print alike are marked alike.
    is_best = best is not None and f"{100 * ours.mean:.2f}" == f"{100 * best:.2f}"
    return Cell(f"{100 * ours.mean:.2f} ± {100 * ours.half_width:.2f}", paper, is_best)


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
