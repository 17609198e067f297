"""Workers of a search for settings that are jobs of SLURM: each asks for trials until the study has enough of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import submitit

from benchmarks.execute import child_variables
from benchmarks.tuning.study import Search, note_worker
from slurm import scheduler
from slurm.job_profile import Profile, sbatch_parameters
from slurm.scheduler import State
from slurm.stoppable import Stoppable
from slurm.submit import ROOT, SPARE_SECONDS, executor_of


@dataclass
class SearchJob(Stoppable):
    """A worker. Its name is the id of its job, which stays when it is queued again: it then goes on with its trial."""

    search: Search
    trials: int
    threads: int
    patience: float

    def work(self, stop: Callable[[], bool]) -> None:
        """Do trials until there are enough."""
        import torch

        from benchmarks.tuning.workers import work

        torch.set_num_threads(self.threads)
        work(self.search, self.trials, submitit.JobEnvironment().job_id, stop)


@dataclass
class Jobs:
    """A pool of such workers. They outlive a command that was killed, and the next one knows of them."""

    profile: Profile
    threads: int
    retries: bool = True
    look_every: float = 3.0

    def start(self, search: Search, trials: int) -> str:
        """One more job.

        Raises:
            UserError: there is no SLURM here, or it refuses the job.
        """
        scheduler.refuse_no_slurm()
        parameters = sbatch_parameters(self.profile, f"tune.{search.stem}", ROOT, child_variables(self.threads))
        executor = executor_of(self.profile, search.folder / f"{search.stem}.logs", parameters)
        patience = max(1.0, self.profile.signal_delay_s - SPARE_SECONDS)
        try:
            job = executor.submit(SearchJob(search, trials, self.threads, patience))
        except submitit.core.utils.FailedJobError as error:
            raise scheduler.refused(error) from error
        note_worker(search, job.job_id)
        return str(job.job_id)

    def alive(self, workers: Iterable[str]) -> set[str]:
        """Which of some jobs wait or run; one of which SLURM says nothing does, as far as anyone can tell."""
        return {
            job
            for job, seen in scheduler.seen(workers).items()
            if seen.state in (State.PENDING, State.RUNNING, State.UNKNOWN)
        }

    def died(self, worker: str) -> str:
        seen = scheduler.seen([worker])[worker]
        return "" if seen.state is State.ENDED else f"job {worker}: {seen.word or seen.state}"

    def stop(self, workers: Iterable[str]) -> None:
        """Cancel jobs."""
        scheduler.cancel(list(workers))
