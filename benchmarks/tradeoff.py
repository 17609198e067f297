"""Recommendation against search: what each model of both tasks reaches alone and together, as a figure."""

import csv
import io
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from itertools import cycle
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.tables import Row, Table
from synergen.contract import Task
from synergen.evaluation.intervals import Interval
from synergen.files import write_text
from synergen.plot_style import GREY, MARKS, ONE_COLUMN, STYLE, plain, save

METRIC = "N@10"
ALONE, TOGETHER = "alone", "together"


@dataclass(frozen=True)
class Point:
    """A model trained one way; without one of the tasks where it serves the other only."""

    model: str
    training: str
    recommendation: Interval | None
    search: Interval | None


def points(table: Table) -> list[Point]:
    """Two points of a model that the table has trained for both tasks and for each alone, one of those of one task."""
    reached: dict[tuple[str, str], dict[str, Interval]] = {}
    for row in _measured(table):
        assert row.method.model is not None
        assert row.block.task is not None
        way = TOGETHER if row.method.task == "joint" else ALONE
        reached.setdefault((row.method.model, way), {})[row.block.task] = row.metrics[METRIC]
    both = {model for model, way in reached if way == TOGETHER}
    found = []
    for (model, way), values in reached.items():
        if model not in both or all(len(reached.get((model, one), {})) == 2 for one in (ALONE, TOGETHER)):
            found.append(Point(model, way, values.get(Task.RECOMMENDATION), values.get(Task.SEARCH)))
    return found


def _measured(table: Table) -> Iterator[Row]:
    for row in table.rows:
        if METRIC in row.metrics and row.method.model is not None and not row.method.settings:
            yield row


def plot_tradeoff(table: Table, path: Path) -> list[Path]:
    """Write the figure as PNG, PDF and CSV; nothing where no model has been trained both ways.

    Raises:
        UserError: the folder cannot be written.
    """
    drawn = points(table)
    joint = [point.model for point in drawn if point.training == TOGETHER]
    if not any(point.model in joint and point.training == ALONE for point in drawn):
        return []
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(ONE_COLUMN, 3.4), layout="constrained")
        axes = figure.subplots()
        marks = cycle(MARKS)
        for model in joint:
            ends = [next(p for p in drawn if (p.model, p.training) == (model, way)) for way in (ALONE, TOGETHER)]
            _line(axes, model, ends, *next(marks))
        for point in drawn:
            if point.model not in joint:
                _edge(axes, point)
        axes.set(title=f"Trained alone (open) and together (filled)\n{table.dataset}")
        axes.set(xlabel=f"recommendation {METRIC} [%]", ylabel=f"search {METRIC} [%]")
        plain(axes)
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        written = save(figure, path)
    data = path.with_suffix(".csv")
    write_text(data, _csv(drawn))
    return [*written, data]


def _line(axes: Axes, model: str, ends: list[Point], colour: str, marker: str) -> None:
    at = [(point.recommendation, point.search) for point in ends]
    x = [100 * one.mean for one, _ in at if one]
    y = [100 * one.mean for _, one in at if one]
    axes.plot(x, y, color=colour, linewidth=1)
    for point, across, up in zip(ends, x, y, strict=True):
        assert point.recommendation
        assert point.search
        axes.errorbar(
            across,
            up,
            xerr=100 * point.recommendation.half_width,
            yerr=100 * point.search.half_width,
            color=colour,
            elinewidth=0.6,
            marker=marker,
            markersize=5,
            markerfacecolor=colour if point.training == TOGETHER else "white",
            label=model if point.training == TOGETHER else None,
        )


def _edge(axes: Axes, point: Point) -> None:
    """A model of one task is a line across the other."""
    draw, value = (axes.axvline, point.recommendation) if point.recommendation else (axes.axhline, point.search)
    assert value is not None
    style = "dashed" if point.recommendation else "dotted"
    draw(100 * value.mean, color=GREY, linewidth=0.8, linestyle=style, label=point.model)


def _csv(drawn: list[Point]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = [f"{task}_{name}" for task in ("recommendation", "search") for name in ("mean", "low", "high")]
    writer.writerow(["model", "training", *columns])
    for point in drawn:
        cells = [astuple(one)[:3] if one else ("",) * 3 for one in (point.recommendation, point.search)]
        writer.writerow([point.model, point.training, *cells[0], *cells[1]])
    return out.getvalue()
