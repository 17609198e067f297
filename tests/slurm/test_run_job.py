"""A run as a job: it says how it stands, saves its state when it is told to end, and goes on to the same numbers."""

import json
import pickle
import threading
import time

from slurm import run_job
from slurm.run_job import RunJob
from synergen.runs import RunStore


def job_of(sweep, run_id) -> RunJob:
    return RunJob(sweep.job(run_id, "cpu"), 1, sweep.news(run_id), 30.0)


def test_a_run_is_done_and_says_so(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path)
    (run_id,) = sweep.specs
    assert pickle.loads(pickle.dumps(job_of(sweep, run_id)))() == "done"
    news = json.loads(sweep.news(run_id).read_text())
    assert (news["stage"], news["state"]["training"]["epochs"]) == ("done", 3)
    assert RunStore(tmp_path).load(run_id) is not None


def test_what_a_person_can_mend_is_news(make_sweep, tmp_path):
    sweep = make_sweep(tmp_path, n_heads=7)  # of 64 columns
    (run_id,) = sweep.specs
    assert job_of(sweep, run_id)() == "failed"
    news = json.loads(sweep.news(run_id).read_text())
    assert news["stage"] == "failed"
    assert "7" in news["state"]["why"]
    assert RunStore(tmp_path).load(run_id) is None


def test_a_checkpoint_in_the_middle_goes_on_to_the_same_numbers(make_sweep, tmp_path, monkeypatch):
    """`checkpoint` comes from another thread here, and from a handler of a signal in a job; it ends the first job in
    one of 30 epochs, and what is trained in the second is the rest."""
    monkeypatch.setattr(run_job, "_SAY_EVERY", 0.0)
    whole = make_sweep(tmp_path / "whole", epochs=30)
    (run_id,) = whole.specs
    assert job_of(whole, run_id)() == "done"

    sweep = make_sweep(tmp_path / "stopped", epochs=30)
    first = job_of(sweep, run_id)
    delayed = []

    def end_it() -> None:
        while (
            not sweep.news(run_id).exists() or json.loads(sweep.news(run_id).read_text())["state"].get("epoch", 0) < 5
        ):
            time.sleep(0.01)
        delayed.append(first.checkpoint())

    signal = threading.Thread(target=end_it)
    signal.start()
    assert first() == "stopped"
    signal.join()
    store = RunStore(sweep.out)
    assert store.load(run_id) is None
    assert store.checkpoint_path(run_id).exists()
    assert json.loads(sweep.news(run_id).read_text())["stage"] == "waiting"
    assert pickle.loads(pickle.dumps(delayed[0].function))() == "done"
    records = [RunStore(one.out).load(run_id).record for one in (whole, sweep)]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert [p["metric"] for p in records[0]["training"]["curve"]] == [
        p["metric"] for p in records[1]["training"]["curve"]
    ]
    assert not store.checkpoint_path(run_id).exists()


def test_news_that_cannot_be_written_end_no_training(make_sweep, tmp_path, capsys):
    sweep = make_sweep(tmp_path)
    (run_id,) = sweep.specs
    sweep.folder.mkdir(parents=True)
    (sweep.folder / "news").write_text("a file is in the way")
    assert job_of(sweep, run_id)() == "done"
    assert f"news of {run_id}: loading" in capsys.readouterr().err


def test_a_failure_that_nobody_foresaw_has_its_traceback(make_sweep, tmp_path, monkeypatch):
    from benchmarks import job

    sweep = make_sweep(tmp_path)
    (run_id,) = sweep.specs

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("as a test")

    monkeypatch.setattr(job, "_learn", broken)
    assert job_of(sweep, run_id)() == "failed"
    assert "ZeroDivisionError: as a test" in json.loads(sweep.news(run_id).read_text())["state"]["why"]
