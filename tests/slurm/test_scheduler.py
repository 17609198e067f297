"""What SLURM says of jobs. Its commands are small scripts here whose output has the form of SLURM 22.05's."""

from pathlib import Path

import pytest

from slurm import scheduler
from slurm.scheduler import Seen, State, cancel, seen
from synergen.errors import UserError


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Makes a command of this name; there are no others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return make


def test_the_queue_first_then_the_books(command):
    command("squeue", "printf '7_0|RUNNING|None\\n7_1|PENDING|Resources\\n7_2|COMPLETED|None\\n8|TIMEOUT|TimeLimit\\n'")
    command("sacct", "printf '9|CANCELLED by 0\\n10|OUT_OF_MEMORY\\n7_0|FAILED\\n'")
    assert seen(["7_0", "7_1", "7_2", "8", "9", "10", "11"]) == {
        "7_0": Seen(State.RUNNING, "RUNNING"),
        "7_1": Seen(State.PENDING, "Resources"),
        "7_2": Seen(State.ENDED, "COMPLETED"),
        "8": Seen(State.KILLED, "TIMEOUT"),
        "9": Seen(State.CANCELLED, "CANCELLED"),
        "10": Seen(State.KILLED, "OUT_OF_MEMORY"),
        "11": Seen(State.UNKNOWN),
    }


def test_a_queue_that_refuses_one_forgotten_job_tells_of_the_others(command):
    command("squeue", 'case "$*" in *jobs=3\\ *) echo "3|RUNNING|None";; *) echo "Invalid job id" >&2; exit 1;; esac')
    command("sacct", "exit 1")
    assert seen(["3", "4"]) == {"3": Seen(State.RUNNING, "RUNNING"), "4": Seen(State.UNKNOWN)}


def test_commands_that_do_not_answer_or_do_not_exist(command, monkeypatch):
    monkeypatch.setattr(scheduler, "_PATIENCE", 0.2)
    command("squeue", "exec /bin/sleep 5")
    assert seen(["1"]) == {"1": Seen(State.UNKNOWN)}
    assert seen([]) == {}


def test_cancelling_says_why_it_failed(command):
    with pytest.raises(UserError, match="scancel failed: no answer"):
        cancel(["1"])
    command("scancel", "echo 'not yours' >&2; exit 1")
    with pytest.raises(UserError, match="scancel failed: not yours"):
        cancel(["1"])
    cancel([])


def test_what_sbatch_complained_of_is_all_that_is_said():
    noise = (
        "Command failed: sbatch: error: invalid partition specified: gpus\nsbatch: error: Batch job submission failed\n"
    )
    assert "refused the job: invalid partition specified: gpus; Batch job submission failed. See" in str(
        scheduler.refused(RuntimeError(noise))
    )


def test_a_machine_without_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"no sbatch on this machine.*--executor local.*--dry-run"):
        scheduler.refuse_no_slurm()
