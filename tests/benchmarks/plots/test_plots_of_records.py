"""Numbers behind the figures of a hand-made table, and that the figures show these numbers. Expected values: the ranks
and curves of plot_records.py, by hand."""

from math import log2

import numpy as np
import pytest
from plot_records import RUNS, drawn, interval_ends, make_run, material_of, shows

from benchmarks.plots import ablations, learning_curves, quality_cost, recall_curves
from benchmarks.plots.material import Material
from benchmarks.tables import build, load_spec
from synergen.errors import UserError


def test_learning_curves(material):
    parts = drawn(learning_curves.PLOT, material)
    assert [part for part, *_ in parts] == [
        f"{task}.{x}" for task in ("recommendation", "search") for x in ("positions", "seconds")
    ]
    rows = [
        (one["method"], one["seed"], one["epoch"], one["at"], one["value"]) for one in parts[0][1].iter_rows(named=True)
    ]
    assert rows == [
        ("SynerGen", 0, 1, 100, 0.1),
        ("SynerGen", 0, 2, 200, 0.2),
        ("SynerGen", 1, 1, 100, 0.3),
        ("SASRec", 0, 1, 100, 0.25),
    ]
    assert parts[3][1]["at"].to_list() == [2, 4, 2]  # seconds; search is SynerGen's alone
    first, second = parts[0][2].axes
    assert (first.get_title(), second.get_title()) == ("SynerGen", "SASRec")
    assert shows(first, [(100, 10), (200, 20)])  # percent
    assert shows(first, [(100, 30)])
    assert shows(first, [(100, 25)])  # the other method, behind
    assert [one["kept"] for one in parts[0][1].iter_rows(named=True)] == [True, False, True, True]
    tested = [line.get_markevery() for line in first.get_lines() if len(line.get_xdata()) == 2]
    assert tested == [[0]]  # the mean of both tasks was best in the first epoch


def test_methods_of_the_same_runs_have_one_curve():
    """Table 4 reads one run from two heads."""
    heads = dict.fromkeys(("Full model (ranking head)", "Full model (retrieval head)"), RUNS["SynerGen"])
    assert list(learning_curves._once(heads)) == ["Full model (ranking head)"]


def test_pareto_front():
    """(2, .1) is dearer and worse than (1, .2); equal points do not beat each other."""
    assert quality_cost.pareto([(1, 0.2), (2, 0.1), (2, 0.3), (1, 0.2), (3, 0.3)]) == [True, False, True, True, False]


def test_quality_against_cost(material):
    [(_, numbers, figure)] = drawn(quality_cost.PLOT, material)
    at = {(one["panel"], one["cost"], one["method"]): one for one in numbers.iter_rows(named=True)}
    assert at["recommendation", "seconds of training", "SynerGen"]["value"] == 20  # mean of 10 and 30
    assert at["recommendation", "seconds of training", "SASRec"]["value"] == 5
    assert at["recommendation", "seconds of training", "Popularity"]["value"] == quality_cost.LEAST_SECONDS
    assert at["recommendation", "parameters", "SynerGen"]["value"] == 100
    assert ("recommendation", "parameters", "Popularity") not in at
    assert at["recommendation", "milliseconds a request", "SASRec"]["value"] == 2  # 8 ms of four requests
    n = [0] + [1 / log2(1 + rank) for rank in range(1, 10)]
    reached = (n[2] + n[1] + n[9] + n[1] + n[4] + n[3]) / 8  # N@10 of ranks 2, 1, 9, 12 and 1, 4, 3, 12
    synergen = at["recommendation", "seconds of training", "SynerGen"]
    assert synergen["mean"] == pytest.approx(reached)
    assert synergen["pareto"]
    assert not any(one["panel"] == "search" for one in at.values())  # one method alone is no comparison
    axes = figure.axes[0]
    assert shows(axes, [(20, 100 * reached)])
    assert shows(axes, [(5, 100 * at["recommendation", "seconds of training", "SASRec"]["mean"])])
    ends = [(segment[0][1], segment[1][1]) for segment in interval_ends(axes)]
    assert any(np.allclose(one, (100 * synergen["low"], 100 * synergen["high"])) for one in ends)


def test_milliseconds_are_of_questions_that_were_asked(material):
    """8 ms of three searches, in either seed."""
    [row] = material.rows(material.main_blocks()[1])
    assert quality_cost._milliseconds(material, row, "N@10") == pytest.approx([8 / 3, 8 / 3])


def test_recall_by_depth(material):
    [(_, numbers, figure)] = drawn(recall_curves.PLOT, material)
    recall = {(one["panel"], one["method"], one["k"]): one["recall"] for one in numbers.iter_rows(named=True)}
    assert recall["recommendation", "SynerGen", 1] == 0.25  # one of four in either seed
    assert recall["recommendation", "SynerGen", 3] == 0.5  # 2, 1 of one seed; 1, 3 of the other
    assert recall["search", "SynerGen", 1] == pytest.approx(2 / 3)  # two of three asked in either seed
    assert recall["recommendation", "Popularity", 70] == 0.75
    assert max(k for panel, _, k in recall if panel == "recommendation") == 70  # the largest rank is 80
    assert [axes.get_title() for axes in figure.axes[:2]] == ["recommendation", "search"]
    one = [
        (k, 100 * value)
        for (panel, method, k), value in recall.items()
        if (panel, method) == ("recommendation", "SASRec")
    ]
    assert shows(figure.axes[0], one)


def ablation_table(tmp_path, **ranks: list[float]) -> Material:
    """Table 4 on a log without impressions, with click NDCG from these ranks, by method."""
    spec = load_spec(4).fitting(False)
    names = {"full": "Full model (retrieval head)", "rope": "w/o time-based RoPE"}
    runs = {
        names[name]: [make_run("SynerGen", 0, {"recommendation": own}, id=name, protocol=dict(spec.protocol))]
        for name, own in ranks.items()
    }
    return Material(
        build(spec, runs, {"SynerGen": frozenset({"recommendation", "search"})}, "shop"), runs, "shop", tmp_path
    )


def test_ablations(tmp_path):
    """N@100 of rank 1 is 1, of rank 3 it is ½: the difference is -½ for every user, whose interval is a point."""
    [(_, numbers, figure)] = drawn(ablations.PLOT, ablation_table(tmp_path, full=[1, 1, 1], rope=[3, 3, 3]))
    [one] = numbers.filter(panel="recommendation: click NDCG").iter_rows(named=True)
    assert (one["method"], one["difference"], one["low"], one["high"]) == ("w/o time-based RoPE", -0.5, -0.5, -0.5)
    assert (one["seeds"], one["paper"]) == (1, -0.23)  # the paper, Table 4: 48.56 - 48.79
    assert shows(figure.axes[0], [(-50, 0)])
    assert shows(figure.axes[0], [(-0.23, 0)])


@pytest.mark.parametrize(
    ("plot", "why"),
    [
        (learning_curves.PLOT, "no run on record has a curve"),
        (quality_cost.PLOT, "fewer than two methods"),
        (recall_curves.PLOT, "no ranks"),
        (ablations.PLOT, "compares its rows with none"),
    ],
    ids=["learning", "cost", "recall", "ablations"],
)
def test_what_is_missing_is_said(plot, why, tmp_path):
    with pytest.raises(UserError, match=why):
        list(plot.data(material_of({}, tmp_path)))


def test_an_ablation_without_the_full_model_is_missing(tmp_path):
    with pytest.raises(UserError, match="no row beside"):
        list(ablations.PLOT.data(ablation_table(tmp_path, full=[1, 1])))
