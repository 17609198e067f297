"""The pictures of a search: what each trial reached, which values matter, and how the metric depends on them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, LogLocator, MaxNLocator, NullFormatter
from matplotlib.tri import Triangulation
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from benchmarks.tuning.study import BY_HAND, Search, reached, values_of
from synergen.files import write_atomically

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_STYLE: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 9, "axes.linewidth": 0.6, "axes.edgecolor": _GREY}

_MARKS: dict[str, dict[str, Any]] = {
    "settings by hand": {"color": "black", "markersize": 6},
    "other trials": {"color": _BLUE, "markersize": 5},
    "pruned": {"color": "white", "markeredgecolor": _GREY, "markersize": 4},
}


def plot_search(
    path: Path, trials: list[FrozenTrial], shares: Mapping[str, float] | None, metric: str, title: str
) -> None:
    """Left the metric of each trial with the best so far, right the importance of each place; as PNG.

    Args:
        shares: see `benchmarks.tuning.findings.importances`.

    Raises:
        UserError: the folder cannot be written.
    """
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 3.0), layout="constrained")  # inches: two columns of a paper
        left, right = figure.subplots(1, 2, width_ratios=(3, 2))
        _history(left, trials)
        left.set(title=title, xlabel="trial", ylabel=f"validation {metric}")
        _bars(right, shares or {})
        right.set_title("importance (fANOVA)")
        for axes in (left, right):
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_axisbelow(True)
        figure.legend(loc="outside lower center", ncols=5, frameon=False)
        write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=200))


def plot_slices(path: Path, trials: list[FrozenTrial], search: Search, metric: str) -> None:
    """The metric of the trials against each searched value, an axis a value; as PNG.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = [trial for trial in trials if trial.values]
    columns = min(3, len(search.space))
    rows = -(-len(search.space) // columns)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7.0, 2.2 * rows), layout="constrained")
        for axes, place in zip(figure.subplots(rows, columns, squeeze=False).flat, search.space, strict=False):
            for trial in shown:
                axes.plot([values_of(trial)[place]], [reached(trial)], "o", **_mark(trial))
            axes.set(xlabel=place.partition(".")[2], ylabel=f"validation {metric}")
            _scale(axes.xaxis, search.space[place])
        for axes in list(figure.axes)[len(search.space) :]:
            axes.set_axis_off()
        _finish(figure, path)


def plot_contour(path: Path, trials: list[FrozenTrial], search: Search, places: tuple[str, str], metric: str) -> None:
    """The metric over two searched numbers, interpolated between the trials; as PNG.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = [trial for trial in trials if trial.values]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 3.0), layout="constrained")
        axes = figure.subplots()
        x, y = (np.array([values_of(trial)[place] for trial in shown]) for place in places)
        straight = (np.log(v) if _is_log(search.space[place]) else v for v, place in zip((x, y), places, strict=True))
        between = Triangulation(x, y, Triangulation(*straight).triangles)
        drawn = axes.tricontourf(between, [reached(trial) for trial in shown], levels=10, cmap="cividis")
        for axis, place in zip((axes.xaxis, axes.yaxis), places, strict=True):
            _scale(axis, search.space[place])
        figure.colorbar(drawn, label=f"validation {metric}")
        for trial, at, height in zip(shown, x, y, strict=True):
            axes.plot([at], [height], "o", clip_on=False, **_mark(trial))
        axes.set(xlabel=places[0].partition(".")[2], ylabel=places[1].partition(".")[2])
        _finish(figure, path)


def plot_pareto(path: Path, trials: list[FrozenTrial], names: tuple[str, ...], title: str) -> None:
    """Both metrics of each trial, and the front of those that no other beats in both; as PNG.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = [trial for trial in trials if trial.values and len(trial.values) == len(names)]
    front = sorted(pareto_front(shown), key=lambda trial: trial.values)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 3.0), layout="constrained")
        axes = figure.subplots()
        axes.step(*zip(*(trial.values for trial in front), strict=True), where="pre", color=_ORANGE, linewidth=1.2)
        for trial in shown:
            axes.plot(*([value] for value in trial.values), "o", **_mark(trial))
        axes.set(title=title, xlabel=f"validation {names[0]}", ylabel=f"validation {names[1]}")
        _finish(figure, path)


def pareto_front(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Those of which no other is at least as good in all metrics and better in one."""

    def beaten(one: FrozenTrial) -> bool:
        return any(
            other.values != one.values and all(a >= b for a, b in zip(other.values, one.values, strict=True))
            for other in trials
        )

    return [trial for trial in trials if not beaten(trial)]


def _is_log(one: BaseDistribution) -> bool:
    return bool(getattr(one, "log", False))


def _scale(axis: Axis, one: BaseDistribution) -> None:
    if _is_log(one):
        axis._set_axes_scale("log")  # type: ignore[attr-defined]
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())


def _mark(trial: FrozenTrial) -> dict[str, Any]:
    if BY_HAND in trial.user_attrs:
        return _MARKS["settings by hand"]
    return _MARKS["pruned" if trial.state == TrialState.PRUNED else "other trials"]


def _finish(figure: Figure, path: Path) -> None:
    handles = [Line2D([], [], marker="o", linestyle="", label=label, **style) for label, style in _MARKS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=200))


def _history(axes: Axes, trials: list[FrozenTrial]) -> None:
    number = {trial.number: at for at, trial in enumerate(trials, start=1)}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]

    def dots(chosen: list[FrozenTrial], **style: Any) -> None:
        if chosen:
            axes.plot([number[one.number] for one in chosen], [reached(one) for one in chosen], "o", **style)

    best = np.maximum.accumulate([reached(trial) for trial in complete])
    ends = [*(number[trial.number] for trial in complete), len(trials)]
    axes.step(ends, [*best, best[-1]], where="post", color=_ORANGE, linewidth=1.2, label="best so far")
    dots(pruned, color="white", markeredgecolor=_GREY, markersize=4, label="pruned, at its last epoch")
    dots(
        [one for one in complete if BY_HAND not in one.user_attrs],
        color=_BLUE,
        markersize=5,
        label="trained to its end",
    )
    dots([one for one in complete if BY_HAND in one.user_attrs], color="black", markersize=6, label="settings by hand")
    if failed:
        low = axes.get_ylim()[0]
        axes.plot([number[one.number] for one in failed], [low] * len(failed), "x", color=_GREY, label="failed")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(0.5, len(trials) + 0.5)
    axes.grid(color="#e6e6e6", linewidth=0.5)


def _bars(axes: Axes, shares: Mapping[str, float]) -> None:
    if not shares:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "needs more finished trials\nthan searched values", ha="center", va="center", color=_GREY)
        return
    names = [place.partition(".")[2] for place in shares]
    drawn = axes.barh(names, list(shares.values()), color=_BLUE, height=0.6)
    axes.bar_label(drawn, [f"{100 * share:.0f} %" for share in shares.values()], padding=3)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(shares.values()))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
