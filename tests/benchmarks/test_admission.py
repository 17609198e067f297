"""Runs whose files were damaged or edited stay out of tables."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import run as command
from benchmarks.admission import altered
from benchmarks.campaign import Campaign
from benchmarks.evaluator import means
from synergen.runs import Run, RunSpec, RunStore

RANKS = np.array([1.0, 2.5, np.nan, 12.0])


def written(spec: RunSpec, ranks: np.ndarray = RANKS) -> Run:
    """A run as the harness writes it."""
    record = {"id": spec.id, **asdict(spec), "scale": "smoke", "seconds": 1.0, "training": {"stopped": "epoch limit"}}
    record["data"] = {"hash": "0" * 64, "source_hash": "1" * 64, "users": 4, "items": 9, "events": 99}
    record["metrics"] = {"recommendation": {"pool": means(ranks, ("R@1", "N@10", "MRR"))}}
    return Run(record, {("recommendation", "pool"): ranks})


SPEC = RunSpec("SASRec", "toy", "recommendation", 0, {"width": 8}, {}, {"candidates": "pool"})


def test_a_run_as_it_was_written_is_taken() -> None:
    assert altered(written(SPEC), "SASRec") is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 1}, "its id does not follow from its settings"),
        ({"settings": {"width": 9}}, "its id does not follow from its settings"),
        ({"metrics": {"recommendation": {"pool": {"R@1": 0.9}}}}, "R@1 of recommendation (pool) does not follow"),
        ({"metrics": {"recommendation": {"pool": {"R@1": float("nan")}}}}, "R@1 of recommendation (pool) does not"),
        ({"metrics": {"recommendation": {"full": {"R@1": 0.9}}}}, "its record is not whole (KeyError"),
        ({"metrics": None}, "its record is not whole"),
    ],
)
def test_an_edited_record_is_named_with_what_gives_it_away(change: dict[str, Any], reason: str) -> None:
    """The id is the hash of what was run, and metrics follow from ranks."""
    run = written(SPEC)
    line = altered(Run(run.record | change, run.ranks), "SASRec")
    assert line is not None
    assert line.startswith(f"Excluded: run {SPEC.id} (SASRec")
    assert reason in line


def test_edited_ranks_are_found_by_the_metrics() -> None:
    """One user moved from rank 12 to 1."""
    run = written(SPEC)
    edited = {("recommendation", "pool"): np.array([1.0, 2.5, np.nan, 1.0])}
    assert "R@1 of recommendation (pool)" in (altered(Run(run.record, edited), "SASRec") or "")


def test_a_table_says_which_files_it_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three seeds one record was edited and one cut in half: the row has the one that is left, and two lines say
    which and why. The data are not at hand, so nothing is trained."""
    asked = ["--table", "3", "--dataset", "nowhere", "--models", "SASRec", "--seeds", "3", "--json", "--out"]
    campaign = Campaign.on_record(command.parser().parse_args([*asked, str(tmp_path)]))
    specs = campaign.wanted["SASRec"]
    store = RunStore(tmp_path)
    for spec in specs:
        store.save(written(replace(spec)))
    edited, cut = (store.record_path(spec.id) for spec in specs[1:])
    edited.write_text(edited.read_text().replace('"R@1": 0.3333', '"R@1": 0.9333'))
    cut.write_text(cut.read_text()[:100])
    campaign.show(Console(quiet=True), True, campaign.finished())
    shown = json.loads(capsys.readouterr().out)
    (row,) = (row for row in shown["rows"] if (row["method"], row["block"]) == ("SASRec", "recommendation"))
    assert row["runs"] == [specs[0].id]
    notes = "\n".join(shown["notes"])
    assert f"Excluded: run {specs[1].id} (SASRec, seed 1): R@1 of recommendation (pool) does not follow" in notes
    assert f"Excluded: run {specs[2].id} (SASRec, seed 2): its record or its ranks are missing or not whole." in notes


def test_a_run_that_two_scales_plan_alike_stands_in_the_tables_of_both(tmp_path: Path) -> None:
    """SASRec is the same model at the scales cpu and paper, SynerGen is not; the table is of the scale asked for."""
    asked = ["--table", "3", "--dataset", "nowhere", "--models", "SASRec,SynerGen", "--scale", "paper", "--out"]
    campaign = Campaign.on_record(command.parser().parse_args([*asked, str(tmp_path)]))
    store = RunStore(tmp_path)
    for method, scale in (("SASRec", "cpu"), ("SynerGen", "paper")):
        for spec in campaign.wanted[method]:
            made = written(spec)
            ranks = {(task, "pool"): RANKS for task in ("recommendation", "search")}
            metrics = {task: made.record["metrics"]["recommendation"] for task, _ in ranks}
            store.save(Run(made.record | {"scale": scale, "metrics": metrics}, ranks))
    table = campaign.material(campaign.finished(), campaign.wanted).table
    done = {row.method.method for row in table.rows if row.status == "done"}
    assert done == {"SASRec", "SynerGen"}
    assert not [note for note in table.notes if note.startswith("Excluded")]
    assert any("Scale of models and training: paper" in note for note in table.notes)
