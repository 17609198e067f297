"""Sweeps on a real SLURM: a private cluster of two virtual nodes, with accounting. Skipped where SLURM is not
installed; `python slurm/one_node.py install` gets it."""

import json
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState

from benchmarks import run, tune
from benchmarks.tuning.study import WORKER, kept, running, study_of, values_of
from slurm import one_node, sweep
from slurm.job_profile import load_profile
from slurm.run_job import RunJob
from slurm.submit import send, standings
from slurm.sweeps import Standing, Sweep
from synergen.runs import RunStore

pytestmark = [
    pytest.mark.skipif(bool(one_node.missing()), reason="no SLURM here; python slurm/one_node.py install gets it"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[None]:
    base = tmp_path_factory.mktemp("slurm")
    before = os.environ.get("SLURM_CONF")
    one_node.start(base)
    yield
    one_node.stop(base)
    if before is None:
        del os.environ["SLURM_CONF"]


def until(true: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


def only(made: Sweep) -> str:
    (run_id,) = made.specs
    return run_id


def standing_of(made: Sweep) -> Standing:
    return standings(made, RunStore(made.out))[only(made)]


def has_reached(made: Sweep, epoch: int) -> bool:
    news = standing_of(made).news
    return bool(news and news["stage"] == "training" and news["state"]["epoch"] >= epoch)


def sent(made: Sweep, *changes: str) -> Sweep:
    send(made, list(made.specs), load_profile("cpu", ["time_min=30", "mem_gb=1", *changes]), 1)
    return made


def is_done(made: Sweep) -> bool:
    standing = standing_of(made)
    assert standing.stage in ("pending", "running", "unknown", "done"), standing
    return standing.stage == "done"


def restarts(made: Sweep) -> int:
    shown = subprocess.run(
        ["scontrol", "show", "job", standing_of(made).job], capture_output=True, text=True, check=True
    )
    found = re.search(r"Restarts=(\d+)", shown.stdout)
    assert found
    return int(found[1])


def first_steps(made: Sweep) -> list[tuple[int, int]]:
    """The first epoch and step that each start of the job spoke of."""
    (log,) = made.logs.glob(f"{standing_of(made).job}_0_log.out")
    starts = log.read_text().split("loading")[1:]
    said = (re.search(r"training epoch (\d+) of .* step (\d+)/", start) for start in starts)
    return [(int(found[1]), int(found[2])) for found in said if found]


def test_a_sweep_is_an_array_and_its_table_that_of_a_run_here(cluster, shop, tmp_path, capsys):
    common = ["--table", "3", "--dataset", str(shop), "--models", "SASRec,Popularity,BM25", "--scale", "sketch"]
    here, there = tmp_path / "here", tmp_path / "there"
    assert run.main([*common, "--seeds", "2", "--out", str(here)]) == 0
    profile = ["--profile", "cpu", "--slurm", "mem_gb=1", "--slurm", "time_min=10"]
    assert sweep.main([*common, "--seeds", "2", "--out", str(there), *profile]) == 0
    name = "table3.shop.sketch"
    until(
        lambda: sweep.main(["status", name, "--out", str(there)]) == 0 and ended(there, name), 120, "a sweep of 6 runs"
    )
    assert sweep.main(["collect", name, "--out", str(there)]) == 0
    jobs = [one.job for one in sweep.load_sweep(there / "sweeps" / name).sent()]
    assert [job.partition("_")[2] for job in jobs] == ["0", "1", "2", "3", "4", "5"]
    tables = [json.loads((out / "tables" / "table3.shop.json").read_text()) for out in (here, there)]
    rows = [{(r["method"], r["block"]): (r["status"], r["metrics"], r["runs"]) for r in t["rows"]} for t in tables]
    assert rows[0] == rows[1]
    assert sweep.main([*common, "--seeds", "2", "--out", str(there), *profile]) == 0
    assert "nothing to send" in capsys.readouterr().out


def ended(out: Path, name: str) -> bool:
    made = sweep.load_sweep(out / "sweeps" / name)
    return all(standing.stage == "done" for standing in standings(made, RunStore(out)).values())


def test_whatever_ends_a_job_nothing_is_lost(cluster, make_sweep, tmp_path, capsys):
    """One job meets its time limit, and others are preempted, queued again by hand, killed, cancelled or bad. All of
    the good ones come to the numbers of a job that nothing disturbed."""
    undisturbed = make_sweep(tmp_path / "undisturbed", epochs=10)
    assert RunJob(undisturbed.job(only(undisturbed), "cpu"), 1, undisturbed.news(only(undisturbed)), 1.0)() == "done"
    measured = RunStore(undisturbed.out).load(only(undisturbed))
    assert measured
    epoch = measured.record["training"]["processor_seconds"] / 10  # other programs and the loading do not count
    few, many = (max(20, math.ceil(seconds / epoch)) for seconds in (12, 35))

    limited = sent(make_sweep(tmp_path / "limited", epochs=many), "time_min=1", "signal_delay_s=30")
    names = ("undisturbed", "preempted", "requeued", "killed", "cancelled")
    disturbed = {name: make_sweep(tmp_path / f"few-{name}", epochs=few) for name in names}
    sent(disturbed["undisturbed"])
    sent(disturbed["preempted"], "partition=low", "extra=nodelist=127.0.0.2;exclusive")
    for name in ("requeued", "killed", "cancelled"):
        sent(disturbed[name])
    bad = sent(make_sweep(tmp_path / "bad", n_heads=7))

    preempting = make_sweep(tmp_path / "preempting")
    disturb = {
        "requeued": lambda: subprocess.run(["scontrol", "requeue", standing_of(disturbed["requeued"]).job], check=True),
        "killed": lambda: os.kill(process_of(disturbed["killed"]), signal.SIGKILL),
        "cancelled": lambda: command(disturbed["cancelled"], "cancel"),
        "preempted": lambda: sent(preempting, "partition=a100", "extra=nodelist=127.0.0.2;exclusive"),
    }
    while disturb:
        until(lambda: any(has_reached(disturbed[name], 3) for name in disturb), 120, f"{', '.join(disturb)}: too slow")
        name = next(name for name in disturb if has_reached(disturbed[name], 3))
        disturb.pop(name)()

    until(lambda: standing_of(disturbed["killed"]).stage == "killed", 60, "SLURM's word on the job that was killed")
    until(lambda: standing_of(disturbed["cancelled"]).stage == "cancelled", 60, "SLURM's word on the cancelled job")
    for name in ("killed", "cancelled"):
        assert command(disturbed[name], "retry", "--slurm", "mem_gb=2") == 0
    until(lambda: standing_of(bad).stage == "failed", 60, "the bad settings")
    assert "7" in standing_of(bad).detail

    for made in (*disturbed.values(), preempting, limited):
        until(lambda made=made: is_done(made), 240, f"{made.out.name}: {standing_of(made)}")
    expected = RunStore(disturbed["undisturbed"].out).load(only(disturbed["undisturbed"]))
    assert expected
    for made in disturbed.values():
        found = RunStore(made.out).load(only(made))
        assert found
        assert found.record["metrics"] == expected.record["metrics"]
        assert [p["epoch"] for p in found.record["training"]["curve"]] == list(range(1, few + 1))
        assert not RunStore(made.out).checkpoint_path(only(made)).exists()
    assert restarts(disturbed["undisturbed"]) == 0
    for made in (disturbed["preempted"], disturbed["requeued"], limited):
        assert restarts(made) >= 1
        assert first_steps(made)[1] > (1, 1)
    for name in ("killed", "cancelled"):
        assert len(disturbed[name].sent()) == 2
        assert first_steps(disturbed[name])[0] > (1, 1)
    assert "Caught signal SIGUSR2" in log_of(limited)
    assert "this job is preempted" in log_of(disturbed["preempted"])


def process_of(made: Sweep) -> int:
    news = standing_of(made).news
    assert news
    return int(news["process"])


def command(made: Sweep, word: str, *more: str) -> int:
    return sweep.main([word, made.name, "--out", str(made.out), *more])


def log_of(made: Sweep) -> str:
    return "".join(path.read_text() for path in made.logs.glob(f"{standing_of(made).job}_0_log.*"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("partition=gpus", "invalid partition"),
        ("time_min=90", "[Tt]ime limit"),
        ("gres=gpu:a100:9", "[Rr]equested node configuration is not available"),
        ("mem_gb=900", "[Mm]emory specification can not be satisfied"),
    ],
)
def test_an_impossible_request_says_why_and_leaves_the_sweep_as_it_was(
    cluster, make_sweep, tmp_path, capsys, change, why
):
    made = make_sweep(tmp_path)
    made.save()
    assert command(made, "retry", "--slurm", "time_min=10", "--slurm", change) == 2
    assert re.search(f"SLURM refused the job: .*{why}", capsys.readouterr().err.replace("\n", " "))
    assert made.sent() == []
    assert standing_of(made).stage == "unsent"


def test_pretend_gpus_are_given_out(cluster, make_sweep, tmp_path):
    """SLURM sets CUDA_VISIBLE_DEVICES where it gave a GPU."""
    made = sent(make_sweep(tmp_path), "gres=gpu:a100:1", "setup=echo gpu $CUDA_VISIBLE_DEVICES")
    until(lambda: is_done(made), 60, str(standing_of(made)))
    (log,) = made.logs.glob("*_0_log.out")
    assert re.search(r"^gpu [01]$", log.read_text(), re.MULTILINE)


def test_a_search_by_three_workers_of_which_one_is_killed(cluster, shop, tmp_path, capsys):
    """Eight trials: that of the killed worker is done again, none is counted twice, and the numbers of the first, which
    has the settings by hand, are those of a search in one process."""
    words = [
        "--model",
        "SASRec",
        "--dataset",
        str(shop),
        "--trials",
        "8",
        "--params",
        "hidden_dropout",
        "--scale",
        "smoke",
        "--set",
        "training.batch_size=16",
    ]
    there = [*words, "--out", str(tmp_path / "there"), "--executor", "slurm", "--workers", "3"]
    there += ["--slurm", "mem_gb=1", "--slurm", "time_min=10"]
    search = tune._search(tune.parser().parse_args(there))
    killed: list[str] = []

    def kill_one() -> None:
        """A job that is at the beginning of a trial that is not the first, which has seconds to go."""
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            time.sleep(0.2)
            for trial in running(study_of(search)) if search.journal.exists() else ():
                begun = 0 < len(trial.intermediate_values) <= 3
                if trial.number and begun and (worker := trial.user_attrs.get(WORKER)):
                    subprocess.run(["scancel", "--signal=KILL", "--full", worker], check=True)
                    killed.append(worker)
                    return

    killer = threading.Thread(target=kill_one)
    killer.start()
    assert tune.main(there) == 0
    killer.join()
    assert killed
    study = study_of(search)
    trials = kept(study)
    assert len(trials) == 8
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert len(study.get_trials()) == 9  # and the one that was lost
    assert len({str(values_of(trial)) for trial in trials}) == 8
    assert len({trial.user_attrs[WORKER] for trial in study.get_trials() if WORKER in trial.user_attrs}) >= 3
    assert tune.main([*words, "--trials", "1", "--out", str(tmp_path / "here"), "--workers", "1"]) == 0
    (first,) = kept(study_of(replace(search, folder=tmp_path / "here" / "studies")))
    assert trials[0].value == first.value
    capsys.readouterr()
    assert tune.main(there) == 0
    assert "goes on: 8 of 8 trials" in capsys.readouterr().out


def test_two_tasks_on_two_nodes_train_one_run(cluster, make_sweep, tmp_path):
    """Without dropout both train on the same batches; their losses weigh the users' first events a little differently,
    and their sums are rounded differently."""
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
    alone = sent(make_sweep(tmp_path / "alone", epochs=5, **still))
    both = sent(make_sweep(tmp_path / "both", epochs=5, **still), "nodes=2", "setup=export GLOO_SOCKET_IFNAME=lo")
    for made in (alone, both):
        until(lambda made=made: is_done(made), 120, str(standing_of(made)))
    expected, found = (RunStore(made.out).load(only(made)) for made in (alone, both))
    assert expected
    assert found
    assert found.record["processes"] == 2
    assert "processes" not in expected.record
    losses = ([point["loss"] for point in run.record["training"]["curve"]] for run in (expected, found))
    assert next(losses) == pytest.approx(next(losses), rel=0.01)
    assert found.record["training"]["best_metric"] == pytest.approx(
        expected.record["training"]["best_metric"], rel=0.02
    )


def test_a_failure_of_tasks_that_work_together_ends_them_all(cluster, make_sweep, tmp_path):
    bad = sent(make_sweep(tmp_path, n_heads=7), "nodes=2", "setup=export GLOO_SOCKET_IFNAME=lo")
    until(lambda: standing_of(bad).over, 90, str(standing_of(bad)))
    assert "7" in standing_of(bad).detail
