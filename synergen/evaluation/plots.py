"""How well probabilities are calibrated, as a figure."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from synergen.evaluation.calibration import Reliability
from synergen.plot_style import GREY, MARKS, ONE_COLUMN, plain

_LINE: dict[str, Any] = {"linewidth": 1, "markersize": 4, "markeredgecolor": "white", "markeredgewidth": 0.4}


def reliability_figure(curves: Mapping[str, Reliability], title: str, *, log: bool = False) -> Figure:
    """Observed against predicted probabilities with 95 % intervals, and below how the predictions are spread.

    Args:
        curves: by name, in the order of the legend, which gives each curve's expected calibration error.
        log: both axes logarithmic, for small probabilities; a bin without a click is then drawn as its interval alone.
    """
    low, high = _limits(list(curves.values()), log)
    cells = np.geomspace(low, high, 41) if log else np.linspace(low, high, 41)
    figure = Figure(figsize=(ONE_COLUMN, 4.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot((low, high), (low, high), color=GREY, linewidth=0.8, dashes=(5, 3), label="perfect")
    for (name, curve), (colour, marker) in zip(curves.items(), cycle(MARKS), strict=False):
        ends = np.maximum(curve.low, low), curve.high
        above.vlines(curve.predicted, *ends, color=colour, linewidth=0.8, alpha=0.6)
        observed = np.where(np.array(curve.observed) >= low, curve.observed, np.nan)
        label = f"{name} (ECE {curve.error:.2g})"
        above.plot(curve.predicted, observed, color=colour, marker=marker, label=label, **_LINE)
        shares = np.diff(np.interp(cells, curve.quantiles, np.linspace(0, 1, len(curve.quantiles))))
        below.stairs(shares, cells, fill=True, color=colour, alpha=0.2)
        below.stairs(shares, cells, color=colour, linewidth=0.9)
    scale = "log" if log else "linear"
    above.set(title=title, ylabel="observed frequency", xscale=scale, yscale=scale)
    above.set(xlim=(low, high), ylim=(low, high))
    below.set(xlabel="predicted probability", ylabel="predictions", ylim=(0, None))
    below.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (above, below):
        plain(axes)
    figure.align_ylabels()
    figure.legend(loc="outside lower center", ncols=1, frameon=False)
    return figure


def _limits(curves: Sequence[Reliability], log: bool) -> tuple[float, float]:
    """Ends of both axes: every bin and, where they are not 0, both ends of its interval."""
    drawn = np.concatenate([(*curve.predicted, *curve.low, *curve.high) for curve in curves])
    if not log:
        return 0.0, min(1.0, 1.05 * float(drawn.max()))
    return 0.8 * float(drawn[drawn > 0].min()), min(1.0, 1.25 * float(drawn.max()))
