"""The main command on a small shop: whole tables, killed and interrupted runs, damaged records, bad arguments."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from toys import toy_shop, toy_tables

from benchmarks import evaluator, job, notes, run
from benchmarks.campaign import Campaign
from synergen.data.harder_queries import KINDS
from synergen.runs import RunStore

ROOT = Path(run.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """400 users, 150 items, dense enough for the tables' filter of five events."""
    return toy_shop(tmp_path_factory.mktemp("data") / "shop", users=400, items=150)


def command(shop: Path, out: Path, *more: str) -> list[str]:
    return ["--table", "3", "--dataset", str(shop), "--out", str(out), "--models", "SASRec,Popularity,BM25", *more]


def rows_of(out: Path, table: int = 3) -> dict:
    content = json.loads((out / "tables" / f"table{table}.shop.json").read_text())
    return {(row["method"], row["block"]): row for row in content["rows"]}


def numbers_of(out: Path) -> pd.DataFrame:
    """Table 3 without what its runs cost, which differs from time to time."""
    table = pd.read_csv(out / "tables" / "table3.shop.csv")
    return table.drop(columns=["seconds", "seconds/epoch", "ms/request", "peak_mib"])


def files_of(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}


@pytest.fixture(scope="module")
def finished(shop, tmp_path_factory) -> Path:
    """Table 3 with two seeds, made once."""
    out = tmp_path_factory.mktemp("results")
    assert run.main(command(shop, out, "--seeds", "2")) == 0
    return out


def test_a_table_holds_every_row_with_its_status(finished):
    rows = rows_of(finished)
    assert len(rows) == 13 * 4  # methods and blocks
    done = {key for key, row in rows.items() if row["status"] == "done"}
    served = {
        ("SASRec", "recommendation"),
        ("Popularity", "recommendation"),
        ("Popularity", "search"),
        ("BM25", "search"),
    }
    assert done == served | {(method, f"{task}, all items") for method, task in served}
    assert rows["SASRec", "search"]["status"] == "not applicable"
    assert rows["UniSAR", "search"]["status"] == "pending"
    sasrec = rows["SASRec", "recommendation"]
    assert sasrec["seeds"] == 2
    assert len(sasrec["runs"]) == 2
    assert sasrec["paper"]["R@10"] == 67.72  # the paper, Table 3
    assert set(sasrec["metrics"]) == {"R@1", "R@5", "R@10", "N@5", "N@10"}
    interval = sasrec["metrics"]["R@10"]
    assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= 1


def test_a_model_learns_what_there_is_to_learn(finished):
    # users walk along the item numbers in steps of three: the next item follows from the last one
    rows = rows_of(finished)
    assert rows["SASRec", "recommendation"]["metrics"]["R@1"]["mean"] > 0.5
    assert rows["Popularity", "recommendation"]["metrics"]["R@1"]["mean"] < 0.2


def test_all_formats_are_written(finished):
    names = {path.name for path in (finished / "tables").iterdir()}
    assert names == {f"table3.shop.{ending}" for ending in ("md", "csv", "tex", "json")}


def test_records_say_how_the_number_was_made(finished):
    records = [r for r in RunStore(finished).records() if r["model"] == "SASRec"]
    assert sorted(r["seed"] for r in records) == [0, 1]
    record = records[0]
    assert record["training"]["stopped"] in ("early stopping", "epoch limit")
    assert len(record["training"]["curve"]) == record["training"]["epochs"]
    assert set(record["metrics"]["recommendation"]) == {"pool", "full"}
    assert set(record["test_seconds"]["recommendation"]) == {"pool", "full"}
    searched = next(r for r in RunStore(finished).records() if r["model"] == "BM25")
    assert set(searched["metrics"]["search"]) == {"pool", "full", *(f"pool, {kind}" for kind in KINDS)}
    assert record["environment"]["versions"]["torch"].startswith("2.")
    assert record["parameters"]["sparse"] > 0
    assert record["data"]["statistics"]["users with fewer than 3 events"] == 0
    assert str(finished) not in json.dumps(record)


def test_finished_runs_are_reused_and_force_repeats_them_to_the_same_numbers(shop, finished, capsys):
    before, table = files_of(finished), numbers_of(finished)
    assert run.main(command(shop, finished, "--seeds", "2")) == 0
    assert "every run has a record" in capsys.readouterr().out
    assert files_of(finished) == before
    ranks = {p.name: pd.read_parquet(p) for p in (finished / "runs").glob("*.parquet")}
    assert run.main(command(shop, finished, "--seeds", "2", "--force")) == 0
    after = files_of(finished)
    assert set(after) == set(before)
    assert all(after[name] > before[name] for name in before)
    pd.testing.assert_frame_equal(numbers_of(finished), table)
    for name, old in ranks.items():
        pd.testing.assert_frame_equal(pd.read_parquet(finished / "runs" / name), old)


def test_a_table_from_records_alone_needs_no_data(finished, capsys):
    from_records = ["--table", "3", "--dataset", "shop", "--out", str(finished), "--json"]
    assert run.main([*from_records, "--models", "SASRec"]) == 0
    assert "pending" not in capsys.readouterr().err
    assert run.main(from_records) == 0
    assert "runs without a record stay pending" in capsys.readouterr().err


def test_without_a_scale_or_seeds_the_table_has_what_is_on_record(shop, finished, capsys):
    """Two seeds at smoke, which a command without numbers shows and does not train on."""
    before = files_of(finished)
    assert run.main(command(shop, finished)) == 0
    assert "scale smoke, 1 seed(s)" in capsys.readouterr().out
    assert rows_of(finished)["SASRec", "recommendation"]["seeds"] == 2
    assert files_of(finished) == before
    options = run.parser().parse_args(command(shop, finished, "--scale", "sketch"))
    named = {run.record["model"] for run in Campaign.on_record(options).finished().values() if run}
    assert named == {"Popularity", "BM25"}  # which are alike at all scales


def test_a_plan_to_train_again_counts_what_is_on_record(shop, finished, capsys):
    before = files_of(finished)
    assert run.main(command(shop, finished, "--seeds", "2", "--force", "--plan")) == 0
    assert "SASRec seed 1" in capsys.readouterr().out
    assert files_of(finished) == before


def test_plan_runs_nothing(shop, tmp_path, capsys):
    assert run.main(command(shop, tmp_path / "new", "--plan")) == 0
    printed = capsys.readouterr().out
    assert "SASRec seed 0" in printed
    assert "3 runs" in printed
    assert not (tmp_path / "new").exists()


def test_json_goes_to_standard_output_alone(shop, finished, capsys):
    assert run.main(command(shop, finished, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["table"] == 3


def test_a_table_without_runs_prints_the_paper(tmp_path):
    assert run.main(["--table", "1", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "tables" / "table1.ml-100k.json").read_text())["rows"]
    assert any(row["paper"] for row in rows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--table", "8"], ["unknown table '8'"]),
        (["--table", "3", "--dataset", "ml-100q"], ["unknown data set 'ml-100q'", "did you mean 'ml-100k'"]),
        (["--table", "3", "--dataset", "./nowhere"], ["nowhere does not exist"]),
        (["--table", "3", "--models", "SASrec"], ["unknown model 'SASrec'", "SASRec"]),
        (["--table", "3", "--scale", "tiny"], ["unknown scale 'tiny'"]),
        (["--table", "3", "--seeds", "0"], ["--seeds"]),
        (["--table", "3", "--workers", "0", "--models", "BM25"], ["--workers"]),
    ],
)
def test_bad_arguments_are_named(arguments, words, tmp_path, capsys):
    assert run.main([*arguments, "--out", str(tmp_path)]) == 2
    message = " ".join(capsys.readouterr().err.split())
    for word in words:
        assert word in message


def test_a_results_folder_that_cannot_be_written_is_refused_before_any_training(shop, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run.main(command(shop, tmp_path / "file" / "out")) == 2
    assert "choose a writable folder" in capsys.readouterr().err


def test_other_data_under_the_same_name_is_refused(finished, shop, tmp_path, capsys):
    other = tmp_path / "shop"
    other.mkdir()
    toy_tables(users=400, items=150, seed=1)[0].to_parquet(other / "interactions.parquet")
    assert run.main(command(other, finished)) == 2
    assert "other contents" in capsys.readouterr().err


def test_a_failing_row_is_named_and_the_others_are_kept(tmp_path, capsys):
    folder = tmp_path / "few"
    folder.mkdir()
    toy_tables(users=400, items=60)[0].to_parquet(folder / "interactions.parquet")
    arguments = ["--table", "3", "--dataset", str(folder), "--out", str(tmp_path / "out"), "--models", "Popularity"]
    assert run.main(arguments) == 2
    assert "99 negatives" in capsys.readouterr().err


def test_a_record_cut_in_half_is_run_again(shop, finished):
    path = next(p for p in (finished / "runs").glob("*.json") if json.loads(p.read_text())["model"] == "Popularity")
    whole = json.loads(path.read_text())
    path.write_text(path.read_text()[:300])
    assert run.main(command(shop, finished, "--seeds", "2")) == 0
    assert json.loads(path.read_text())["metrics"] == whole["metrics"]


def start(shop: Path, out: Path) -> subprocess.Popen:
    """The command as a person starts it, stopped here once it has finished an epoch."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *command(shop, out)[:-1], "SASRec"]
    process = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list((out / "checkpoints").glob("*.unfinished.pt")):
        assert process.poll() is None, process.stdout.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGINT])
def test_a_stopped_training_goes_on_to_the_same_ranks(shop, finished, tmp_path, stop):
    process = start(shop, tmp_path)
    os.kill(process.pid, stop)
    output = process.stdout.read().decode()
    process.wait(timeout=60)
    if stop is signal.SIGINT:
        assert process.returncode == 130
        assert "goes on where this one stopped" in " ".join(output.split())
    time.sleep(1.5)  # the child notices at its next report that nobody waits for it
    assert not list((tmp_path / "runs").glob("*.json"))
    assert run.main([*command(shop, tmp_path)[:-1], "SASRec"]) == 0
    record = json.loads(next((tmp_path / "runs").glob("*.json")).read_text())
    same = RunStore(finished).load(record["id"])
    resumed = RunStore(tmp_path).load(record["id"])
    assert same is not None
    assert resumed is not None
    for key in same.ranks:
        np.testing.assert_array_equal(resumed.ranks[key], same.ranks[key])
    assert not list((tmp_path / "checkpoints").glob("*.unfinished.pt"))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_model_that_compares_pairs_is_asked_a_sample_of_several_questions_a_user(shop, tmp_path, monkeypatch):
    """800 questions, of which a sample of 50 is ranked among all items; SASRec ranks for all of them."""
    monkeypatch.setattr(evaluator, "QUESTIONS_OF_PAIRS", 50)
    monkeypatch.setattr(notes, "QUESTIONS_OF_PAIRS", 50)
    asked = ["--table", "3", "--dataset", str(shop), "--out", str(tmp_path), "--scale", "sketch", "--split", "last-2"]
    assert run.main([*asked, "--models", "USER,SASRec", "--executor", "debug", "--device", "cpu"]) == 0
    content = json.loads((tmp_path / "tables" / "table3.shop.last-2.json").read_text())
    assert any("Among all items, USER rank for 50 test questions" in note for note in content["notes"])
    of_all = {row["method"]: row for row in content["rows"] if row["block"] == "recommendation, all items"}
    assert 2 <= of_all["USER"]["gains"]["N@10"]["users"] <= 50
    assert of_all["SASRec"]["gains"]["N@10"]["users"] == of_all["USER"]["gains"]["N@10"]["users"]


def test_the_commit_is_read_before_and_negatives_are_drawn_outside_the_time(shop, tmp_path, monkeypatch):
    """The code on disk may change while a run trains; pools are drawn once for all views of a task."""
    order: list[str] = []

    def noting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, **kwargs: (order.append(name), function(*args, **kwargs))[1]

    monkeypatch.setattr(job, "environment", noting("commit", job.environment))
    monkeypatch.setattr(job, "load_for", noting("data", job.load_for))
    monkeypatch.setattr(evaluator, "pools", noting("negatives", evaluator.pools))
    monkeypatch.setattr(evaluator, "pool_ranks", noting("ranks", evaluator.pool_ranks))
    monkeypatch.setattr(job.time, "process_time", noting("clock", job.time.process_time))
    asked = ["--table", "3", "--dataset", str(shop), "--out", str(tmp_path), "--models", "Popularity"]
    assert run.main([*asked, "--executor", "debug"]) == 0
    assert order[:2] == ["commit", "data"]
    first = order.index("ranks")
    assert order[first - 2 : first] == ["negatives", "clock"]


def test_the_device_asked_for_is_that_of_the_jobs():
    for words, device in (([], "cpu"), (["--device", "cuda"], "cuda")):
        options = run.parser().parse_args(["--table", "3", "--executor", "local", *words])
        assert run._profile(options).device == device


def test_the_time_on_a_processor_is_not_foretold_by_a_gpu(shop, tmp_path, monkeypatch):
    """Two like runs on record: 100 s on a processor, 4 s on a GPU."""
    options = run.parser().parse_args(command(shop, tmp_path))
    campaign = Campaign.on_record(options)
    kind = {"model": "SASRec", "dataset": "shop", "task": "recommendation", "scale": "smoke"}
    records = [kind | {"seconds": s, "environment": {"accelerator": a}} for s, a in ((100.0, None), (4.0, "H100"))]
    monkeypatch.setattr(RunStore, "records", lambda store: records if store.folder == tmp_path else [])
    (run_id,) = (one.id for one in campaign.wanted["SASRec"])
    todo = campaign.to_do({})
    assert (campaign.forecast(todo)[run_id], campaign.forecast(todo, on_gpu=True)[run_id]) == (100.0, 4.0)


def test_another_split_and_fewer_users_make_tables_of_their_own(shop, tmp_path, capsys):
    asked = ["--table", "2", "--dataset", str(shop), "--out", str(tmp_path), "--models", "Popularity"]
    assert run.main([*asked, "--split", "point-10+2d", "--max-users", "200"]) == 0
    assert run.main([*asked, "--split", "last-2"]) == 0
    stems = {path.stem for path in (tmp_path / "tables").glob("*.md")}
    assert stems == {"table2.shop.point-10+2d.200-users", "table2.shop.last-2"}
    record = json.loads(
        next(path for path in (tmp_path / "runs").glob("*.json") if "max_users" in path.read_text()).read_text()
    )
    assert record["protocol"]["max_users"] == 200
    assert record["data"]["users"] <= 200
    # A split at a point of time for all users: nothing that trains is later than a question.
    assert record["data"]["audit"]["test events with a later training event"] == 0
