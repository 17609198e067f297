"""What SLURM knows of jobs, asked by its own commands."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from synergen.errors import UserError

_PATIENCE = 60
"""Seconds that a command of SLURM is waited for."""
_AT_ONCE = 500
"""Jobs that one command is asked about."""


class State(StrEnum):
    """Of a job, in as few words as a sweep needs."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    """By itself; what its run came to, its record and its news say."""
    CANCELLED = "cancelled"
    KILLED = "killed"
    """By a time limit, a memory limit, a signal or a node that failed, without being queued again."""
    UNKNOWN = "unknown"
    """SLURM did not answer, or has forgotten the job."""


@dataclass(frozen=True)
class Seen:
    """A job as SLURM has it."""

    state: State
    word: str = ""
    """SLURM's own, such as OUT_OF_MEMORY, or the reason of a job that waits."""


_LIVE = {
    "PENDING": State.PENDING,
    "REQUEUED": State.PENDING,
    "REQUEUE_HOLD": State.PENDING,
    "SUSPENDED": State.PENDING,
    "CONFIGURING": State.RUNNING,
    "RUNNING": State.RUNNING,
    "COMPLETING": State.RUNNING,
    "COMPLETED": State.ENDED,
    "CANCELLED": State.CANCELLED,
    "REVOKED": State.CANCELLED,
}
_KILLED = ("FAILED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "PREEMPTED")


def refuse_no_slurm() -> None:
    """Raise UserError where this machine cannot submit."""
    if shutil.which("sbatch") is None:
        raise UserError(
            "there is no sbatch on this machine: go to a login node of the cluster, use --executor local here, or "
            "look at the scripts alone with --dry-run"
        )


def seen(jobs: Iterable[str]) -> dict[str, Seen]:
    """How each job stands: what squeue still has, and what sacct remembers of the others."""
    wanted = list(dict.fromkeys(jobs))
    found: dict[str, Seen] = {}
    for some in _pieces(wanted):
        found |= _queued(some)
    for some in _pieces([job for job in wanted if job not in found]):
        found |= _accounted(some)
    return {job: found.get(job, Seen(State.UNKNOWN)) for job in wanted}


def cancel(jobs: Sequence[str]) -> None:
    """Cancel jobs; those that have ended do not mind.

    Raises:
        UserError: SLURM refused or did not answer.
    """
    for some in _pieces(list(jobs)):
        answer = _asked(["scancel", *some])
        if answer is None or answer.returncode:
            raise UserError(f"scancel failed: {answer.stderr.strip() if answer else 'no answer'}; try it again")


def _queued(jobs: list[str]) -> dict[str, Seen]:
    answer = _asked(
        ["squeue", "--noheader", "--array", "--states=all", f"--jobs={','.join(jobs)}", "--format=%i|%T|%r"]
    )
    if answer is None:
        return {}
    if answer.returncode and len(jobs) > 1:  # one job that it does not know makes it refuse them all
        return {job: one for single in jobs for job, one in _queued([single]).items()}
    return dict(_parsed(answer.stdout, jobs))


def _accounted(jobs: list[str]) -> dict[str, Seen]:
    answer = _asked(
        ["sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={','.join(jobs)}", "--format=JobID,State"]
    )
    return dict(_parsed(answer.stdout, jobs)) if answer and not answer.returncode else {}


def _parsed(lines: str, jobs: list[str]) -> Iterable[tuple[str, Seen]]:
    for line in lines.splitlines():
        job, _, rest = line.strip().partition("|")
        word, _, reason = rest.partition("|")
        word = word.split(" ")[0].rstrip("+")  # CANCELLED by 1000
        if job in jobs and word:
            state = _LIVE.get(word, State.KILLED if word in _KILLED else State.UNKNOWN)
            yield job, Seen(state, reason if state is State.PENDING and reason else word)


def _asked(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """The answer of a command, None where there is none in time, or no such command."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None


def _pieces(jobs: list[str]) -> Iterable[list[str]]:
    return (jobs[at : at + _AT_ONCE] for at in range(0, len(jobs), _AT_ONCE))


def refused(error: Exception) -> UserError:
    """What sbatch said, without what is around it."""
    text = str(error)
    said = re.findall(r"sbatch: error: (.*)", text)
    why = "; ".join(dict.fromkeys(said)) or text.strip().splitlines()[-1]
    return UserError(f"SLURM refused the job: {why}. See `sinfo` for partitions, and set fields by --slurm KEY=VALUE")
