"""Runs of a sweep sent as jobs by submitit: an array on SLURM, or processes of this machine."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import submitit
import torch

from benchmarks.execute import Event, child_environment, child_variables
from slurm import scheduler
from slurm.job_profile import Profile, sbatch_parameters
from slurm.run_job import RunJob
from slurm.scheduler import Seen, State
from slurm.sweeps import Sent, Standing, Sweep, now
from synergen.errors import UserError
from synergen.runs import RunStore

EXECUTORS = ("slurm", "local", "debug")
"""SLURM; processes of this machine, sent in the same way; this process, for a debugger."""

ROOT = Path(__file__).resolve().parents[1]
_LOOK_EVERY = 2.0
"""Seconds between two looks at jobs."""
SPARE_SECONDS = 15
"""Of the signal's delay, for what comes after a checkpoint."""


def send(sweep: Sweep, run_ids: Sequence[str], profile: Profile, threads: int) -> list[Sent]:
    """Send runs to SLURM, as one array, and remember the jobs.

    Raises:
        UserError: there is no SLURM here, it refuses the jobs, or the folder cannot be written; then nothing is sent.
    """
    scheduler.refuse_no_slurm()
    sweep.save()
    sweep.forget_news(run_ids)
    executor = executor_of(profile, sweep.logs, sbatch_parameters(profile, sweep.name, ROOT, child_variables(threads)))
    try:
        with executor.batch():
            jobs = [executor.submit(_run_job(sweep, run_id, profile, threads)) for run_id in run_ids]
    except submitit.core.utils.FailedJobError as error:
        raise scheduler.refused(error) from error
    sent = [Sent(job.job_id, run_id, now(), "slurm") for job, run_id in zip(jobs, run_ids, strict=True)]
    try:
        sweep.note(sent)
    except UserError:
        scheduler.cancel([one.job for one in sent])  # or nobody would know of them
        raise
    return sent


def script(sweep: Sweep, jobs: int, profile: Profile, threads: int) -> str:
    """What sbatch would be given for an array of so many jobs."""
    parameters = sbatch_parameters(profile, sweep.name, ROOT, child_variables(threads))
    parameters |= {"map_count": jobs} if jobs > 1 else {}
    command = f"{_python(profile)} -u -m submitit.core._submit {sweep.logs}"
    made: str = submitit.slurm.slurm._make_sbatch_string(command=command, folder=sweep.logs, **parameters)
    return made


def standings(sweep: Sweep, store: RunStore) -> dict[str, Standing]:
    """How each run of a sweep stands now."""
    jobs = sweep.last_jobs()
    seen = scheduler.seen(one.job for one in jobs.values() if one.executor == "slurm")
    return {
        run_id: sweep.standing(run_id, store, job := jobs.get(run_id), seen.get(job.job) if job else None)
        for run_id in sweep.specs
    }


def run_all(
    sweep: Sweep,
    run_ids: Sequence[str],
    executor: str,
    profile: Profile,
    threads: int,
    show: Callable[[Event], None],
) -> dict[str, str]:
    """Send runs and wait for them, and for those that wait or run already; returns the message of each that failed, by
    run id.

    Raises:
        KeyboardInterrupt: jobs of SLURM are left alone, those of this machine are stopped.
        UserError: see `send`.
    """
    match executor:
        case "slurm":
            scheduler.refuse_no_slurm()
            before = standings(sweep, RunStore(sweep.out))
            free = [run_id for run_id in run_ids if before[run_id].over or before[run_id].stage == "unknown"]
            if free:
                send(sweep, free, profile, threads)
            return _watch(sweep, run_ids, show)
        case "local":
            return _side_by_side(sweep, run_ids, profile, threads, show)
    return _here(sweep, run_ids, profile, threads, show)


def _watch(sweep: Sweep, run_ids: Sequence[str], show: Callable[[Event], None]) -> dict[str, str]:
    store, failed, waiting = RunStore(sweep.out), {}, set(run_ids)
    while waiting:
        time.sleep(_LOOK_EVERY)
        for run_id, standing in standings(sweep, store).items():
            if run_id in waiting:
                show(event_of(run_id, standing))
                if standing.over:
                    waiting.discard(run_id)
                    if standing.stage != "done":
                        failed[run_id] = f"{standing.stage} (job {standing.job}) {standing.detail}".rstrip()
    return failed


def _side_by_side(
    sweep: Sweep, run_ids: Sequence[str], profile: Profile, threads: int, show: Callable[[Event], None]
) -> dict[str, str]:
    """On this machine, at most `array_parallelism` at a time."""
    sweep.save()
    sweep.forget_news(run_ids)
    executor = submitit.LocalExecutor(sweep.logs, max_num_timeout=profile.max_timeouts)
    executor.update_parameters(
        timeout_min=profile.time_min,
        signal_delay_s=profile.signal_delay_s,
        tasks_per_node=profile.ntasks_per_node,
        gpus_per_node=profile.gpus or 0,
    )
    store, failed, waiting = RunStore(sweep.out), {}, list(run_ids)
    running: dict[str, tuple[Any, Sent]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < profile.array_parallelism:
                run_id = waiting.pop(0)
                with child_environment(threads):
                    job = executor.submit(_run_job(sweep, run_id, profile, threads))
                running[run_id] = job, Sent(job.job_id, run_id, now(), "local")
                sweep.note([running[run_id][1]])
            time.sleep(_LOOK_EVERY / 4)
            for run_id, (job, sent) in list(running.items()):
                ended = job.done()
                state = State.ENDED if ended else State.RUNNING
                standing = sweep.standing(run_id, store, sent, Seen(state))
                if ended or standing.news:
                    show(event_of(run_id, standing))
                if ended:
                    del running[run_id]
                    if standing.stage != "done":
                        failed[run_id] = f"{standing.stage} (process {standing.job}) {standing.detail}".rstrip()
    finally:
        for job, _ in running.values():
            job.cancel()
    return failed


def _here(
    sweep: Sweep, run_ids: Sequence[str], profile: Profile, threads: int, show: Callable[[Event], None]
) -> dict[str, str]:
    """In this process, one after the other; whatever is no user's error ends in the debugger."""
    from benchmarks.job import execute

    torch.set_num_threads(threads)
    failed: dict[str, str] = {}

    def run(run_id: str) -> None:
        job = sweep.job(run_id, profile.device)

        def report(stage: str, state: dict[str, Any]) -> None:
            show(Event(run_id, stage, state))

        try:
            done = execute(job.spec, job.source, RunStore(job.out), job.device, job.scale, report).record
        except UserError as error:
            failed[run_id] = str(error)
            report("failed", {"why": str(error)})
        else:
            report("done", {"seconds": done["seconds"], "training": done["training"]})

    executor = submitit.DebugExecutor(sweep.logs)
    for run_id in run_ids:
        executor.submit(run, run_id).result()
    return failed


def event_of(run_id: str, standing: Standing) -> Event:
    """A standing as news for a display."""
    news = standing.news
    if standing.stage == "done":
        return (
            Event(run_id, "done", news["state"]) if news and news["stage"] == "done" else Event(run_id, "recorded", {})
        )
    if standing.stage == "running" and news and news["stage"] != "failed":
        return Event(run_id, news["stage"], news["state"])
    if standing.over:
        return Event(run_id, "failed", {"why": f"{standing.stage} {standing.detail}".rstrip()})
    return Event(run_id, standing.stage, {"why": standing.detail})


def _run_job(sweep: Sweep, run_id: str, profile: Profile, threads: int) -> RunJob:
    patience = max(1.0, profile.signal_delay_s - SPARE_SECONDS)
    return RunJob(sweep.job(run_id, profile.device), threads, sweep.news(run_id), patience)


def executor_of(profile: Profile, logs: Path, parameters: dict[str, Any]) -> submitit.SlurmExecutor:
    """Of jobs that write their output into `logs`; see `sbatch_parameters`."""
    executor = submitit.SlurmExecutor(logs, max_num_timeout=profile.max_timeouts, python=_python(profile))
    executor.update_parameters(**parameters)
    return executor


def _python(profile: Profile) -> str:
    start = Path(__file__).with_name("start.py")
    return f"{profile.container} {shlex.quote(sys.executable)} -I {shlex.quote(str(start))}".strip()
