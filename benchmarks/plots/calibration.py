"""How well the ranking head's probabilities are calibrated, from what the record keeps."""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.material import Material
from benchmarks.views import RANKING
from synergen.errors import UserError
from synergen.evaluation.calibration import Reliability
from synergen.evaluation.plots import reliability_figure
from synergen.plot_style import Mark
from synergen.runs import Run

_BINS = ("counts", "predicted", "observed", "low", "high")
_SCHEMA = {
    **{"run": pl.String, "seed": pl.Int64, "curve": pl.String, "counts": pl.Int64},
    **dict.fromkeys(("predicted", "observed", "low", "high", "quantile"), pl.Float64),
}


def calibrated(material: Material) -> Run | None:
    """The first run of a method that is read from the ranking head whose record has a calibration."""
    read = (row for row in material.table.spec.rows if row.head == RANKING)
    runs = (run for row in read for run in material.runs.get(row.method, ()))
    return next((run for run in runs if "calibration" in run.record), None)


def data(material: Material) -> Iterator[Part]:
    """Of the first seed of the method that is read from the ranking head: a row a bin of each curve, and a row a
    quantile of its predictions.

    Raises:
        UserError: no record has it.
    """
    run = calibrated(material)
    if run is None:
        raise UserError("no run on record has a calibration; those of Table 4 on a log with impressions have one")
    about = (run.record["id"], run.record["seed"])
    rows: list[tuple[Any, ...]] = []
    for name, curve in run.record["calibration"]["reliability"].items():
        rows += [(*about, name, *one, None) for one in zip(*(curve[key] for key in _BINS), strict=True)]
        rows += [(*about, name, *[None] * len(_BINS), one) for one in curve["quantiles"]]
    yield "", pl.DataFrame(rows, _SCHEMA, orient="row", strict=False)


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """See `reliability_figure`."""
    curves = {}
    for (name,), own in numbers.group_by("curve", maintain_order=True):
        bins = own.filter(pl.col("quantile").is_null())
        columns = {key: bins[key].to_list() for key in _BINS}
        curves[str(name)] = Reliability(**columns, quantiles=own["quantile"].drop_nulls().to_list())
    return reliability_figure(curves, f"{title}, seed {numbers['seed'][0]}\nclick probability of the ranking head")


PLOT = Plot("click probabilities of the ranking head against what was clicked", data, draw)
