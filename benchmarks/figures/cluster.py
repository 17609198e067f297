"""Jobs of a cluster, one training by two processes, and one table in two."""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from benchmarks.campaign import Campaign, add_arguments
from benchmarks.execute import Event
from benchmarks.figures import made_up
from benchmarks.measure import Setting, Value, figure, median_ratio, milliseconds
from slurm.job_profile import Profile
from slurm.submit import ROOT, run_all
from slurm.sweeps import Sweep, sweep_of
from synergen import distributed
from synergen.errors import UserError
from synergen.model.synergen import SynerGen
from synergen.runs import RunStore
from synergen.sharded_table import tables_of
from synergen.training.step import make_optimiser, take_step

_JOBS = 40
_BARE = """\
import json, sys
from pathlib import Path
from typing import Any
from benchmarks.job import execute
from synergen.runs import RunSpec, RunStore
sweep, out, at = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), int(sys.argv[3])
spec = RunSpec(**list(sweep["runs"].values())[at]["spec"])
execute(spec, sweep["source"], RunStore(out), "cpu", sweep["scale"], lambda stage, state: None)
"""


@figure("x", 1.5, "lower", None, needs="SLURM_CONF")
def sweep_overhead(setting: Setting) -> Value:
    """Time of a sweep of 40 runs on the SLURM of this machine over that of a bare `sbatch --array` of the same 40 runs.

    The runs are of Popularity on ml-100k, seeds 0 to 39, each a process that loads torch and the data: next to nothing
    is trained. Measured once each, from the submission to the last record. `python slurm/one_node.py start DIR` makes a
    SLURM; `. DIR/env.sh` sets the variable.
    """
    with tempfile.TemporaryDirectory() as folder:
        ours = _sweep(Path(folder) / "ours", "3", "Popularity", _JOBS)
        profile = Profile(device="cpu", time_min=10, mem_gb=1)
        sweep_seconds = _seconds(lambda: _all_well(run_all(ours, list(ours.specs), "slurm", profile, 1, _silent)))
        bare = Path(folder) / "bare"
        (bare / "runs").mkdir(parents=True)
        (bare / "one.py").write_text(_BARE, encoding="utf-8")
        command = f"{sys.executable} {bare / 'one.py'} {ours.folder / 'sweep.json'} {bare} $SLURM_ARRAY_TASK_ID"
        script = f"#!/bin/bash\nexport PYTHONPATH={ROOT} OMP_NUM_THREADS=1\nsrun {command}\n"
        (bare / "jobs.sh").write_text(script, encoding="utf-8")
        options = [f"--array=0-{_JOBS - 1}", "--mem=1024", "--time=10", f"--output={bare}/%a.log", "--wait"]
        bare_seconds = _seconds(
            lambda: subprocess.run(["sbatch", *options, str(bare / "jobs.sh")], check=True, capture_output=True)
        )
        if len(RunStore(bare).records()) != _JOBS:
            raise UserError(f"the bare jobs failed: {(bare / '0.log').read_text()[-500:]}")
    return Value(sweep_seconds / bare_seconds, f"{sweep_seconds:.0f} s against {bare_seconds:.0f} s")


@figure("", 0.005, "lower", None, threads=1)
def ddp_equal(setting: Setting) -> Value:
    """How far validation NDCG@10 of a training by two processes is from that by one, as a share of it.

    SASRec on ml-100k, Table 2, five epochs with the same batches, of which each process takes half; without dropout,
    whose random numbers would differ, and in float32: how bf16 rounds depends on the shapes.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder:
        trainer = {"max_epochs": 5, "patience": 5, "precision": "fp32"}
        for processes in (1, 2):
            sweep = _sweep(Path(folder) / str(processes), "2", "SASRec", 1, trainer)
            profile = Profile(device="cpu", time_min=60, ntasks_per_node=processes)
            _all_well(run_all(sweep, list(sweep.specs), "local", profile, 1, _silent))
            (record,) = RunStore(sweep.out).records()
            found.append(record["training"]["curve"][-1]["metric"])
    return Value(abs(found[1] / found[0] - 1), f"{found[1]:.4f} by two, {found[0]:.4f} by one")


@figure("x", None, "lower", torch.float32, threads=1, needs="torchrec")
def sharded_step(setting: Setting) -> Value:
    """Time of a training step of two processes that share a table of 2,000,000 x 64 by TorchRec over that of one with a
    plain table, whose optimiser updates the rows read. The same batch, of which each of two takes half; a thread a
    process, so that 0.5 would be perfect on two cores.

    SynerGen as in step_time_vs_items; on gloo, where the exchange goes through this machine's memory.
    """
    two, one = (_step_seconds(processes, setting.repeats) for processes in (2, 1))
    return Value(median_ratio(two, one), f"{milliseconds(two)} against {milliseconds(one)}")


_SHARED_ROWS, _STEPS = 2_000_000, 5


def _step_seconds(processes: int, repeats: int) -> list[float]:
    """Seconds of a step in each repeat, as the first process measures it."""
    with tempfile.TemporaryDirectory() as folder:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        multiprocessing.spawn(_time_steps, (processes, port, repeats, folder), nprocs=processes)
        return json.loads((Path(folder) / "seconds.json").read_text())


def _time_steps(rank: int, processes: int, port: int, repeats: int, folder: str) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.set_num_threads(1)
    with distributed.joined("cpu"):
        torch.manual_seed(0)
        embedding = "torchrec" if processes > 1 else "plain"
        settings = {"embedding": embedding, "inputs": "id", "easy": "uniform", "easy_negatives": 512, "alpha": 1.0}
        model = SynerGen(made_up.catalogue(_SHARED_ROWS), **settings).train()
        for table in tables_of(model).values():
            table.set_rate(3e-3)
        optimiser = make_optimiser(model, {"dense": 1e-3, "sparse": 3e-3}, 0.0, by_rows=True)
        loss_of = distributed.shared(model)
        batch, _ = distributed.share_of(made_up.training_batch(128, 50, _SHARED_ROWS))

        def steps() -> None:
            for _ in range(_STEPS):
                take_step(model, optimiser, batch, 5.0, None, loss_of)

        steps()
        seconds = [_seconds(steps) / _STEPS for _ in range(repeats)]
    if rank == 0:
        (Path(folder) / "seconds.json").write_text(json.dumps(seconds))


def _sweep(out: Path, table: str, model: str, seeds: int, trainer: dict[str, Any] | None = None) -> Sweep:
    p = argparse.ArgumentParser()
    add_arguments(p, "smoke")
    words = ["--table", table, "--models", model, "--seeds", str(seeds), "--out", str(out)]
    campaign = Campaign.asked(p.parse_args(words))
    still = {"hidden_dropout": 0.0, "attention_dropout": 0.0} if model == "SASRec" else {}
    runs = {}
    for run in campaign.wanted[model]:
        changed = replace(run, settings=run.settings | still, trainer=run.trainer | (trainer or {}))
        runs[changed.id] = (model, changed)
    return sweep_of(campaign, Profile(device="cpu"), runs)


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _all_well(failed: dict[str, str]) -> None:
    if failed:
        raise UserError("\n".join(failed.values()))


def _silent(event: Event) -> None:
    pass
