"""Validation while models train, against positions seen and against seconds."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from matplotlib.figure import Figure

from benchmarks.evaluator import validation_metric
from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import FAINT, logarithmic, small_multiples
from benchmarks.plots.material import Material
from synergen.contract import Task
from synergen.errors import UserError
from synergen.plot_style import Mark
from synergen.runs import Run

_ACROSS = {"positions": "positions trained on", "seconds": "seconds by the clock, with validation"}
_SCHEMA = {
    **{"method": pl.String, "seed": pl.Int64, "epoch": pl.Int64, "x": pl.String, "at": pl.Float64},
    **{"metric": pl.String, "value": pl.Float64, "kept": pl.Boolean},
}


def data(material: Material) -> Iterator[Part]:
    """By task, once against positions (targets trained on) and once against seconds: a row an epoch that was validated,
    `value` a fraction, and whether its weights are those that were tested (of two tasks, the mean decides).

    Raises:
        UserError: no run on record was trained by epochs.
    """
    blocks = material.main_blocks()
    found = False
    for block in blocks:
        metric = validation_metric(material.table.protocol, Task(str(block.task)))
        epochs = [
            (method, run.record["seed"], at, value, at["epoch"] == run.record["training"]["best_epoch"])
            for method, runs in _once(material.runs).items()
            for run in sorted(runs, key=lambda run: run.record["seed"])
            for at in run.record["training"].get("curve", ())
            if (value := at.get(f"{metric} {block.task}")) is not None
        ]
        for across, key in (("positions", "targets"), ("seconds", "seconds")) if epochs else ():
            found = True
            named = f"{block.task} {metric}" if len(blocks) > 1 else metric
            rows = [
                (method, seed, at["epoch"], _ACROSS[across], at[key], named, value, kept)
                for method, seed, at, value, kept in epochs
            ]
            part = f"{block.task}.{across}" if len(blocks) > 1 else across
            yield part, pl.DataFrame(rows, _SCHEMA, orient="row", strict=False)
    if not found:
        raise UserError("no run on record has a curve; only models that are trained by epochs have one")


def _once(runs: Mapping[str, Sequence[Run]]) -> dict[str, Sequence[Run]]:
    """Without methods that are read from another head of the same runs as one before them."""
    found: dict[tuple[str, ...], str] = {}
    for method, own in runs.items():
        found.setdefault(tuple(run.record["id"] for run in own), method)
    return {method: runs[method] for method in found.values()}


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a method: a line a seed, a marker at the epoch that was tested; behind them the others' first seeds."""
    methods = numbers["method"].unique(maintain_order=True).to_list()
    figure, panels = small_multiples(methods, 1.35)
    firsts = {m: _curves(numbers.filter(pl.col("method") == m))[0] for m in methods}
    for method, axes in panels.items():
        for other, curve in firsts.items():
            if other != method:
                axes.plot(curve["at"], 100 * curve["value"], **FAINT)
        for curve in _curves(numbers.filter(pl.col("method") == method)):
            tested = curve["kept"].arg_true().to_list()
            look = marks[method].points | {"marker": "o", "markeredgecolor": "black", "markerfacecolor": "black"}
            axes.plot(curve["at"], 100 * curve["value"], linewidth=0.9, markersize=3, markevery=tested, **look)
    logarithmic(next(iter(panels.values())).xaxis, most=3)
    figure.supxlabel(numbers["x"][0], fontsize=8)
    figure.supylabel(f"validation {numbers['metric'][0]} [%]", fontsize=8)
    figure.suptitle(f"{title}: a line a seed, the epoch that was tested is marked; grey: the other methods", fontsize=9)
    return figure


def _curves(of_method: pl.DataFrame) -> list[pl.DataFrame]:
    return of_method.partition_by("seed", maintain_order=True)


PLOT = Plot("validation against positions seen and seconds", data, draw)
