"""A run as the job of a cluster: it says how it stands, and goes on where it was."""

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from benchmarks.execute import Job
from benchmarks.progress import Pace, describe
from slurm.stoppable import Stoppable
from synergen.errors import UserError
from synergen.files import write_json

_SAY_EVERY = 5.0
"""Seconds between two pieces of news."""


@dataclass
class RunJob(Stoppable):
    """A run, or what is left of it."""

    job: Job
    threads: int
    news: Path
    """Where the job says how it stands."""
    patience: float

    def work(self, stop: Callable[[], bool]) -> str:
        """Do the run; returns `done`, `failed` or `stopped`.

        A failure is news and not an exception: the job itself did well. Of several processes it ends all.
        """
        import torch

        from benchmarks.job import execute
        from synergen import distributed
        from synergen.runs import RunStore
        from synergen.training.trainer import Interrupted

        torch.set_num_threads(self.threads)
        pace, last, said = Pace(), 0.0, ""

        def report(stage: str, state: dict[str, Any]) -> None:
            nonlocal last, said
            if stage != said or time.monotonic() - last >= _SAY_EVERY:
                last, said = time.monotonic(), stage
                self._say(stage, state, pace)

        job = self.job
        several = _name_the_processes()
        try:
            with distributed.joined(job.device) as device:
                record = execute(job.spec, job.source, RunStore(job.out), device, job.scale, report, stop).record
        except Interrupted:
            return "stopped"
        except Exception as error:
            self._say("failed", {"why": str(error) if isinstance(error, UserError) else traceback.format_exc()}, pace)
            if several:
                raise  # the others must not wait for this process
            return "failed"
        self._say("done", {"seconds": record["seconds"], "training": record["training"]}, pace)
        return "done"

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the run save its state and end; the job that goes on with it."""
        delayed = super().checkpoint()
        self._say("waiting", {"why": "its turn to go on"}, Pace())
        return delayed

    def _say(self, stage: str, state: dict[str, Any], pace: Pace) -> None:
        from synergen import distributed

        if distributed.rank():
            return
        where = {"host": socket.gethostname(), "process": os.getpid()}
        print(stage, describe(stage, state, pace), flush=True)
        try:
            write_json(self.news, {"stage": stage, "state": state, **where})
        except UserError as error:  # a full disk must not end a training that needs no disk now
            print(f"news of {self.job.spec.id}: {stage} {state} ({error})", file=sys.stderr, flush=True)


def _name_the_processes() -> bool:
    """Tell torch of the tasks of this job, where there are several."""
    task = submitit.JobEnvironment() if "SUBMITIT_EXECUTOR" in os.environ else None
    if task is None or task.num_tasks == 1:
        return False
    submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return True
