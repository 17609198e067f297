"""What methods reach by the popularity of the item asked for, by the length of the history, and by the time since its
last event."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import FAINT, small_multiples
from benchmarks.plots.material import Material
from benchmarks.plots.on_questions import on_questions
from benchmarks.slices import (
    GAP_EDGES,
    HISTORY_EDGES,
    POPULARITY_EDGES,
    Bin,
    Questions,
    bins,
)
from synergen.plot_style import Mark

_SCHEMA = {
    **{"by": pl.String, "metric": pl.String, "method": pl.String, "seeds": pl.Int64, "at": pl.Int64, "bin": pl.String},
    **{"questions": pl.Int64, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64},
}
_GAPS = dict(zip(GAP_EDGES, ("0", "1 s", "1 min", "1 h", "1 d", "7 d", "30 d", "1 y"), strict=True))


def _data(
    by: str, of: Callable[[Questions], list[Bin]], name: Callable[[Bin], str], material: Material
) -> Iterator[Part]:
    """By task: a row a method and bin that two users or more were asked in, means as fractions with 95 % intervals.

    Raises:
        UserError: the data set is not here or not that of the records, or its questions are requests with slates.
    """

    def cut(questions: Questions) -> dict[tuple[int, str], np.ndarray]:
        return {(at, name(one)): one.chosen for at, one in enumerate(of(questions))}

    for part, cells in on_questions(material, cut):
        rows = [
            (by, metric, method, seeds, *key, questions, value.mean, value.low, value.high)
            for metric, method, seeds, key, questions, value in cells
        ]
        yield part, pl.DataFrame(rows, _SCHEMA, orient="row")


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a method, with intervals; behind it the other methods. The questions of each bin are counted below."""
    methods = [name for name in marks if name in set(numbers["method"])]
    figure, panels = small_multiples(methods, 1.3)
    by_method = {method: numbers.filter(pl.col("method") == method) for method in methods}
    for method, axes in panels.items():
        for other in (one for name, one in by_method.items() if name != method):
            axes.plot(other["at"], 100 * other["mean"], **FAINT)
        own = by_method[method]
        means = 100 * own["mean"]
        spread = [means - 100 * own["low"], 100 * own["high"] - means]
        look: dict[str, Any] = {"color": marks[method].colour, "marker": "o", "markersize": 3, "elinewidth": 0.9}
        axes.errorbar(own["at"], means, yerr=spread, linewidth=0.9, **look)
    ticks = numbers.unique("at").sort("at")
    axes = figure.axes[0]
    axes.set_xticks(ticks["at"], ticks["bin"].to_list())
    for one in figure.axes:
        one.tick_params(axis="x", labelrotation=90)
    top = 103 * max(numbers["high"]) or 1.0
    axes.set_ylim(-0.03 * top, top)
    counts = ", ".join(f"{n:,} of {name}" for name, n in zip(ticks["bin"], ticks["questions"], strict=True))
    figure.supxlabel(f"{numbers['by'][0]}\nquestions: {counts}", fontsize=7)
    figure.supylabel(f"{numbers['metric'][0]} [%]", fontsize=8)
    figure.suptitle(f"{title}: by {numbers['by'][0]} (95 % intervals; grey: the other methods)", fontsize=9)
    return figure


def _whole(one: Bin) -> str:
    if one.low == one.high or one.high == one.low + 1:
        return f"{one.low:g}"
    return f"{one.low:g}+" if np.isinf(one.high) else f"{one.low:g}-{one.high - 1:g}"


def name_of_gap(one: Bin) -> str:
    """What a bin between `GAP_EDGES` is called."""
    if one.low == 0 and one.high == 1:
        return "0"
    return f"{_GAPS[int(one.low)]}+" if np.isinf(one.high) else f"{_GAPS[int(one.low)]}-{_GAPS[int(one.high)]}"


def _popularity(questions: Questions) -> list[Bin]:
    return bins(questions.popularity, POPULARITY_EDGES, alone=0)


def _history(questions: Questions) -> list[Bin]:
    return bins(questions.history, HISTORY_EDGES)


def _gaps(questions: Questions) -> list[Bin]:
    return bins(questions.gap, GAP_EDGES)


BY_POPULARITY = Plot(
    "by training events of the item asked for, never trained ones apart",
    partial(_data, "training events of the item", _popularity, _whole),
    draw,
)
BY_HISTORY = Plot("by events of the user before", partial(_data, "events before the question", _history, _whole), draw)
BY_GAP = Plot(
    "by the time since the user's last event", partial(_data, "time since the last event", _gaps, name_of_gap), draw
)
