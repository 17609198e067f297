"""Recommendation against search: what each model of both tasks reaches alone and together."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.material import Material
from benchmarks.tables import Row, Table
from synergen.contract import Task
from synergen.errors import UserError
from synergen.evaluation.intervals import Interval
from synergen.plot_style import GREY, ONE_COLUMN, Mark, plain

METRIC = "N@10"
ALONE, TOGETHER = "alone", "together"

_SCHEMA = {
    **{"model": pl.String, "training": pl.String},
    **{f"{task}_{name}": pl.Float64 for task in ("recommendation", "search") for name in ("mean", "low", "high")},
}


@dataclass(frozen=True)
class Point:
    """A model trained one way; without one of the tasks where it serves the other only."""

    model: str
    training: str
    recommendation: Interval | None
    search: Interval | None


def points(table: Table) -> list[Point]:
    """A point of a model that the table has trained for both tasks, another where it has been trained for each alone,
    too, and one of a model of one task."""
    reached: dict[tuple[str, str], dict[str, Interval]] = {}
    for row in _measured(table):
        assert row.method.model is not None
        assert row.block.task is not None
        way = TOGETHER if row.method.task == "joint" else ALONE
        reached.setdefault((row.method.model, way), {}).setdefault(row.block.task, row.metrics[METRIC])
    both = {row.model for row in table.spec.rows if row.task == "joint"}
    return [
        Point(model, way, values.get(Task.RECOMMENDATION), values.get(Task.SEARCH))
        for (model, way), values in reached.items()
        if len(values) == 2 or model not in both
    ]


def trained_both_ways(table: Table) -> bool:
    """Whether a model has been trained for both tasks and for each alone."""
    ways = [point.model for point in points(table) if point.recommendation and point.search]
    return len(set(ways)) < len(ways)


def _measured(table: Table) -> Iterator[Row]:
    for row in table.rows:
        if METRIC in row.metrics and row.method.model is not None and not row.method.settings:
            yield row


def data(material: Material) -> Iterator[Part]:
    """See `numbers_of`.

    Raises:
        UserError: the table has fewer than two points of both tasks.
    """
    drawn = points(material.table)
    if sum(one.recommendation is not None and one.search is not None for one in drawn) < 2:
        raise UserError(f"fewer than two models of this table have {METRIC} on record in both tasks")
    yield "", numbers_of(material.table)


def numbers_of(table: Table) -> pl.DataFrame:
    """A row a point, means as fractions with 95 % intervals."""
    rows = [(one.model, one.training, *_ends(one.recommendation), *_ends(one.search)) for one in points(table)]
    return pl.DataFrame(rows, _SCHEMA, orient="row")


def _ends(one: Interval | None) -> tuple[float | None, ...]:
    return astuple(one)[:3] if one else (None,) * 3


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """Models of both tasks as points, filled where trained together, open and joined by a line where trained for each
    alone, too; a model of one task is a line across the other."""
    figure = Figure(figsize=(ONE_COLUMN, 3.9), layout="constrained")
    axes = figure.subplots()
    whole = numbers.drop_nulls()
    for (name,), ends in whole.group_by("model", maintain_order=True):
        mark = marks[str(name)]
        at = (100 * ends["recommendation_mean"], 100 * ends["search_mean"])
        axes.plot(*at, color=mark.colour, linewidth=1)
        for one in ends.iter_rows(named=True):
            _point(axes, one, mark)
    for one in numbers.filter(pl.any_horizontal(pl.all().is_null())).iter_rows(named=True):
        _edge(axes, one, marks[one["model"]])
    alone = " and alone (open)" if ALONE in set(whole["training"]) else ""
    axes.set_title(f"{title}\ntrained together (filled){alone}; of one task: at the edge", fontsize=8)
    axes.set(xlabel=f"recommendation {METRIC} [%]", ylabel=f"search {METRIC} [%]")
    plain(axes)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7, handlelength=3)
    return figure


def _point(axes: Axes, one: Mapping[str, float | str], mark: Mark) -> None:
    together = one["training"] == TOGETHER
    (x, *across), (y, *up) = (
        [100 * float(one[f"{task}_{name}"]) for name in ("mean", "low", "high")]
        for task in ("recommendation", "search")
    )
    look = mark.points | {"markerfacecolor": mark.colour if together else "white"}
    axes.errorbar(
        [x],
        [y],
        xerr=[[x - across[0]], [across[1] - x]],
        yerr=[[y - up[0]], [up[1] - y]],
        elinewidth=0.6,
        markersize=5,
        linestyle="",
        label=str(one["model"]) if together else None,
        **look,
    )


def _edge(axes: Axes, one: Mapping[str, float | str | None], mark: Mark) -> None:
    """A model of one task: its mark on the axis, and a line across the other."""
    recommends = one["recommendation_mean"] is not None
    value = 100 * float(one["recommendation_mean" if recommends else "search_mean"] or 0)
    (axes.axvline if recommends else axes.axhline)(value, color=GREY, linewidth=0.5, linestyle="dotted")
    at, transform = ([value], [0.0]), axes.get_xaxis_transform()
    if not recommends:
        at, transform = ([0.0], [value]), axes.get_yaxis_transform()
    look = mark.points | {"markersize": 5, "linestyle": "", "clip_on": False, "zorder": 5}
    axes.plot(*at, transform=transform, label=str(one["model"]), **look)


PLOT = Plot("recommendation against search, of models trained for both and for each alone", data, draw)
