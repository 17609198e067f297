"""The figures by name, in the order in which they are drawn."""

from collections.abc import Mapping

from benchmarks.plots import (
    ablations,
    by_bin,
    calibration,
    learning_curves,
    quality_cost,
    recall_curves,
    sensitivity,
    slices,
    time_rope,
    tradeoff,
)
from benchmarks.plots.drawing import Plot

PLOTS: Mapping[str, Plot] = {
    "learning-curves": learning_curves.PLOT,
    "quality-cost": quality_cost.PLOT,
    "tradeoff": tradeoff.PLOT,
    "ablations": ablations.PLOT,
    "recall": recall_curves.PLOT,
    "by-popularity": by_bin.BY_POPULARITY,
    "by-history": by_bin.BY_HISTORY,
    "by-gap": by_bin.BY_GAP,
    "slices": slices.PLOT,
    "sensitivity": sensitivity.PLOT,
    "calibration": calibration.PLOT,
    "time-rope": time_rope.PLOT,
}
