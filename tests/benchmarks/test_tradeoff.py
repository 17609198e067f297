"""The picture of joint against single-task training. Expected points: the ranks that are put in, N@10 of rank r is
1 / log2(1 + r)."""

import csv
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from benchmarks.tables import Run, Table, build, load_spec
from benchmarks.tradeoff import ALONE, TOGETHER, plot_tradeoff, points

SPEC = load_spec(6)
BOTH = frozenset({"recommendation", "search"})
REGISTRY = {"SynerGen": BOTH, "UniSAR": BOTH, "SASRec": frozenset({"recommendation"}), "TEM": frozenset({"search"})}


def run(model: str, name: str, ranks: dict[str, float]) -> Run:
    record: dict[str, Any] = {
        "id": name, "model": model, "dataset": "shop", "seed": 0, "scale": "smoke",
        "protocol": dict(SPEC.protocol), "data": {"hash": "0" * 64, "users": 3, "items": 9, "events": 99},
        "training": {"epochs": 2, "best_epoch": 1, "stopped": "early stopping", "processor_seconds": 4.0},
        "settings": {}, "parameters": {"dense": 1}, "seconds": 4.0, "environment": {"accelerator": None},
    }  # fmt: skip
    return Run(record, {(task, "pool"): np.full(3, rank) for task, rank in ranks.items()})


def table() -> Table:
    """SynerGen together and alone, UniSAR together only, and models of one task."""
    runs = {
        "SynerGen": run("SynerGen", "a", {"recommendation": 3, "search": 1}),
        "SynerGen, recommendation alone": run("SynerGen", "b", {"recommendation": 2}),
        "SynerGen, search alone": run("SynerGen", "c", {"search": 4}),
        "UniSAR": run("UniSAR", "d", {"recommendation": 5, "search": 6}),
        "SASRec": run("SASRec", "e", {"recommendation": 7}),
        "TEM": run("TEM", "f", {"search": 8}),
    }
    return build(SPEC, {method: [one] for method, one in runs.items()}, REGISTRY)


def test_points_are_pairs_of_single_tasks_and_joint_trainings() -> None:
    found = {
        (one.model, one.training): [None if end is None else end.mean for end in (one.recommendation, one.search)]
        for one in points(table())
    }
    n = [1 / log2(1 + rank) if rank else 0.0 for rank in range(9)]
    assert found == {
        ("SynerGen", TOGETHER): [pytest.approx(n[3]), pytest.approx(n[1])],
        ("SynerGen", ALONE): [pytest.approx(n[2]), pytest.approx(n[4])],
        ("SASRec", ALONE): [pytest.approx(n[7]), None],
        ("TEM", ALONE): [None, pytest.approx(n[8])],
    }


def test_figure_and_data_are_written(tmp_path: Path) -> None:
    written = plot_tradeoff(table(), tmp_path / "tradeoff.png")
    assert [path.suffix for path in written] == [".png", ".pdf", ".csv"]
    assert imread(written[0])[..., :3].std() > 0.05  # something is drawn
    rows = list(csv.DictReader(written[2].open()))
    assert [(row["model"], row["training"]) for row in rows] == [(p.model, p.training) for p in points(table())]
    assert float(rows[0]["recommendation_mean"]) == pytest.approx(0.5)


def test_nothing_is_drawn_where_no_model_was_trained_both_ways(tmp_path: Path) -> None:
    only = build(SPEC, {"SynerGen": [run("SynerGen", "a", {"recommendation": 3, "search": 1})]}, REGISTRY)
    assert plot_tradeoff(only, tmp_path / "tradeoff.png") == []
    assert list(tmp_path.iterdir()) == []
