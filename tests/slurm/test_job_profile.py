"""Profiles of jobs: those that come along, single fields set otherwise, and what sbatch is given of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from slurm.job_profile import changed, load_profile, names, sbatch_parameters, written
from synergen.errors import UserError


@pytest.mark.parametrize("name", names())
def test_each_profile_that_comes_along_is_one(name):
    profile = load_profile(name)
    assert (profile.device == "cuda") == bool(profile.gpus)


def test_fields_are_set_otherwise(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("gres: gpu:a100:2\nsetup: [module load cuda, source env]\n")
    profile = load_profile(str(path), ["time_min=90", "mem_gb=1.5", "partition=big", "setup=a; b"])
    assert (profile.time_min, profile.mem_gb, profile.partition, profile.setup) == (90, 1.5, "big", ("a", "b"))
    assert profile.gpus == 2
    assert changed(written(profile), ["account=me"], "x") == replace(profile, account="me")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["partitoin=big"], "unknown key 'partitoin'.*partition"),
        (["time_min=long"], "time_min=long: int expected"),
        (["time_min=0"], "time_min is 0; it must be 1 or more"),
        (["time_min"], "write KEY=VALUE"),
        (["gres=a100"], "write gpu:N or gpu:TYPE:N"),
        (["time_min=2", "signal_delay_s=120"], "the signal must come later than the start"),
        (["mem_gb=0"], "it must be above 0"),
        (["extra==x"], "write KEY=VALUE or KEY, as after sbatch --"),
    ],
)
def test_what_makes_no_job_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        load_profile("a100", changes)


def test_an_unknown_profile_and_a_file_that_is_none(tmp_path):
    with pytest.raises(UserError, match=r"unknown profile 'a10'.*a100"):
        load_profile("a10")
    path = tmp_path / "bad.yaml"
    path.write_text("[1, 2]")
    with pytest.raises(UserError, match="a mapping is expected"):
        load_profile(str(path))
    path.write_text("a: [")
    with pytest.raises(UserError, match="is no YAML"):
        load_profile(str(path))


def test_what_sbatch_is_given():
    """Empty fields are left out; the job is one that may be queued again, and finds this project."""
    profile = load_profile("a100", ["partition=gpu", "extra=reservation=mine;--exclusive"])
    given = sbatch_parameters(profile, "name", Path("/here"), {"OMP_NUM_THREADS": "1"})
    assert (given["partition"], given["gres"], given["time"], given["mem"]) == ("gpu", "gpu:a100:1", 720, "65536MB")
    assert "account" not in given
    assert given["additional_parameters"] == {"requeue": True, "reservation": "mine", "exclusive": True}
    assert given["setup"] == ["export OMP_NUM_THREADS=1", "export PYTHONPATH=/here${PYTHONPATH:+:$PYTHONPATH}"]
