"""Worker processes that train the trials of a search."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from optuna import TrialPruned
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.execute import child_environment
from benchmarks.tuning.study import BY_HAND, PROCESS, WHY, Search, alone, claim, kept
from synergen.errors import UserError

_LOOK_EVERY = 0.5
"""Seconds between two looks at the journal."""


def search_until(
    search: Search, trials: int, workers: int, threads: int, show: Callable[[list[FrozenTrial]], None]
) -> Study:
    """Train until the study has `trials` trials, `workers` of them side by side.

    A trial that fails, or whose process dies, counts and is marked. What is finished stays whatever happens later.

    Args:
        show: called now and then with all trials in order.

    Raises:
        KeyboardInterrupt: after the processes have been stopped.
        UserError: a process ended before its first trial, or another command works on the study.
    """
    context = multiprocessing.get_context("spawn")
    running: list[Any] = []

    def start() -> None:
        process = context.Process(target=_work, args=(search, trials, threads), daemon=True)
        with child_environment(threads):
            process.start()
        running.append(process)

    with alone(search) as study:
        try:
            for _ in range(min(workers, trials - sum(trial.state.is_finished() for trial in kept(study)))):
                start()
            while running:
                show(kept(study))
                time.sleep(_LOOK_EVERY)
                for process in [process for process in running if process.exitcode is not None]:
                    running.remove(process)
                    if process.exitcode:
                        _fail_trial_of(process, study)
                        start()
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.join(timeout=5)
        show(kept(study))
    return study


def _fail_trial_of(process: Any, study: Study) -> None:
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        if trial.user_attrs.get(PROCESS) == process.pid:
            study.tell(trial.number, state=TrialState.FAIL)
            return
    raise UserError(f"a process of the search ended with status {process.exitcode} before it trained anything")


def _work(search: Search, trials: int, threads: int) -> None:
    """The worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    while (trial := claim(search, trials)) is not None:
        trial.set_user_attr(PROCESS, os.getpid())
        _try(trial, search)


def _end_with_parent() -> None:
    """Whoever starts the search again must find nobody at work on it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _try(trial: Trial, search: Search) -> None:
    from benchmarks.tuning.trial import best_validation

    def seen(epoch: int, metric: float) -> None:
        trial.report(metric, epoch)
        if BY_HAND not in trial.user_attrs and trial.should_prune():
            raise TrialPruned

    checkpoint = search.scratch / f"{trial.number}.pt"
    try:
        best = best_validation(search.spec(trial), search.source, search.device, checkpoint, seen)
    except TrialPruned:
        trial.study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:  # of this trial's values, as far as anyone can tell
        trial.set_user_attr(WHY, str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}")
        trial.study.tell(trial, state=TrialState.FAIL)
    else:
        trial.study.tell(trial, best)
