"""What a method reaches against what it costs, with the methods that no other beats in both."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

import polars as pl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.facts import facts_of, milliseconds_a_request, of_one_clock
from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import below, logarithmic
from benchmarks.plots.material import Material
from benchmarks.tables import Row
from synergen.errors import UserError
from synergen.plot_style import GREY, TWO_COLUMNS, Mark, plain

LEAST_SECONDS = 0.05
"""What stands for less: the seconds of methods that train nothing are recorded to a tenth."""

_FRONT: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "dashes": (5, 3)}
_SCHEMA = {
    **{"panel": pl.String, "metric": pl.String, "cost": pl.String, "method": pl.String, "value": pl.Float64},
    **{"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64, "pareto": pl.Boolean},
}


def data(material: Material) -> Iterator[Part]:
    """By task, cost and method: the cost's `value`, a mean over seeds, and the metric as a fraction with its interval.

    Seconds are the processor's where the record has them, else the clock's; of methods that train nothing they are what
    counting takes, and no less than `LEAST_SECONDS`. On the front (`pareto`) are methods than which no other is as
    cheap and as good, and cheaper or better.

    Raises:
        UserError: fewer than two methods have a cost on record.
    """
    rows = []
    for block in material.main_blocks():
        column = material.main_column(block)
        for axis, cost in _COSTS.items():
            found = [(row, cost(material, row, column)) for row in material.rows(block)]
            points = [(row, fmean(values)) for row, values in found if values]
            if len(points) < 2:
                continue
            front = pareto([(value, row.metrics[column].mean) for row, value in points])
            for (row, value), best in zip(points, front, strict=True):
                one = row.metrics[column]
                task = str(block.task)
                rows.append((task, column, axis, row.method.method, value, one.mean, one.low, one.high, best))
    if not rows:
        raise UserError("fewer than two methods have a cost on record")
    yield "", pl.DataFrame(rows, _SCHEMA, orient="row")


def _seconds(material: Material, row: Row, column: str) -> list[float]:
    runs = material.runs_of(row)
    known = facts_of(["Seconds"], runs)
    return [float(known["Seconds"])] if known else [max(LEAST_SECONDS, run.record["seconds"]) for run in runs]


def _parameters(material: Material, row: Row, column: str) -> list[float]:
    counts = [sum(run.record["parameters"].values()) for run in material.runs_of(row)]
    return [count for count in counts if count]  # a logarithmic axis has no 0


def _milliseconds(material: Material, row: Row, column: str) -> list[float]:
    """Of the processor, for a question of the task among the candidates of the column."""
    task, name = str(row.block.task), material.reading(row, column)[0]
    runs = material.runs_of(row)
    known = (milliseconds_a_request(run, task, name) for run in of_one_clock(runs) or runs)
    return [value for value in known if value is not None]


_COSTS = {
    "seconds of training": _seconds,
    "parameters": _parameters,
    "milliseconds a request": _milliseconds,
}


def pareto(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (cost, quality), those that no other beats: as cheap and as good, and cheaper or better."""
    return [not any(other != own and other[0] <= own[0] and other[1] >= own[1] for other in points) for own in points]


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A row of panels a task, a panel a cost."""
    tasks = numbers["panel"].unique(maintain_order=True).to_list()
    costs = numbers["cost"].unique(maintain_order=True).to_list()
    methods = [name for name in marks if name in set(numbers["method"])]
    figure = Figure(figsize=(TWO_COLUMNS, 0.9 + 2.4 * len(tasks)), layout="constrained")
    grid = figure.subplots(len(tasks), len(costs), squeeze=False, sharey="row")
    for line, task in zip(grid, tasks, strict=True):
        for axes, cost in zip(line, costs, strict=True):
            panel = numbers.filter((pl.col("panel") == task) & (pl.col("cost") == cost)).sort("value", "mean")
            if not len(panel):
                axes.set_axis_off()
                continue
            front = panel.filter("pareto")
            axes.step(front["value"], 100 * front["mean"], where="post", zorder=1, **_FRONT)
            for one in panel.iter_rows(named=True):
                spread = [[100 * (one["mean"] - one["low"])], [100 * (one["high"] - one["mean"])]]
                axes.errorbar(
                    [one["value"]],
                    [100 * one["mean"]],
                    yerr=spread,
                    elinewidth=0.5,
                    markersize=6 if one["pareto"] else 4,
                    **marks[one["method"]].points,
                )
            axes.set_xlabel(cost)
            logarithmic(axes.xaxis, most=4)
            plain(axes)
        line[0].set_ylabel(f"{task} {numbers.filter(pl.col('panel') == task)['metric'][0]} [%]")
    figure.suptitle(f"{title}: quality against cost", fontsize=9)
    handles = [Line2D([], [], linestyle="", label=name, markersize=4, **marks[name].points) for name in methods]
    handles.append(Line2D([], [], **_FRONT, label="front (larger points)"))
    below(figure, handles)
    return figure


PLOT = Plot("quality against seconds, parameters and milliseconds a request", data, draw)
