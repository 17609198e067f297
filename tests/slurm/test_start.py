"""A signal that comes while a job's Python still loads is answered once somebody can."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from slurm import start
from slurm.stoppable import Stoppable

LOADING = """
import signal, sys, time
print("loading", flush=True)
time.sleep(0.5)
signal.signal(signal.SIGUSR2, lambda number, frame: print("answered", flush=True))
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})
"""


@pytest.mark.parametrize(
    ("launcher", "status", "said"), [(["-I", start.__file__], 0, "answered\n"), ([], -signal.SIGUSR2, "")]
)
def test_a_signal_while_python_loads_is_kept(launcher, status, said):
    """Without the launcher it ends the process, as signal(7) says of signals without a handler."""
    command = [sys.executable, *launcher, "-c", LOADING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGUSR2)
        assert process.stdout.read() == said
    assert process.returncode == status


@dataclass
class Waiting(Stoppable):
    """Works until it is told to stop."""

    patience: float = 5.0

    def work(self, stop: Callable[[], bool]) -> str:
        deadline = time.monotonic() + 20
        while not stop() and time.monotonic() < deadline:
            time.sleep(0.01)
        return "stopped" if stop() else "not told"


def test_work_is_told_of_a_signal_that_waited():
    """As submitit does: a handler that asks for the checkpoint, set before the work is called."""
    waiting = Waiting()
    before = signal.signal(signal.SIGUSR2, lambda number, frame: waiting.checkpoint())
    signal.pthread_sigmask(signal.SIG_BLOCK, start.ENDING)
    try:
        signal.raise_signal(signal.SIGUSR2)
        assert waiting() == "stopped"
        assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & start.ENDING
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, start.ENDING)
        signal.signal(signal.SIGUSR2, before)
