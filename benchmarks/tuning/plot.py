"""The picture of a search: what each trial reached, and which values matter."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from benchmarks.tuning.study import BY_HAND
from synergen.files import write_atomically

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_STYLE: dict[Any, Any] = {"font.size": 8, "axes.titlesize": 9, "axes.linewidth": 0.6, "axes.edgecolor": _GREY}


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


def _history(axes: Axes, trials: list[FrozenTrial]) -> None:
    number = {trial.number: at for at, trial in enumerate(trials, start=1)}
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in trials if trial.state == TrialState.PRUNED]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]

    def dots(chosen: list[FrozenTrial], **style: Any) -> None:
        if chosen:
            axes.plot([number[one.number] for one in chosen], [one.value or 0.0 for one in chosen], "o", **style)

    reached = np.maximum.accumulate([trial.value or 0.0 for trial in complete])
    ends = [*(number[trial.number] for trial in complete), len(trials)]
    axes.step(ends, [*reached, reached[-1]], where="post", color=_ORANGE, linewidth=1.2, label="best so far")
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
