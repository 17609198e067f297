"""A search on disk: an Optuna study whose trials are trainings, one after another in each worker process.

The journal holds everything: workers write it, the command reads it. The random numbers of a trial depend on its number
in the study alone, so that one worker finds the same trials whether or not it was stopped in between.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import distribution_to_json
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from benchmarks.plan import complete_values
from benchmarks.tuning.space import Space, changed, placed
from synergen.errors import UserError
from synergen.files import canonical_json, digest
from synergen.runs import RunSpec

BY_HAND = "by hand"
"""Attribute of the trial that has the model's configuration as it was."""
WHY = "why"
"""Attribute of a failed trial: the message."""
TASK, CANDIDATES = "task", "candidates"
"""Attributes of a study: what its trials are trained for, and among what they are ranked."""
WORKER = "worker"
"""Attribute of a trial: the process or job that trains it."""

_INTERRUPTED = "interrupted"
_RETRIED = "retried"
_RANDOM_TRIALS = 4
"""Trials before the sampler learns from them, and before any is pruned; Optuna's own ten would be most of a budget."""
_UNPRUNED_EPOCHS = 4


@dataclass(frozen=True)
class Search:
    """What is searched, and everything that its results depend on."""

    base: RunSpec
    """The configuration by hand, with which the search begins."""
    space: Space
    source: str
    """The name or folder of the data set."""
    data: str
    """The hash of its files."""
    scale: str
    folder: Path
    """Of the journals."""
    device: str
    pareto: bool = False
    """Whether the metrics of both tasks are sought apart, for their Pareto front, and not their mean."""
    fixed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Values of the base, by section and key, that were asked for in place of the configuration's."""
    finalists: tuple[dict[str, Any], ...] = ()
    """Values by place that are tried right after those by hand: the best ones of a search at a smaller scale."""

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits: of the run that it begins with, the space, the data, whether both tasks are sought
        apart, and the finalists."""
        space = {place: distribution_to_json(one) for place, one in self.space.items()}
        more = ["pareto"] * self.pareto + [canonical_json(values) for values in self.finalists]
        return digest(self.base.id, canonical_json(space), self.data, *more)[:12]

    @property
    def stem(self) -> str:
        """What its files are named after."""
        return f"{self.base.dataset}.{self.base.model}"

    @property
    def shown_as(self) -> str:
        """What its pictures and its CSV are named after; a search for both tasks does not replace those for one."""
        return f"{self.stem}.joint" if self.base.task == "joint" else self.stem

    @property
    def journal(self) -> Path:
        """The file of all searches of this model on this data set."""
        return self.folder / f"{self.stem}.journal"

    @property
    def scratch(self) -> Path:
        """The folder of unfinished trainings."""
        return self.folder / f"{self.stem}.unfinished"

    @property
    def by_hand(self) -> dict[str, Any]:
        """The values with which it begins, by place."""
        values = placed(complete_values(self.base))
        return {place: values[place] for place in self.space}

    def spec(self, trial: Trial | FrozenTrial) -> RunSpec:
        """The run of a trial."""
        return changed(self.base, values_of(trial))


def values_of(trial: Trial | FrozenTrial) -> dict[str, Any]:
    """A trial's values by place, of four digits each, so that what is trained is what a person can copy."""
    return {place: float(f"{v:.4g}") if isinstance(v, float) else v for place, v in trial.params.items()}


@contextmanager
def alone(search: Search, alive: Callable[[Iterable[str]], set[str]] = lambda workers: set()) -> Iterator[Study]:
    """The study, made ready to go on, while no other command works on it; what was interrupted waits to be done again.

    Args:
        alive: which of some workers, that an earlier command started, still work; their trials are left to them.

    Raises:
        UserError: another command works on it, or the folder cannot be written.
    """
    lock = FileLock(search.folder / f"{search.stem}.running", timeout=0)
    try:
        search.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        working = alive(noted_workers(search))
        if not working:
            shutil.rmtree(search.scratch, ignore_errors=True)
            optunas = search.journal.with_name(f"{search.journal.name}.lock")  # of a killed process
            optunas.unlink(missing_ok=True)
            _drop_half_a_line(search.journal)
        search.scratch.mkdir(exist_ok=True)
    except Timeout as error:
        raise UserError(
            f"{search.journal}: another search works on it; wait for its end, or use another --out"
        ) from error
    except OSError as error:
        raise UserError(f"cannot write {search.folder}: {error.strerror or error}; choose a writable --out") from error
    try:
        study = study_of(search)
        if not study.get_trials(deepcopy=False):
            study.set_user_attr(TASK, search.base.task)
            study.set_user_attr(CANDIDATES, search.base.protocol["candidates"])
            study.enqueue_trial(search.by_hand, user_attrs={BY_HAND: True})
            for values in search.finalists:
                study.enqueue_trial(values)
        for trial in running(study):
            if trial.user_attrs.get(WORKER) not in working:
                _again(study, trial)
        yield study
    finally:
        shutil.rmtree(search.scratch, ignore_errors=True)
        _workers_file(search).unlink(missing_ok=True)
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def note_worker(search: Search, worker: str) -> None:
    """Let a later command know of a worker that may outlive this one."""
    with open(_workers_file(search), "a", encoding="utf-8") as file:
        file.write(f"{worker}\n")


def noted_workers(search: Search) -> list[str]:
    """The workers of earlier commands that may still be there."""
    path = _workers_file(search)
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def claim(search: Search, trials: int, worker: str = "") -> Trial | None:
    """The next trial for a worker to train, or None where the study has `trials` of them. A worker that was stopped and
    goes on gets the one that it was at."""
    study = study_of(search)
    with FileLock(search.scratch / "claim.lock"):
        own = [trial for trial in running(study) if worker and trial.user_attrs.get(WORKER) == worker]
        if own:
            return Trial(study, own[0]._trial_id)
        known = kept(study)
        if len(known) >= trials and all(trial.state != TrialState.WAITING for trial in known):
            return None
        number = sum(trial.state != TrialState.WAITING for trial in known)
        study.sampler = TPESampler(seed=number, n_startup_trials=_RANDOM_TRIALS, constant_liar=True)
        trial = study.ask(search.space)
        trial.set_user_attr(WORKER, worker)
        return trial


def lost(study: Study, worker: str, retry: bool) -> bool:
    """A worker is gone; its trial has failed or, once and if it may, is done again. False where it was at none."""
    for trial in running(study):
        if trial.user_attrs.get(WORKER) == worker:
            if retry and _RETRIED not in trial.user_attrs:
                _again(study, trial, retried=True)
            else:
                study.tell(trial.number, state=TrialState.FAIL)
            return True
    return False


def worked(study: Study, worker: str) -> bool:
    """Whether a worker was ever at a trial."""
    return any(trial.user_attrs.get(WORKER) == worker for trial in study.get_trials(deepcopy=False))


def running(study: Study) -> list[FrozenTrial]:
    """The trials that somebody works on, or did when it was stopped."""
    return study.get_trials(states=(TrialState.RUNNING,))


def reached(trial: FrozenTrial) -> float:
    """What a trial came to, where two metrics are sought their mean; NaN where it came to nothing."""
    return float(np.mean(trial.values)) if trial.values else float("nan")


def kept(study: Study) -> list[FrozenTrial]:
    """The trials of a study in order, without those that were interrupted and done again."""
    interrupted = set(study.user_attrs.get(_INTERRUPTED, ()))
    return [trial for trial in study.get_trials(deepcopy=False) if trial.number not in interrupted]


def ranked(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Those that were trained to their end, best first; where two metrics are sought, by their mean."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    return sorted(complete, key=lambda trial: -reached(trial))


def study_of(search: Search) -> Study:
    """The study on disk, begun where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(search.journal))),
        study_name=f"{search.stem}.{search.id}",
        directions=["maximize", "maximize"] if search.pareto else ["maximize"],
        load_if_exists=True,
        pruner=MedianPruner(_RANDOM_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS),
    )


def _again(study: Study, trial: FrozenTrial, retried: bool = False) -> None:
    """Let a trial whose worker was stopped be done again, with the same values."""
    attributes: dict[str, Any] = {BY_HAND: True} if BY_HAND in trial.user_attrs else {}
    study.enqueue_trial(trial.params, user_attrs=attributes | ({_RETRIED: True} if retried else {}))
    study.set_user_attr(_INTERRUPTED, [*study.user_attrs.get(_INTERRUPTED, []), trial.number])
    study.tell(trial.number, state=TrialState.FAIL)


def _workers_file(search: Search) -> Path:
    return search.folder / f"{search.stem}.workers"


def _drop_half_a_line(journal: Path) -> None:
    """Cut off what a full disk or a power cut left of a last line: Optuna would write on in the same line."""
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with open(journal, "r+b") as file:
                file.truncate(whole)
