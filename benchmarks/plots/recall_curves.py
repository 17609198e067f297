"""Recall at every depth, from stored ranks."""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import below_lines
from benchmarks.plots.material import Material
from synergen.errors import UserError
from synergen.evaluation.cases import cases
from synergen.plot_style import TWO_COLUMNS, Mark, plain
from synergen.runs import Ranks

DEPTHS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500)

_SCHEMA = {"panel": pl.String, "method": pl.String, "seeds": pl.Int64, "k": pl.Int64, "recall": pl.Float64}


def data(material: Material) -> Iterator[Part]:
    """Mean recall over questions and seeds, a fraction, by block, method and depth, up to the largest rank of a block.

    Raises:
        UserError: nothing of the table is on record.
    """
    table, rows = material.table, []
    for block in table.spec.blocks:
        found = {row.method.method: material.ranks(row, material.main_column(block)) for row in material.rows(block)}
        last = max((largest(one) for ranks in found.values() for one in ranks), default=0)
        for method, ranks in found.items():
            for k in [k for k in DEPTHS if k <= last]:
                recall = float(np.mean([np.nanmean(cases(one, f"R@{k}")) for one in ranks]))
                rows.append((block.name or str(block.task), method, len(ranks), k, recall))
    if not rows:
        raise UserError("no ranks of this table are on record")
    yield "", pl.DataFrame(rows, _SCHEMA, orient="row")


def largest(ranks: Ranks) -> float:
    """The largest rank of a run."""
    return float(np.nanmax(ranks if isinstance(ranks, np.ndarray) else ranks.ranks))


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a block, a line a method."""
    names = numbers["panel"].unique(maintain_order=True).to_list()
    methods = [name for name in marks if name in set(numbers["method"])]
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(TWO_COLUMNS, 0.8 + 2.7 * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, name in zip(panels, names, strict=False):
        panel = numbers.filter(pl.col("panel") == name)
        for method in methods:
            one, mark = panel.filter(pl.col("method") == method), marks[method]
            if len(one):
                look = mark.points | {"linestyle": mark.line, "markersize": 3.5, "markevery": 2}
                axes.plot(one["k"], 100 * one["recall"], linewidth=0.9, **look)
        axes.set(title=name if len(names) > 1 else "", xlabel="k", ylabel="recall@k [%]", xscale="log", ylim=(0, None))
        ticks = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500) if k <= max(panel["k"])]
        axes.set_xticks(ticks, list(map(str, ticks)))
        axes.minorticks_off()
        plain(axes)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    figure.suptitle(f"{title}: recall by depth", fontsize=9)
    below_lines(figure, {name: marks[name] for name in methods})
    return figure


PLOT = Plot("recall@k from stored ranks", data, draw)
