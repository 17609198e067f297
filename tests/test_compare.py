"""`synergen compare` on runs written by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from synergen.cli import main
from synergen.runs import Run, RunSpec, RunStore

USERS = 60


@pytest.fixture
def ids(tmp_path: Path) -> dict[str, str]:
    """Two models on seeds 0 and 1, a third one on other data; ids by model and seed."""
    store, found = RunStore(tmp_path), {}
    rng = np.random.default_rng(0)
    for model, worse in (("SASRec", 0), ("GRU4Rec", 6), ("Other", 0)):
        for seed in (0, 1):
            spec = RunSpec(model, "toy", "recommendation", seed, {}, {}, {"candidates": "pool"})
            record = {"id": spec.id, **asdict(spec), "data": {"users": USERS, "hash": "b" if model == "Other" else "a"}}
            ranks = {(task, "pool"): rng.integers(1, 20, USERS) + worse * 1.0 for task in ("recommendation", "search")}
            hits = {task: {"pool": {"R@10": float((ranks[task, "pool"] <= 10).mean())}} for task, _ in ranks}
            ranks |= {("search", "full"): ranks["search", "pool"] * 3}
            store.save(Run(record | {"metrics": hits}, ranks))
            found[f"{model}{seed}"] = spec.id
    return found


def compared(ids: dict[str, str], folder: Path, capsys, *options: str) -> dict:
    ours, theirs = (f"{ids[f'{model}0']},{ids[f'{model}1']}" for model in ("SASRec", "GRU4Rec"))
    assert main(["compare", ours, theirs, "--out", str(folder), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def by_user(ids: dict[str, str], folder: Path, task: str, metric) -> np.ndarray:
    """Differences of the users' means over both seeds, from the files."""
    store = RunStore(folder)
    values = {name: metric(store.load(run_id).ranks[task, "pool"]) for name, run_id in ids.items()}
    return (values["SASRec0"] + values["SASRec1"] - values["GRU4Rec0"] - values["GRU4Rec1"]) / 2


def test_a_cutoff_that_no_table_has(ids, tmp_path, capsys) -> None:
    """N@13 and R@3 from the ranks, by hand; p-values of two tests are adjusted."""
    found = compared(ids, tmp_path, capsys, "--metric", "N@13,R@3")
    assert (found["task"], found["candidates"], found["seeds"], found["test"]) == (
        *("recommendation", "pool", [0, 1], "randomisation"),
    )
    n13, r3 = found["found"]
    gains = by_user(ids, tmp_path, "recommendation", lambda ranks: (ranks <= 13) / np.log2(ranks + 1))
    assert n13["difference"] == pytest.approx(gains.mean())
    assert n13["effect"] == pytest.approx(gains.mean() / gains.std(ddof=1))
    assert (n13["users_won"], n13["users_lost"], n13["users"]) == ((gains > 0).sum(), (gains < 0).sum(), USERS)
    assert n13["low"] < n13["difference"] < n13["high"]
    hits = by_user(ids, tmp_path, "recommendation", lambda ranks: 1.0 * (ranks <= 3))
    assert r3["difference"] == pytest.approx(hits.mean())
    assert max(n13["p_holm"], r3["p_holm"]) >= 2 * min(n13["p_value"], r3["p_value"])


@pytest.mark.parametrize(
    ("test", "reference"),
    [
        ("wilcoxon", lambda gains: stats.wilcoxon(gains).pvalue),
        ("t", lambda gains: stats.ttest_1samp(gains, 0).pvalue),
    ],
)
def test_other_tests_are_scipys(ids, tmp_path, capsys, test, reference) -> None:
    """On the same ranks."""
    found = compared(ids, tmp_path, capsys, "--metric", "MRR", "--task", "search", "--test", test)
    gains = by_user(ids, tmp_path, "search", lambda ranks: 1 / ranks)
    assert found["found"][0]["p_value"] == pytest.approx(reference(gains))


def test_words(ids, tmp_path, capsys) -> None:
    """One seed speaks of users; candidates are chosen by name."""
    arguments = ["compare", ids["SASRec0"], ids["GRU4Rec0"], "--task", "search", "--candidates", "full"]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "SASRec minus GRU4Rec, search among full, seeds 0." in printed
    assert "over users, not over trainings (one seed)" in printed
    assert f"of {USERS} users" in printed


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "message"),
    [
        ("SASRec0", "GRU4Rec1", [], "share no seed ([0] and [1])"),
        ("SASRec0", "Other0", [], "has another data hash than"),
        ("SASRec0", "none", [], "run none: there is no such finished run"),
        ("SASRec0,SASRec0", "GRU4Rec0", [], "several runs of seed 0"),
        ("SASRec0", "GRU4Rec0", ["--candidates", "fool"], "unknown ranks of all runs 'any task among fool'"),
        ("SASRec0", "GRU4Rec0", ["--metric", "F@10"], "unknown metric 'F@10'"),
    ],
)
def test_mistakes_are_named(ids, tmp_path, capsys, ours, theirs, options, message) -> None:
    given = [",".join(ids.get(one, one) for one in side.split(",")) for side in (ours, theirs)]
    assert main(["compare", *given, *options, "--out", str(tmp_path)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_edited_run_is_refused(ids, tmp_path, capsys) -> None:
    """Its R@10 does not follow from its ranks."""
    path = RunStore(tmp_path).record_path(ids["GRU4Rec0"])
    record = json.loads(path.read_text())
    record["metrics"]["search"]["pool"]["R@10"] = 0.999
    path.write_text(json.dumps(record))
    assert main(["compare", ids["SASRec0"], ids["GRU4Rec0"], "--out", str(tmp_path)]) == 2
    assert "R@10 of search (pool) does not follow from its ranks" in " ".join(capsys.readouterr().err.split())
