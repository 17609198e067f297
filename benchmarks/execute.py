"""Runs side by side, one process and one thread a core, with their progress on one queue."""

import multiprocessing
import os
import queue
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synergen.errors import UserError
from synergen.runs import RunSpec, RunStore

_REPORT_EVERY = 0.5
"""Seconds between two reports of a run."""
_LOOK_EVERY = 0.2
"""Seconds without news after which the processes are looked at."""


@dataclass(frozen=True)
class Job:
    """A run to do, and where its data are."""

    spec: RunSpec
    source: str
    out: Path
    device: str
    scale: str


@dataclass(frozen=True)
class Event:
    """News of a run: a stage (loading, text, training, testing, done, failed) and its state."""

    run_id: str
    stage: str
    state: dict[str, Any]


def run_all(jobs: list[Job], workers: int, threads: int, show: Callable[[Event], None]) -> dict[str, str]:
    """Do the jobs in order, at most `workers` at a time, each with `threads` threads.

    Returns: the message of each run that failed, by run id. What is finished is on disk whatever happens later; an
    unfinished run goes on from its last epoch when it is asked for again.

    Raises:
        KeyboardInterrupt: after the processes have been stopped.
    """
    context = multiprocessing.get_context("spawn")
    news: Any = context.Queue()
    waiting = list(jobs)
    running: dict[str, Any] = {}
    failed: dict[str, str] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                process = context.Process(target=_work, args=(job, threads, news), daemon=True)
                with child_environment(threads):
                    process.start()
                running[job.spec.id] = process
            dead = {run_id: process.exitcode for run_id, process in running.items() if process.exitcode}
            for event in _news(news):
                if event.stage == "failed":
                    failed[event.run_id] = event.state["why"]
                if event.stage in ("done", "failed"):
                    running.pop(event.run_id).join()
                show(event)
            for run_id in dead.keys() & running.keys():  # they said all that they had to say
                failed[run_id] = f"its process ended with status {dead[run_id]} (out of memory, or killed)"
                show(Event(run_id, "failed", {"why": failed[run_id]}))
                del running[run_id]
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.join(timeout=5)
    return failed


def _news(news: Any) -> Iterator[Event]:
    """All that has come, at most a fifth of a second after the last look."""
    with suppress(queue.Empty):
        yield news.get(timeout=_LOOK_EVERY)
        while True:
            yield news.get_nowait()


def run_here(jobs: list[Job], threads: int, show: Callable[[Event], None]) -> None:
    """Do the jobs one after another in this process, together with the others that torchrun started. The first failure
    ends them all: a process that failed alone would leave the others waiting."""
    import torch

    from benchmarks.job import execute

    torch.set_num_threads(threads)
    for job in jobs:

        def report(stage: str, state: dict[str, Any], run_id: str = job.spec.id) -> None:
            show(Event(run_id, stage, state))

        record = execute(job.spec, job.source, RunStore(job.out), job.device, job.scale, report).record
        report("done", {"seconds": record["seconds"], "training": record["training"]})


def child_variables(threads: int) -> dict[str, str]:
    """What a child's libraries read when they are loaded: their number of threads and, for the C library, to keep freed
    memory: training frees and asks for the same gigabyte at each step, a sixth of whose time went to page faults."""
    threading = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return threading | {
        "MALLOC_MMAP_THRESHOLD_": str(4 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(8 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
    }


@contextmanager
def child_environment(threads: int) -> Iterator[None]:
    """Processes that are started here have `child_variables`."""
    values = child_variables(threads)
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(job: Job, threads: int, news: Any) -> None:
    """The child process: one run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to answer
    parent = os.getppid()
    import torch

    from benchmarks.job import execute

    torch.set_num_threads(threads)
    run_id = job.spec.id
    last = 0.0

    def report(stage: str, state: dict[str, Any]) -> None:
        nonlocal last
        if os.getppid() != parent:
            os._exit(1)  # the parent was killed: nobody waits for this run
        if time.monotonic() - last >= _REPORT_EVERY or not state:
            last = time.monotonic()
            news.put(Event(run_id, stage, state))

    try:
        run = execute(job.spec, job.source, RunStore(job.out), job.device, job.scale, report)
        news.put(Event(run_id, "done", {"seconds": run.record["seconds"], "training": run.record["training"]}))
    except UserError as error:
        news.put(Event(run_id, "failed", {"why": str(error)}))
    except Exception:
        news.put(Event(run_id, "failed", {"why": traceback.format_exc()}))
