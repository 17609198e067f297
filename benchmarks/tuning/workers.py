"""The workers of a search: who trains its trials, and what becomes of the trials of those that die."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from optuna import TrialPruned
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.execute import child_environment
from benchmarks.tuning.study import BY_HAND, WHY, Search, alone, claim, kept, lost, noted_workers, worked
from synergen.errors import UserError
from synergen.training.trainer import Interrupted


class Pool(Protocol):
    """Workers of one kind: each does trials until the study has enough of them."""

    retries: bool
    """Whether the trial of a worker that died is done again, once: where others' troubles may have been the cause."""
    look_every: float
    """Seconds between two looks at the workers."""

    def start(self, search: Search, trials: int) -> str:
        """One more; returns its name."""

    def alive(self, workers: Iterable[str]) -> set[str]:
        """Which of some workers work, or wait for their turn."""

    def died(self, worker: str) -> str:
        """What is known of the end of a worker that did not end by itself, else an empty text."""

    def stop(self, workers: Iterable[str]) -> None:
        """End workers now."""


def search_until(
    search: Search, trials: int, workers: int, pool: Pool, show: Callable[[list[FrozenTrial]], None]
) -> Study:
    """Train until the study has `trials` trials, with as many workers of a pool.

    A trial that fails, or whose worker dies, counts and is marked. What is finished stays whatever happens later.

    Args:
        show: called now and then with all trials in order.

    Raises:
        KeyboardInterrupt: after the workers have been stopped.
        UserError: a worker ended before its first trial, or another command works on the study.
    """
    with alone(search, pool.alive) as study:
        names = pool.alive(noted_workers(search))  # with those that wait, or are between two trials
        try:
            open_trials = trials - sum(trial.state.is_finished() for trial in kept(study))
            while len(names) < min(workers, open_trials):
                names.add(pool.start(search, trials))
            while names:
                show(kept(study))
                time.sleep(pool.look_every)
                for worker in names - pool.alive(names):
                    names.discard(worker)
                    if why := pool.died(worker):
                        if not lost(study, worker, pool.retries) and not worked(study, worker):
                            raise UserError(f"a worker of the search ended before it trained anything: {why}")
                        names.add(pool.start(search, trials))
        finally:
            pool.stop(names)
        show(kept(study))
    return study


@dataclass
class Processes:
    """Workers that are processes of this command, which do not outlive it."""

    threads: int
    retries: bool = False
    look_every: float = 0.5
    _processes: dict[str, Any] = field(default_factory=dict)

    def start(self, search: Search, trials: int) -> str:
        process = multiprocessing.get_context("spawn").Process(
            target=_work, args=(search, trials, self.threads), daemon=True
        )
        with child_environment(self.threads):
            process.start()
        self._processes[str(process.pid)] = process
        return str(process.pid)

    def alive(self, workers: Iterable[str]) -> set[str]:
        return {name for name in workers if name in self._processes and self._processes[name].exitcode is None}

    def died(self, worker: str) -> str:
        status = self._processes[worker].exitcode
        return f"status {status}" if status else ""

    def stop(self, workers: Iterable[str]) -> None:
        for worker in workers:
            self._processes[worker].terminate()
        for worker in workers:
            self._processes[worker].join(timeout=5)


def work(search: Search, trials: int, worker: str, stop: Callable[[], bool] = lambda: False) -> None:
    """Do trials until the study has enough of them, or `stop` says yes; then the one under way goes on when the worker
    does."""
    while not stop() and (trial := claim(search, trials, worker)) is not None:
        attempt(trial, search, stop)


def attempt(trial: Trial, search: Search, stop: Callable[[], bool] = lambda: False) -> None:
    """One trial: trained, pruned, failed, or left as it is where `stop` said yes."""
    from benchmarks.tuning.trial import best_validation

    def seen(epoch: int, metric: float) -> None:
        if search.pareto:  # Optuna prunes by one metric only
            return
        trial.report(metric, epoch)
        if BY_HAND not in trial.user_attrs and trial.should_prune():
            raise TrialPruned

    checkpoint = search.scratch / f"{trial.number}.pt"
    try:
        best = best_validation(search.spec(trial), search.source, search.device, checkpoint, seen, stop)
    except Interrupted:
        return
    except TrialPruned:
        trial.study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:  # of this trial's values, as far as anyone can tell
        trial.set_user_attr(WHY, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        trial.study.tell(trial, state=TrialState.FAIL)
    else:
        first, *of_tasks = best.values()
        trial.study.tell(trial, of_tasks if search.pareto else first)


def _work(search: Search, trials: int, threads: int) -> None:
    """The worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    work(search, trials, str(os.getpid()))


def _end_with_parent() -> None:
    """Whoever starts the search again must find nobody at work on it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
