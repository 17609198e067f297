"""From a table to its texts: rounded, in the order in which they are shown."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.facts import FACTS
from benchmarks.formats import NOT_APPLICABLE, Cell, Columns, Grid, Line, Panel
from benchmarks.tables import Block, Row, RowSpec, Table, is_compared, readings_of


def grid(table: Table) -> Grid:
    """The table as texts: ours as mean ± half-width in percent, costs as means."""
    spec = table.spec
    moved = f" (run on {table.dataset})" if table.dataset != spec.paper_dataset else ""
    paper = ", then the paper's" if spec.published else ""
    has_costs = bool(spec.appendix) or any(block.costs for block in spec.blocks)
    costs = "; costs are means over seeds" if has_costs else ""
    marks = "the best of ours is bold, the second underlined, † where it is significantly better than the best other"
    legend = f"Percent: ours ± half-width{paper}; {marks}{costs}; {NOT_APPLICABLE}: not applicable."
    return Grid(
        name=f"Table {spec.number}",
        title=f"{spec.title}{moved}",
        heading=spec.heading,
        legend="" if spec.qualitative else legend,
        panels=(
            _levels(table),
            *((_differences(table),) if spec.compared_with else ()),
            *((_appendix(table),) if spec.appendix else ()),
        ),
        notes=table.notes,
    )


def _levels(table: Table) -> Panel:
    """What is reached, by method."""
    spec = table.spec
    extra = ("In this benchmark",) if spec.qualitative else ()
    columns = tuple(Columns(block.name, (*block.columns, *block.costs, *extra)) for block in spec.blocks)
    return Panel(columns, _lines(table, spec.rows, lambda row: _cells(table, row), spec.states), states=spec.states)


def _differences(table: Table) -> Panel:
    """How the methods differ from the one that the table compares with."""
    spec = table.spec
    assert spec.compared_with is not None
    base = f"{spec.compared_with[0].lower()}{spec.compared_with[1:]}"
    return Panel(
        tuple(Columns(block.name, block.columns) for block in spec.blocks),
        _lines(table, [row for row in spec.rows if is_compared(row, spec)], _difference_cells),
        f"Difference to the {base}, points; does the sign agree with the paper",
    )


def _appendix(table: Table) -> Panel:
    """What the methods cost."""
    facts = table.spec.appendix
    lines = _lines(table, table.spec.rows, lambda row: (), facts)
    return Panel(
        (Columns(None, facts),), tuple(replace(line, cells=(line.states,), states=()) for line in lines), "Cost"
    )


def _lines(
    table: Table, methods: Sequence[RowSpec], cells: Callable[[Row], tuple[Cell, ...]], states: Sequence[str] = ()
) -> tuple[Line, ...]:
    lines = []
    for method in methods:
        rows = [row for row in table.rows if row.method == method]
        applying = next((row for row in rows if row.status != "not applicable"), rows[0])
        stated = tuple(_fact_cell(applying, name) for name in states)
        lines.append(Line(method.method, method.group, tuple(map(cells, rows)), stated))
    return tuple(lines)


def _cells(table: Table, row: Row) -> tuple[Cell, ...]:
    columns, costs = row.block.columns, row.block.costs
    if row.block.task is None:
        texts = (str(row.paper.get(column, "")) for column in columns)
        return (*map(Cell, texts), Cell("yes" if row.status == "done" else "no"))
    if row.status == "not applicable":
        return (Cell(NOT_APPLICABLE),) * (len(columns) + len(costs))
    return (*(_number_cell(table, row, column) for column in columns), *(_fact_cell(row, name) for name in costs))


def _fact_cell(row: Row, name: str) -> Cell:
    paper = str(row.paper.get(name, ""))
    if name not in row.facts:
        return Cell("" if row.status == "pending" else NOT_APPLICABLE, paper)
    return Cell(FACTS[name].shown(row.facts[name]), paper)


def _number_cell(table: Table, row: Row, column: str) -> Cell:
    printed = row.paper.get(column)
    paper = "" if printed is None else f"{printed:.2f}"
    if column not in readings_of(row.method, row.block, table.protocol):
        return Cell(NOT_APPLICABLE)
    if column not in row.metrics:
        return Cell("pending", paper)
    ours, gain = row.metrics[column], row.gains.get(column)
    place = None if row.method.reference else _printed(table, row.block, column).index(_percent(ours.mean))
    dagger = place == 0 and gain is not None and gain.verdict == "won"
    return Cell(f"{_percent(ours.mean)} ± {_percent(ours.half_width)}", paper, place == 0, place == 1, dagger)


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _printed(table: Table, block: Block, column: str) -> list[str]:
    """What a column prints of our models, best first: means that print alike share a place."""
    rows = (row for row in table.rows if row.block == block and not row.method.reference)
    means = (row.metrics[column].mean for row in rows if column in row.metrics)
    return list(dict.fromkeys(map(_percent, sorted(means, reverse=True))))


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
