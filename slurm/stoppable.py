"""Work that a cluster may end at any time: told so, it saves its state, and goes on in another job."""

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Self

import submitit

from slurm.start import ENDING


class Stoppable(ABC):
    """A dataclass that submitit pickles, calls in the job, and asks for a `checkpoint` before the job is ended.

    The work is done in a thread of its own: submitit's handler of the signal holds the main one, and waits there for
    the end of the step and for the state to be saved.
    """

    patience: float
    """Seconds that a checkpoint waits for the step under way. What takes longer is given up: the work then goes on from
    the last state that was saved."""

    @abstractmethod
    def work(self, stop: Callable[[], bool]) -> Any:
        """All of it, from where it was left; returns early where `stop` says yes."""

    def __call__(self) -> Any:
        """Do the work; returns what it returns.

        Raises:
            Exception: what the work raises.
        """
        self._ending = threading.Event()
        self._result: Any = None
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._run, daemon=True)
        self._worker.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)  # one that came while Python was loading is answered now
        while self._worker.is_alive():  # a signal is answered between two of these
            self._worker.join(0.2)
        if self._error:
            raise self._error
        return self._result

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Let the work end; the job that goes on with it."""
        self._ending.set()
        self._worker.join(self.patience)
        return submitit.helpers.DelayedSubmission(self.again())

    def again(self) -> Self:
        """A copy that has done nothing yet."""
        return replace(self)  # type: ignore[type-var]

    def _run(self) -> None:
        try:
            self._result = self.work(self._ending.is_set)
        except BaseException as error:
            self._error = error
