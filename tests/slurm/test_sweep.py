"""The command without a cluster: what it prints, what it refuses, and the same jobs on this machine."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks import run
from slurm import submit, sweep
from slurm.job_profile import Profile, load_profile
from slurm.submit import run_all
from slurm.sweeps import Standing, load_sweep
from synergen.runs import RunStore


@pytest.fixture
def no_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")


def words(shop, out, *more):
    return ["--table", "3", "--dataset", str(shop), "--models", "SASRec,BM25", "--out", str(out), *more]


def test_a_dry_run_shows_what_sbatch_would_be_given(shop, tmp_path, capsys, no_slurm):
    """Four runs of 12 hours on one GPU each: 48 hours."""
    assert sweep.main(words(shop, tmp_path, "--profile", "a100", "--seeds", "2", "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert "4 runs to send, 0 on record" in printed
    assert "at most 48 hours of jobs, 48 GPU-hours, before any is queued again" in printed
    for line in ("--array=0-3%4", "--gres=gpu:a100:1", "--signal=USR2@120", "--time=720", "--requeue"):
        assert f"#SBATCH {line}\n" in printed
    assert "export OMP_NUM_THREADS=1\n" in printed
    assert "table3.shop.paper/logs" in printed
    assert not (tmp_path / "sweeps").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--profile", "cpu"], "no sbatch on this machine"),
        (["--profile", "cpus"], "unknown profile 'cpus'"),
        (["--profile", "cpu", "--slurm", "time=3"], "unknown key 'time'"),
        (["--profile", "cpu", "--models", "Nobody"], "unknown model 'Nobody'"),
        (["--profile", "cpu", "--dataset", "/no/such"], "/no/such"),
    ],
)
def test_mistakes_are_said_before_anything_is_written(shop, tmp_path, capsys, no_slurm, arguments, message):
    assert sweep.main(words(shop, tmp_path, *arguments)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "sweeps").exists()


def test_jobs_on_this_machine_make_the_table_of_a_run_here(shop, tmp_path):
    """The same runs by processes of the command, by jobs of this machine, and in this process."""
    tables = {}
    for executor in ("inline", "local", "debug"):
        out = tmp_path / executor
        assert run.main(words(shop, out, "--scale", "sketch", "--executor", executor, "--workers", "2")) == 0
        rows = json.loads((out / "tables" / "table3.shop.json").read_text())["rows"]
        tables[executor] = [(row["method"], row["block"], row["status"], row["metrics"]) for row in rows]
    assert tables["inline"] == tables["local"] == tables["debug"]
    assert {job.executor for job in load_sweep(tmp_path / "local" / "sweeps" / "table3.shop.sketch").sent()} == {
        "local"
    }


def test_a_sweep_is_collected_and_told_of_from_elsewhere(shop, tmp_path, capsys, monkeypatch):
    """The data set was named by a path that means nothing where the table is collected."""
    monkeypatch.chdir(shop.parent)
    out = tmp_path / "out"
    assert run.main(words("shop", out, "--scale", "sketch", "--executor", "local")) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    name = "table3.shop.sketch"
    assert sweep.main(["collect", name, "--out", "out"]) == 0
    assert sweep.main(["status", name, "--out", "out"]) == 0
    assert sweep.main(["status", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "Pending, no finished run: SynerGen" in printed
    assert f"{name}: 2 done" in printed
    assert sweep.main(["status", "table9", "--out", "out"]) == 2
    assert "unknown sweep 'table9'" in capsys.readouterr().err


def test_a_job_of_this_machine_that_dies_has_failed(make_sweep, tmp_path):
    made = make_sweep(tmp_path, n_heads=7)
    failed = run_all(made, list(made.specs), "local", load_profile("local"), 1, lambda event: None)
    assert "n_heads" in failed[next(iter(made.specs))] or "7" in failed[next(iter(made.specs))]
    assert RunStore(tmp_path).records() == []


def test_two_tasks_on_this_machine_train_one_run(make_sweep, tmp_path):
    made = make_sweep(tmp_path)
    profile = Profile(device="cpu", ntasks_per_node=2)
    assert run_all(made, list(made.specs), "local", profile, 1, lambda event: None) == {}
    (record,) = RunStore(tmp_path).records()
    assert record["processes"] == 2


def test_a_command_given_again_sends_what_nobody_works_on(make_sweep, tmp_path, monkeypatch):
    """Ctrl-C leaves the jobs alone: of five runs one waits, one runs, one was killed, one is forgotten, one is new."""
    made = make_sweep(tmp_path, seeds=5)
    stages = dict(zip(made.specs, ("pending", "running", "killed", "unknown", "unsent"), strict=True))
    looks = iter([stages, dict.fromkeys(made.specs, "done")])
    sent: list[str] = []
    monkeypatch.setattr(submit, "_LOOK_EVERY", 0)
    monkeypatch.setattr(submit.scheduler, "refuse_no_slurm", lambda: None)
    monkeypatch.setattr(submit, "standings", lambda *_: {run: Standing(stage) for run, stage in next(looks).items()})
    monkeypatch.setattr(submit, "send", lambda sweep, run_ids, *_: sent.extend(run_ids))
    assert run_all(made, list(made.specs), "slurm", load_profile("local"), 1, lambda event: None) == {}
    assert sent == list(made.specs)[2:]


def test_runs_that_another_table_has_sent_are_busy(make_sweep, tmp_path, monkeypatch):
    """Tables 3 and 7 share theirs."""
    first = make_sweep(tmp_path)
    first.save()
    second = replace(first, folder=first.folder.with_name("table7.shop.sketch"))
    stages = {first.name: "running", second.name: "unsent"}
    monkeypatch.setattr(sweep, "standings", lambda one, _: dict.fromkeys(one.specs, Standing(stages[one.name])))
    campaign = SimpleNamespace(store=RunStore(tmp_path))
    assert sweep._busy(second, campaign) == set(first.specs)
