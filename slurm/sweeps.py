"""A sweep on disk: its runs, the jobs that were sent for them, and how each stands.

    sweeps/NAME/sweep.json     what was asked for, and the runs
    sweeps/NAME/jobs.jsonl     a line a job that was sent: its id, its run, when, and by which executor
    sweeps/NAME/news/RUN.json  what the job of a run last said
    sweeps/NAME/logs/          what submitit keeps, and the output of the jobs

Records, and the checkpoints of unfinished runs, lie where they always do: a sweep can be thrown away and sent again.
"""

import json
import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from benchmarks.campaign import Campaign
from benchmarks.execute import Job
from slurm.job_profile import Profile, written
from slurm.scheduler import Seen, State
from synergen.errors import UserError, unknown_name
from synergen.files import write_json, write_text
from synergen.runs import RunSpec, RunStore

_log = logging.getLogger(__name__)

VERSION = 1
_TAIL = 2000
"""Bytes of a log whose last lines are shown."""


@dataclass(frozen=True)
class Sent:
    """A job that was sent for a run."""

    job: str
    run: str
    at: float
    """Unix time, for people alone."""
    executor: str


@dataclass(frozen=True)
class Standing:
    """How a run stands: done, failed (it said why), killed, cancelled, running, pending, unknown or unsent."""

    stage: str
    detail: str = ""
    job: str = ""
    news: Mapping[str, Any] | None = None

    @property
    def over(self) -> bool:
        """Whether nobody works on it or will."""
        return self.stage in ("done", "failed", "killed", "cancelled", "unsent")


@dataclass(frozen=True)
class Sweep:
    """The runs of a campaign that were not on record when it was made."""

    folder: Path
    options: dict[str, Any]
    """What was asked for last, to collect its table."""
    source: str
    scale: str
    profile: dict[str, Any]
    methods: dict[str, str]
    """By run id."""
    specs: dict[str, RunSpec]

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def out(self) -> Path:
        """The results folder."""
        return self.folder.parent.parent

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def news(self, run_id: str) -> Path:
        return self.folder / "news" / f"{run_id}.json"

    def job(self, run_id: str, device: str) -> Job:
        """What is to be done for a run."""
        return Job(self.specs[run_id], self.source, self.out, device, self.scale)

    def save(self) -> None:
        """Write what was asked for, with runs that an earlier sweep of this name had.

        Raises:
            UserError: the folder cannot be written.
        """
        write_json(
            self.folder / "sweep.json",
            {
                "version": VERSION,
                "options": self.options,
                "source": self.source,
                "scale": self.scale,
                "profile": self.profile,
                "runs": {
                    run_id: {"method": self.methods[run_id], "spec": asdict(spec)}
                    for run_id, spec in self.specs.items()
                },
            },
        )

    def note(self, sent: Iterable[Sent]) -> None:
        """Remember jobs; half a line that a full disk left is dropped.

        Raises:
            UserError: the folder cannot be written; the sweep is as it was before.
        """
        with FileLock(self.folder / "jobs.lock"):
            lines = [json.dumps(asdict(one)) for one in [*self.sent(), *sent]]
            write_text(self.folder / "jobs.jsonl", "".join(f"{line}\n" for line in lines))

    def sent(self) -> list[Sent]:
        """The jobs, oldest first."""
        path = self.folder / "jobs.jsonl"
        jobs = []
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                jobs.append(Sent(**json.loads(line)))
            except (ValueError, TypeError):
                _log.warning("%s has a line that is no job, which is left out: %s", path, line[:80])
        return jobs

    def last_jobs(self) -> dict[str, Sent]:
        """The latest job of each run that has one."""
        return {one.run: one for one in self.sent()}

    def standing(self, run_id: str, store: RunStore, job: Sent | None, seen: Seen | None) -> Standing:
        """How a run stands, from its record, from what SLURM says of its job, and from what the job said last."""
        news = self._said(run_id)
        if store.record_path(run_id).exists():
            return Standing("done", "", job.job if job else "", news)
        if job is None or seen is None:
            return Standing("unsent")
        match seen.state:
            case State.PENDING:
                return Standing("pending", seen.word, job.job, news)
            case State.RUNNING:
                return Standing("running", "", job.job, news)
            case State.CANCELLED:
                return Standing("cancelled", "", job.job, news)
            case State.KILLED:
                return Standing("killed", f"{seen.word}\n{self.tail(job.job)}", job.job, news)
        if news and news["stage"] == "failed":
            return Standing("failed", news["state"]["why"], job.job, news)
        if seen.state is State.ENDED:
            return Standing("killed", f"ended without a record\n{self.tail(job.job)}", job.job, news)
        return Standing("unknown", "SLURM does not answer, or has forgotten the job", job.job, news)

    def tail(self, job: str) -> str:
        """The last lines that a job wrote."""
        paths = sorted(self.logs.glob(f"{job}_*_log.err")) or sorted(self.logs.glob(f"{job}_*_log.out"))
        if not paths:
            return "(no log)"
        with open(paths[-1], "rb") as file:
            file.seek(max(0, file.seek(0, 2) - _TAIL))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return "\n".join(lines[-8:])

    def _said(self, run_id: str) -> dict[str, Any] | None:
        """The news of a run since its last job was sent."""
        path = self.news(run_id)
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if {"stage", "state"} <= set(content) else None

    def forget_news(self, run_ids: Iterable[str]) -> None:
        """Before runs are sent again."""
        for run_id in run_ids:
            self.news(run_id).unlink(missing_ok=True)


def now() -> float:
    return round(time.time(), 3)


def sweep_of(campaign: Campaign, profile: Profile, to_do: Mapping[str, tuple[str, RunSpec]]) -> Sweep:
    """The sweep of a campaign; where there is one already, its runs stay in it.

    Args:
        to_do: method and run, by run id.
    """
    folder = campaign.store.folder.resolve() / "sweeps" / f"{campaign.stem}.{campaign.scale}"
    source = str(Path(campaign.source).resolve()) if Path(campaign.source).is_dir() else campaign.source
    old = load_sweep(folder) if (folder / "sweep.json").exists() else None
    methods = (old.methods if old else {}) | {run_id: method for run_id, (method, _) in to_do.items()}
    specs = (old.specs if old else {}) | {run_id: spec for run_id, (_, spec) in to_do.items()}
    return Sweep(folder, campaign.options, source, campaign.scale, dict(written(profile)), methods, specs)


def load_sweep(folder: Path) -> Sweep:
    """The sweep of a folder.

    Raises:
        UserError: there is none, or it was changed by hand so that a run is not what its id says.
    """
    path = folder / "sweep.json"
    if not path.exists():
        raise unknown_name("sweep", folder.name, sorted(one.parent.name for one in folder.parent.glob("*/sweep.json")))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        specs = {run_id: RunSpec(**run["spec"]) for run_id, run in content["runs"].items()}
        methods = {run_id: run["method"] for run_id, run in content["runs"].items()}
        given = content["options"], content["source"], content["scale"], content["profile"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}); remove {folder} and send the sweep again") from error
    for run_id, spec in specs.items():
        if spec.id != run_id:
            raise UserError(
                f"{path}: run {run_id} ({methods[run_id]}) was changed, it is now {spec.id}; remove {folder} and send "
                "the sweep again: what is finished stays on record"
            )
    return Sweep(folder, *given, methods, specs)
