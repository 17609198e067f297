"""The picture of joint against single-task training. Expected points: the ranks that are put in, N@10 of rank r is
1 / log2(1 + r)."""

from math import log2
from typing import Any

import numpy as np
import pytest
from plot_records import drawn, shows

from benchmarks.plots import tradeoff
from benchmarks.plots.material import Material
from benchmarks.plots.tradeoff import ALONE, TOGETHER, points, trained_both_ways
from benchmarks.tables import Run, Table, build, load_spec
from synergen.errors import UserError

SPEC = load_spec(6)
BOTH = frozenset({"recommendation", "search"})
REGISTRY = {"SynerGen": BOTH, "UniSAR": BOTH, "SASRec": frozenset({"recommendation"}), "TEM": frozenset({"search"})}


def run(model: str, name: str, ranks: dict[str, float]) -> Run:
    record: dict[str, Any] = {
        "id": name, "model": model, "dataset": "shop", "task": "joint", "seed": 0,
        "scale": "smoke", "trainer": {},
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
        ("UniSAR", TOGETHER): [pytest.approx(n[5]), pytest.approx(n[6])],
        ("SASRec", ALONE): [pytest.approx(n[7]), None],
        ("TEM", ALONE): [None, pytest.approx(n[8])],
    }


def test_the_figure_shows_the_points(tmp_path):
    [(_, numbers, figure)] = drawn(tradeoff.PLOT, Material(table(), {}, "shop", tmp_path))
    assert numbers.select("model", "training").rows() == [(point.model, point.training) for point in points(table())]
    at = {(one["model"], one["training"]): one for one in numbers.iter_rows(named=True)}
    together, alone = at["SynerGen", TOGETHER], at["SynerGen", ALONE]
    ends = [(100 * one["recommendation_mean"], 100 * one["search_mean"]) for one in (together, alone)]
    axes = figure.axes[0]
    assert shows(axes, ends)  # joined by a line
    assert shows(axes, ends[:1])
    faces = {line.get_markerfacecolor() for line in axes.get_lines() if np.allclose(line.get_xydata(), [ends[1]])}
    assert faces == {"white"}
    assert shows(axes, [(100 * at["SASRec", ALONE]["recommendation_mean"], 0)])  # on the axis
    assert shows(axes, [(0, 100 * at["TEM", ALONE]["search_mean"])])


def test_a_table_with_one_model_of_both_tasks_has_no_trade_off(tmp_path):
    only = build(SPEC, {"SynerGen": [run("SynerGen", "a", {"recommendation": 3, "search": 1})]}, REGISTRY)
    assert not trained_both_ways(only)
    assert trained_both_ways(table())
    with pytest.raises(UserError, match="fewer than two models"):
        list(tradeoff.PLOT.data(Material(only, {}, "shop", tmp_path)))
