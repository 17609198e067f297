"""By how much rows differ from the one that a table compares with."""

from collections.abc import Iterator, Mapping

import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.material import Material
from synergen.errors import UserError
from synergen.plot_style import GREY, TWO_COLUMNS, Mark, plain

_SCHEMA = {
    **{"base": pl.String, "panel": pl.String, "method": pl.String},
    **dict.fromkeys(("difference", "low", "high", "p_value"), pl.Float64),
    **{"seeds": pl.Int64, "paper": pl.Float64},
}


def data(material: Material) -> Iterator[Part]:
    """Paired differences by column and method: ours as fractions with 95 % intervals, the paper's in points.

    Raises:
        UserError: the table compares its rows with none, or no two are on record.
    """
    base = material.table.spec.compared_with
    if base is None:
        raise UserError(f"table {material.table.spec.number} compares its rows with none")
    rows = [
        (
            *(base, f"{row.block.name}: {column}" if row.block.name else column, row.method.method),
            *(one.ours.mean, one.ours.low, one.ours.high, one.ours.p_value, one.ours.seeds, one.paper),
        )
        for row in material.table.rows
        for column, one in row.differences.items()
    ]
    if not rows:
        raise UserError(f"no row beside '{base}' is on record with the same seeds")
    yield "", pl.DataFrame(rows, _SCHEMA, orient="row")


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a column: our difference with its interval, the paper's as a cross."""
    panels = numbers["panel"].unique(maintain_order=True).to_list()
    methods = [name for name in marks if name in set(numbers["method"])]
    figure = Figure(figsize=(TWO_COLUMNS, 1.4 + 0.28 * len(methods)), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        panel = numbers.filter(pl.col("panel") == name)
        heights = [-methods.index(method) for method in panel["method"]]
        ours = 100 * panel["difference"]
        spread = [ours - 100 * panel["low"], 100 * panel["high"] - ours]
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.errorbar(ours, heights, xerr=spread, fmt="o", color="black", markersize=4, label="ours, 95 %")
        axes.plot(panel["paper"], heights, "x", color="#D55E00", markersize=6, zorder=4, label="paper")
        axes.set_title(name.replace(": ", "\n"), fontsize=8)
        axes.set_yticks([-at for at in range(len(methods))], methods)
        axes.set_ylim(0.6 - len(methods), 0.6)
        axes.set_xlabel("points")
        plain(axes)
    figure.suptitle(f"{title}: difference to '{numbers['base'][0]}'", fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


PLOT = Plot("ablations: paired differences with intervals", data, draw)
