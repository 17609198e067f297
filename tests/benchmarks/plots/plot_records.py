"""A hand-made Table 3 of four users: SynerGen on two seeds, SASRec and Popularity on one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from polars.testing import assert_frame_equal

from benchmarks.plots.drawing import Plot
from benchmarks.plots.material import Material
from benchmarks.tables import Run, build, load_spec

SPEC = load_spec(3)
BOTH = frozenset({"recommendation", "search"})
REGISTRY = {"SynerGen": BOTH, "SASRec": frozenset({"recommendation"}), "Popularity": BOTH}


def make_run(
    model: str, seed: int, ranks: dict[str, Sequence[float]], data_hash: str = "0" * 64, **changes: Any
) -> Run:
    record: dict[str, Any] = {
        "id": f"{model.lower()}-{seed}", "model": model, "dataset": "shop", "task": "joint",
        "seed": seed, "scale": "smoke", "trainer": {},
        "protocol": dict(SPEC.protocol), "data": {"hash": data_hash, "users": 4, "items": 50, "events": 99},
        "training": {}, "settings": {}, "parameters": {"dense": 30, "sparse": 70}, "seconds": 0.0,
        "environment": {"accelerator": None}, "test_seconds": {task: {"pool": 0.008} for task in ranks},
    }  # fmt: skip
    return Run(record | changes, {(task, "pool"): np.array(values, float) for task, values in ranks.items()})


def trained(seconds: float, *epochs: tuple[float, float | None]) -> dict[str, Any]:
    """Epochs of 100 targets and 2 seconds, with N@10 in recommendation and search."""
    curve = [
        {"epoch": at, "seconds": 2.0 * at, "targets": 100 * at, "metric": 0.5, "N@10 recommendation": recommendation}
        | ({} if search is None else {"N@10 search": search})
        for at, (recommendation, search) in enumerate(epochs, start=1)
    ]
    ends = {"epochs": len(epochs), "best_epoch": 1, "stopped": "early stopping", "processor_seconds": seconds}
    return {"training": ends | {"curve": curve}}


RUNS = {
    "SynerGen": [
        make_run(
            "SynerGen", 1, {"recommendation": [2, 1, 9, 12], "search": [1, 3, np.nan, 1]}, **trained(30, (0.3, 0.5))
        ),
        make_run(
            "SynerGen",
            0,
            {"recommendation": [1, 4, 3, 12], "search": [1, 1, np.nan, 2]},
            **trained(10, (0.1, 0.6), (0.2, 0.4)),
        ),
    ],
    "SASRec": [make_run("SASRec", 0, {"recommendation": [1, 2, 30, 12]}, **trained(5, (0.25, None)))],
    "Popularity": [make_run("Popularity", 0, {"recommendation": [50, 60, 70, 80]}, parameters={})],
}


def material_of(runs: dict[str, list[Run]], folder: Path) -> Material:
    return Material(build(SPEC, runs, REGISTRY, "shop"), runs, "shop", folder)


def drawn(plot: Plot, material: Material) -> list[tuple[str, pl.DataFrame, Figure]]:
    """The parts of a figure: name, numbers as its CSV holds them, and what is drawn of them."""
    written = plot.write(list(plot.data(material)), material, "t", "x")
    tables = {path.stem: path for path in written if path.suffix == ".csv"}
    found = []
    for part, numbers in plot.data(material):
        read = pl.read_csv(tables[".".join(filter(None, ["t", "x", part]))], schema=numbers.schema)
        assert_frame_equal(read, numbers)
        found.append((part, read, plot.draw(read, material.title, material.marks)))
    return found


def lines(axes: Axes) -> list[np.ndarray]:
    """(N, 2) points of each line, helpers such as caps of intervals among them."""
    return [np.array(line.get_xydata(), float) for line in axes.get_lines()]


def shows(axes: Axes, points: Sequence[tuple[float, float]]) -> bool:
    """Whether one line of the axes has exactly these points."""
    return any(one.shape == (len(points), 2) and np.allclose(one, points) for one in lines(axes))


def interval_ends(axes: Axes) -> list[np.ndarray]:
    """(2, 2) ends of each interval that is drawn."""
    return [segment for one in axes.collections for segment in one.get_segments()]
