"""A run as the job of a cluster: it says how it stands, saves its state when it is told to end, and goes on."""

import os
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from benchmarks.execute import Job
from benchmarks.progress import Pace, describe
from synergen.errors import UserError
from synergen.files import write_json

_SAY_EVERY = 5.0
"""Seconds between two pieces of news."""


@dataclass
class RunJob:
    """A callable that submitit pickles, calls in the job, and asks for a `checkpoint` before the job is ended.

    The run works in a thread of its own: submitit's handler of the signal holds the main one, and waits there for the
    end of the step and for the state to be saved.
    """

    job: Job
    threads: int
    news: Path
    """Where the job says how it stands."""
    patience: float
    """Seconds that a checkpoint waits for the step under way. What takes longer is given up: the run then goes on from
    its last checkpoint."""

    def __call__(self) -> str:
        """Do the run, or go on with it; returns `done` or `failed`.

        A failure that a person can act on is news and not an exception: the job itself did well.
        """
        self._ending = threading.Event()
        self._worker = threading.Thread(target=self._run, daemon=True)
        self._outcome, self._pace = "", Pace()
        self._worker.start()
        while self._worker.is_alive():  # a signal is answered between two of these
            self._worker.join(0.2)
        return self._outcome

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the run save its state and end; the job that goes on with it."""
        self._ending.set()
        self._worker.join(self.patience)
        self._say("waiting", {"why": "its turn to go on"})
        return submitit.helpers.DelayedSubmission(RunJob(self.job, self.threads, self.news, self.patience))

    def _run(self) -> None:
        import torch

        from benchmarks.job import execute
        from synergen.runs import RunStore
        from synergen.training.trainer import Interrupted

        torch.set_num_threads(self.threads)
        last = 0.0

        def report(stage: str, state: dict[str, Any]) -> None:
            nonlocal last
            if time.monotonic() - last >= _SAY_EVERY or not state:
                last = time.monotonic()
                self._say(stage, state)

        store = RunStore(self.job.out)
        try:
            run = execute(self.job.spec, self.job.source, store, self.job.device, self.job.scale, report, self._stop)
            self._say("done", {"seconds": run.record["seconds"], "training": run.record["training"]})
            self._outcome = "done"
        except Interrupted:
            return
        except UserError as error:
            self._fail(str(error))
        except Exception:
            self._fail(traceback.format_exc())

    def _stop(self) -> bool:
        return self._ending.is_set()

    def _fail(self, why: str) -> None:
        self._say("failed", {"why": why})
        self._outcome = "failed"

    def _say(self, stage: str, state: dict[str, Any]) -> None:
        where = {"host": socket.gethostname(), "process": os.getpid()}
        print(stage, describe(stage, state, self._pace), flush=True)
        try:
            write_json(self.news, {"stage": stage, "state": state, **where})
        except UserError as error:  # a full disk must not end a training that needs no disk now
            print(f"news of {self.job.spec.id}: {stage} {state} ({error})", file=sys.stderr, flush=True)
