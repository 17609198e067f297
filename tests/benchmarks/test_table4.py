"""Table 4: ablations on slates and on pools, references, differences from the full model, calibration."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from toys import toy_requests

from benchmarks import campaign, run
from benchmarks.calibrate import BOTH
from benchmarks.differences import Compared, compare
from benchmarks.evaluator import SlateEvaluator
from benchmarks.exports import to_csv, to_json
from benchmarks.formats import latex, markdown
from benchmarks.grids import grid
from benchmarks.job import execute, retest
from benchmarks.plan import plan
from benchmarks.plots import calibration
from benchmarks.plots.material import Material
from benchmarks.references import KnownTruth, Reference, knows_truth
from benchmarks.spec import load_spec
from benchmarks.tables import Run, Table, build
from benchmarks.views import RANKING, View, views
from synergen.contract import Task
from synergen.data.dataset import load_dataset
from synergen.data.splits import Part, TimeSplit
from synergen.errors import UserError
from synergen.evaluation.intervals import Difference
from synergen.evaluation.slates import SlateRanks
from synergen.runs import RunStore

SPEC = load_spec(4)
REGISTRY = {"SynerGen": frozenset({"recommendation", "search"})}
FULL, RANKED = "Full model (retrieval head)", "Full model (ranking head)"
KEPT = {  # what a run with a ranking head keeps
    ("recommendation", "slate"), ("recommendation", "slate, ranking head"),
    ("recommendation", "slate, strongest action"), ("recommendation", "slate, strongest action, ranking head"),
    ("search", "slate"), ("search", "slate, ranking head"), ("search", "full"),
}  # fmt: skip


@pytest.fixture
def shop(tmp_path) -> Path:
    """A folder with impressions: 40 users, 40 items."""
    folder = tmp_path / "shop"
    folder.mkdir()
    tables = zip(("interactions", "items", "impressions"), toy_requests(users=40), strict=True)
    for name, table in tables:
        table.to_parquet(folder / f"{name}.parquet")
    return folder


def test_what_a_run_keeps():
    def names(protocol: dict, ranking: bool, actions: int) -> set[tuple[str, str]]:
        return {(str(view.task), view.name) for view in views(Task, protocol, ranking, actions)}

    slates = dict(SPEC.protocol)
    assert names(slates, True, 2) == KEPT
    assert names(slates, False, 1) == {("recommendation", "slate"), ("search", "slate"), ("search", "full")}
    pools = dict(SPEC.fitting(impressions=False).protocol)
    heads = {(str(task), name) for task in Task for name in ("pool", "pool, ranking head", "full")}
    harder = {("search", f"pool, {kind}") for kind in ("words dropped", "misspelt", "synonyms", "no query")}
    assert names(pools, True, 5) == heads | harder
    # the other tables are read from the retrieval head alone
    read = {(str(task), name) for task in Task for name in ("pool", "full")}
    assert names(dict(load_spec(3).protocol), True, 5) == read | harder


def test_the_table_fits_itself_to_the_log():
    on_pools = SPEC.fitting(impressions=False)
    assert SPEC.fitting(impressions=True) is SPEC
    assert (SPEC.protocol["candidates"], on_pools.protocol["candidates"]) == ("slate", "pool")
    assert on_pools.rows == SPEC.rows
    assert [block.columns for block in on_pools.blocks] == [block.columns for block in SPEC.blocks]
    assert "without impressions" in on_pools.title
    assert load_spec(3).fitting(impressions=False) == load_spec(3)
    assert (SPEC.dataset, load_spec(3).dataset) == ("sessions", "ml-100k")
    assert "heads" not in load_spec(3).protocol  # so that the ids of its runs stay


def test_both_heads_are_read_from_one_run_and_references_have_one_seed():
    runs = plan(SPEC, "sessions-1k", "smoke", 3, None)
    assert [run.id for run in runs[RANKED]] == [run.id for run in runs[FULL]]
    assert len({run.id for several in runs.values() for run in several}) == 5 * 3 + 2
    assert [(one.model, one.seed) for one in runs["Logging policy"]] == [("policy", 0)]
    assert runs["w/o target time information"][0].settings["target_time"] is False
    # nobody knows the truth of a log that is not simulated
    assert not {"Logging policy", "Oracle (best achievable)"} & set(plan(SPEC, "shop", "smoke", 1, None))
    assert not knows_truth("ml-100k")


def make_run(model: str, seed: int, ranks: list[float], run_id: str, **changes) -> Run:
    """A run with the same ranks of one chosen item a request under every name; four requests of three users."""
    record = {
        "id": run_id, "model": model, "dataset": "sessions-1k", "task": "joint",
        "seed": seed, "scale": "smoke", "trainer": {},
        "protocol": dict(SPEC.protocol), "data": {"hash": "0" * 64, "users": 3, "items": 9, "events": 99},
        "training": {"epochs": 1, "stopped": "early stopping"}, "settings": {},
    }  # fmt: skip
    found = SlateRanks(np.array([0, 1, 5, 7]), np.array([0, 0, 1, 2]), np.array(ranks))
    kept = {key: found for key in KEPT if model == "SynerGen" or "ranking" not in key[1]}
    return Run(record | changes, kept)


@pytest.fixture
def table() -> Table:
    """Search MRR: oracle 1, policy ¼, full model ½ on both of two seeds; without target time ¼ and ½."""
    full = [make_run("SynerGen", seed, [2, 2, 2, 2], f"full{seed}") for seed in (0, 1)]
    runs = {
        FULL: full,
        RANKED: full,
        "w/o target time information": [
            make_run("SynerGen", 0, [4, 4, 4, 4], "time0"),
            make_run("SynerGen", 1, [2, 2, 2, 2], "time1"),
        ],
        "Oracle (best achievable)": [make_run("oracle", 0, [1, 1, 1, 1], "best", scale=None)],
        "Logging policy": [make_run("policy", 0, [4, 4, 4, 4], "shown", scale=None)],
    }
    return build(SPEC, runs, REGISTRY)


def row_of(table: Table, method: str, block: str) -> dict:
    return next(r for r in to_json(table)["rows"] if (r["method"], r["block"]) == (method, block))


def test_levels_by_hand(table):
    full = row_of(table, FULL, "search")
    assert full["metrics"]["MRR"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert full["metrics"]["R@300"]["mean"] == 1
    assert row_of(table, FULL, "recommendation")["metrics"]["click NDCG"]["mean"] == pytest.approx(1 / np.log2(3))
    assert full["seeds"] == 2
    assert full["runs"] == row_of(table, RANKED, "search")["runs"] == ["full0", "full1"]
    # the whole catalogue is too dear for the ranking head
    assert set(row_of(table, RANKED, "search")["metrics"]) == {"MRR", "R@1"}
    assert row_of(table, "w/o ranking head", "search")["status"] == "pending"


def test_differences_by_hand(table):
    found = row_of(table, "w/o target time information", "search")["differences"]["MRR"]
    # seeds differ by -¼ and 0: mean -⅛, standard error ⅛ over seeds and 0 over users, t(0.975, 1) = 12.706
    half = 12.706204736432095 / 8
    assert found["mean"] == -0.125
    assert (found["low"], found["high"]) == pytest.approx((-0.125 - half, -0.125 + half))
    assert found["p_value"] == pytest.approx(0.5)  # |t| = 1 of one degree of freedom, Cauchy
    assert found["paper"] == pytest.approx(57.19 - 57.30)  # the paper's Table 4
    assert found["sign"] == "undecided"
    assert row_of(table, FULL, "search")["differences"] == {}
    assert row_of(table, "Oracle (best achievable)", "search")["differences"] == {}


@pytest.mark.parametrize(
    ("low", "high", "paper", "verdict"),
    [(0.1, 0.3, 0.5, "agrees"), (0.1, 0.3, -0.5, "disagrees"), (-0.1, 0.5, -0.5, "undecided"), (0.1, 0.3, None, None)],
)
def test_a_sign_agrees_only_where_the_interval_leaves_0_out(low, high, paper, verdict):
    ours = Difference((low + high) / 2, low, high, p_value=0.5, n=9, seeds=1)
    assert Compared(ours, paper).verdict == verdict


def test_only_seeds_that_both_have_are_paired():
    ours = {0: np.array([1.0, 2.0]), 3: np.array([1.0, 1.0])}
    theirs = {0: np.array([2.0, 2.0]), 1: np.array([9.0, 9.0])}
    found = compare(ours, theirs, "MRR", (None, 50.0))
    assert found is not None
    assert (found.ours.mean, found.ours.seeds, found.paper) == (0.25, 1, None)  # (1 - ½, ½ - ½) / 2
    assert compare({0: ours[0]}, {1: ours[0]}, "MRR", (None, None)) is None


def test_notes_and_formats_say_it_all(table):
    notes = "\n".join(table.notes)
    # (½ - ¼) / (1 - ¼)
    assert f"between logging policy and oracle that is closed: {RANKED} 33 %, {FULL} 33 %." in notes
    assert "the last two days test" in notes
    assert "early stopping on validation NDCG of recommendation and MRR of search (their mean)" in notes
    assert "the requests of a user taken together" in notes
    title = "Difference to the full model (retrieval head), points; does the sign agree with the paper"
    texts = markdown(grid(table)), latex(grid(table), "x")
    for text in texts:
        assert title in text
        assert "-12.50" in text
        assert "undecided" in text
    assert texts[1].count("\\begin{tabular}") == texts[1].count("\\end{tabular}") == 2
    line = next(line for line in to_csv(table).splitlines() if "w/o target time information,,search,MRR" in line)
    assert line.endswith(",-0.11,undecided")


def test_references_and_purchases_do_not_apply_without_impressions():
    spec = SPEC.fitting(impressions=False)
    table = build(spec, {}, REGISTRY, dataset="beauty")
    for method in ("Oracle (best achievable)", "Logging policy"):
        assert row_of(table, method, "search")["status"] == "not applicable"
    line = next(line for line in markdown(grid(table)).splitlines() if line.startswith("| Full model (retrieval"))
    assert line == "| Full model (retrieval head) |  | pending *(48.79)* | – |"


class FakeTruth:
    """Probabilities of two requests, numbered as in a source."""

    def click(self, requests):
        return np.array([[0.1, 0.9, 0.5], [0.3, 0.2, 0.0]], np.float32)[requests - 100]

    def purchase(self, requests):
        return self.click(requests)[:, ::-1]

    def catalogue_log_scores(self, requests, kind):
        return np.tile(np.arange(41.0) * (1 if kind == "oracle" else -1), (len(requests), 1))


def test_references_score_in_the_numbers_of_the_log(shop):
    dataset = load_dataset(str(shop), search_share=0.0, split="time")
    assert isinstance(dataset.split, TimeSplit)
    log, shown = dataset.log, dataset.split.impressions
    known = KnownTruth(FakeTruth(), log)
    at = np.flatnonzero(np.isin(shown.ids, (100, 101)))
    np.testing.assert_array_equal(known.slates(at, 1), FakeTruth().click(shown.ids[at].astype(int)))
    np.testing.assert_array_equal(known.slates(at, 2), FakeTruth().purchase(shown.ids[at].astype(int)))
    for kind, sign in (("oracle", 1), ("policy", -1)):
        np.testing.assert_array_equal(known.catalogue(at, kind)[0], sign * log.item_ids[1:].astype(float))
    # the logging policy's order is the order shown: the rank of an item is its place
    found = SlateEvaluator(dataset.split, 5, "cpu").ranks(
        Reference("policy", known), Part.TEST, View(Task.SEARCH, "slate")
    )
    for request, ranks in pd.Series(found.ranks).groupby(found.requests):
        assert sorted(ranks) == (1 + np.flatnonzero(shown.outcomes[request] > 0)).tolist()


def quick(method: str):
    """A run of one epoch on ids alone, so that only queries are encoded."""
    spec = plan(SPEC, "shop", "smoke", 1, None)[method][0]
    settings = {**spec.settings, "inputs": "id", "width": 16, "layers": 1, "ffn_width": 16}
    return replace(spec, settings=settings, trainer={**spec.trainer, "max_epochs": 1, "precision": "fp32"})


@pytest.fixture
def finished(shop, tmp_path) -> Run:
    return execute(quick(FULL), str(shop), RunStore(tmp_path / "out"), "cpu", "smoke", lambda stage, state: None)


def test_a_run_from_training_to_table_and_plot(finished, shop, tmp_path):
    store, record = RunStore(tmp_path / "out"), finished.record
    loaded = store.load(record["id"])
    assert loaded is not None
    assert set(loaded.ranks) == KEPT
    curve = record["training"]["curve"][0]
    # stopped by the mean of both heads' tasks, retrieval head, on validation slates
    assert curve["metric"] == pytest.approx((curve["NDCG recommendation"] + curve["MRR search"]) / 2, abs=1e-6)
    assert record["metrics"]["search"]["slate"]["MRR"] == loaded.ranks["search", "slate"].values("MRR").mean()
    assert "MRR (search) of the ranker 'most popular' (slate)" in record["data"]["audit"]
    table = build(SPEC, {FULL: [loaded], RANKED: [loaded]}, REGISTRY)
    assert row_of(table, FULL, "search")["status"] == row_of(table, RANKED, "search")["status"] == "done"
    assert row_of(table, "Oracle (best achievable)", "search")["status"] == "not applicable"  # no truth
    assert any(
        note.startswith("Calibration of the ranking head's click probability, both tasks") for note in table.notes
    )
    material = Material(table, {RANKED: [loaded]}, str(shop), tmp_path)
    written = calibration.PLOT.write(calibration.PLOT.data(material), material, "table4.shop", "calibration")
    assert [path.name for path in written] == [f"table4.shop.calibration.{suffix}" for suffix in ("png", "pdf", "csv")]
    assert all(path.stat().st_size > 1000 for path in written)


def test_calibration_counts_everything_shown(finished, shop):
    kept = finished.record["calibration"]
    dataset = load_dataset(str(shop), search_share=0.0, split="time")
    assert isinstance(dataset.split, TimeSplit)
    shown, test = dataset.split.impressions, dataset.split.part_of_request() == 2
    assert kept[BOTH]["n"] == (shown.items[test] > 0).sum()
    assert kept[BOTH]["click_rate"] == pytest.approx((shown.outcomes[test] > 0).sum() / kept[BOTH]["n"])
    assert kept["search"]["n"] + kept["recommendation"]["n"] == kept[BOTH]["n"]
    assert kept[BOTH]["floor"] is None  # nobody knows the truth of this log
    assert set(kept["reliability"]) == {"ranking head", "rescaled"}
    json.dumps(finished.record, allow_nan=False)


def test_a_finished_run_is_tested_again_from_its_model(finished, shop, tmp_path):
    spec, store = quick(FULL), RunStore(tmp_path / "out")
    again = retest(spec, str(shop), store, "cpu", None)
    assert again == finished.record["metrics"]
    assert set(retest(spec, str(shop), store, "cpu", "full")) == {"search"}
    with pytest.raises(UserError, match="has candidates 'slate', and not 'pool'"):
        retest(spec, str(shop), store, "cpu", "pool")


def test_the_ranking_head_is_another_order(finished):
    names = ("slate", View(Task.SEARCH, "slate", RANKING).name)
    by_head = [finished.ranks["search", name] for name in names]
    assert all(isinstance(ranks, SlateRanks) for ranks in by_head)
    np.testing.assert_array_equal(by_head[0].requests, by_head[1].requests)
    assert not np.array_equal(by_head[0].ranks, by_head[1].ranks)
    assert torch.is_grad_enabled()


def test_the_default_is_the_simulated_shop_and_a_plan_simulates_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path / "cache"))
    assert run.main(["--table", "4", "--plan", "--out", str(tmp_path / "out")]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "Table 4 on sessions-10k" in printed
    assert "Logging policy seed 0" in printed
    assert "7 runs" in printed  # five models and two references; both heads are read from one run
    assert not (tmp_path / "cache").exists()


def test_where_the_log_is_not_at_hand_its_records_tell_whether_it_has_impressions(finished, tmp_path):
    store = RunStore(tmp_path / "out")
    assert campaign.has_impressions("shop", "shop", store)
    assert not campaign.has_impressions("beauty", "beauty", store)
