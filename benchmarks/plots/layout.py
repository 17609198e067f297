"""What figures of many methods share: legends, grids of panels, logarithmic axes."""

import math
from collections.abc import Iterable, Mapping
from textwrap import fill
from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from synergen.plot_style import ONE_COLUMN, TWO_COLUMNS, Mark, plain

FAINT: dict[str, Any] = {"color": "#d5d5d5", "linewidth": 0.6, "zorder": 1}
"""Of lines that stand behind the one that a panel is about."""


def below_lines(figure: Figure, marks: Mapping[str, Mark]) -> None:
    """A legend of lines with their markers, under the figure."""
    handles = [
        Line2D([], [], linestyle=mark.line, label=name, markersize=4, **mark.points) for name, mark in marks.items()
    ]
    below(figure, handles, handlelength=3)


def below(figure: Figure, handles: list[Line2D], **style: Any) -> None:
    """A legend under the figure, in as many columns as its labels let in."""
    longest = max(len(str(one.get_label())) for one in handles)
    columns = max(1, min(5, len(handles), 140 // (longest + 8)))
    figure.legend(handles=handles, loc="outside lower center", frameon=False, fontsize=7, ncols=columns, **style)


def small_multiples(names: Iterable[str], height: float) -> tuple[Figure, dict[str, Axes]]:
    """A panel of `height` inches a name, with common axes, labelled below each column."""
    titles = list(names)
    rows = -(-len(titles) // 5)
    columns = -(-len(titles) // rows)
    width = TWO_COLUMNS if columns > 2 else columns * ONE_COLUMN
    figure = Figure(figsize=(width, 0.9 + height * rows), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    panels = dict(zip(titles, every, strict=False))
    for axes in every:
        axes.tick_params(labelsize=7)
    for title, axes in panels.items():
        axes.set_title(fill(title, 120 // columns), fontsize=7.5, pad=2)
        plain(axes)
    for axes in every[len(titles) :]:  # nothing but the labels of the column
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
    return figure, panels


def logarithmic(axis: Axis, most: int = 7) -> None:
    """Make the axis of what has been drawn logarithmic, with `most` labels at most, such as 20, 5 k, 1 M."""
    axis._set_axes_scale("log")  # type: ignore[attr-defined]
    low, high = axis.get_view_interval()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        every = (step * 10.0**decade for decade in decades for step in steps)
        ticks = [tick for tick in every if 0.999 * low <= tick <= 1.001 * high]
        if len(ticks) <= most:
            break
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def short(value: float) -> str:
    """Of 20, 5000 and 1500000: 20, 5 k, 1.5 M."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
