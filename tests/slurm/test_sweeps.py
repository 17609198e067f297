"""The sweep on disk, and how its runs stand."""

import json

import pytest

from slurm.scheduler import Seen, State
from slurm.sweeps import Sent, Standing, load_sweep
from synergen.errors import UserError
from synergen.files import write_json
from synergen.runs import RunStore


@pytest.fixture
def sweep(make_sweep, tmp_path):
    made = make_sweep(tmp_path / "out", seeds=3)
    made.save()
    return made


def test_it_is_read_as_it_was_written(sweep):
    assert load_sweep(sweep.folder) == sweep
    assert sweep.name == "table3.shop.sketch"
    assert sweep.folder == sweep.out / "sweeps" / sweep.name


def test_a_second_sweep_of_the_same_name_keeps_the_runs_of_the_first(sweep, make_sweep):
    more = make_sweep(sweep.out, seeds=1, epochs=7)
    assert set(more.specs) > set(sweep.specs)
    assert len(more.specs) == 4


def test_what_was_changed_by_hand_or_is_damaged_is_refused(sweep):
    path = sweep.folder / "sweep.json"
    content = json.loads(path.read_text())
    run_id = next(iter(content["runs"]))
    content["runs"][run_id]["spec"]["seed"] = 77
    write_json(path, content)
    with pytest.raises(UserError, match=f"run {run_id} .SASRec. was changed.*send the sweep again"):
        load_sweep(sweep.folder)
    path.write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        load_sweep(sweep.folder)
    with pytest.raises(UserError, match=r"unknown sweep 'tabel3.*table3\.shop\.sketch"):
        load_sweep(sweep.folder.with_name("tabel3.shop.sketch"))


def test_jobs_are_remembered_and_half_a_line_is_not(sweep, caplog):
    first, second = Sent("1_0", "a", 1.0, "slurm"), Sent("2", "a", 2.0, "slurm")
    sweep.note([first])
    with open(sweep.folder / "jobs.jsonl", "a") as file:
        file.write('{"job": "9", "ru')
    assert sweep.sent() == [first]
    assert "no job, which is left out" in caplog.text
    sweep.note([second])
    assert sweep.sent() == [first, second]
    assert sweep.last_jobs() == {"a": second}


JOB = Sent("5", "", 0.0, "slurm")


@pytest.mark.parametrize(
    ("seen", "news", "stage", "detail"),
    [
        (Seen(State.PENDING, "Priority"), None, "pending", "Priority"),
        (Seen(State.RUNNING), {"stage": "loading", "state": {}}, "running", ""),
        (Seen(State.RUNNING), {"stage": "failed", "state": {"why": "of the try before"}}, "running", ""),
        (Seen(State.CANCELLED), None, "cancelled", ""),
        (Seen(State.KILLED, "OUT_OF_MEMORY"), None, "killed", "OUT_OF_MEMORY\nthe last line"),
        (Seen(State.ENDED), {"stage": "failed", "state": {"why": "bad data"}}, "failed", "bad data"),
        (Seen(State.ENDED), {"stage": "training", "state": {}}, "killed", "ended without a record\nthe last line"),
        (Seen(State.UNKNOWN), None, "unknown", "SLURM does not answer, or has forgotten the job"),
        (Seen(State.UNKNOWN), {"stage": "failed", "state": {"why": "bad data"}}, "failed", "bad data"),
        (None, None, "unsent", ""),
    ],
)
def test_how_a_run_stands(sweep, seen, news, stage, detail):
    run_id = next(iter(sweep.specs))
    sweep.logs.mkdir()
    (sweep.logs / "5_0_log.err").write_text("the last line\n")
    if news:
        write_json(sweep.news(run_id), news)
    standing = sweep.standing(run_id, RunStore(sweep.out), JOB, seen)
    assert (standing.stage, standing.detail) == (stage, detail)
    assert standing.over == (stage not in ("pending", "running", "unknown"))


def test_what_is_on_record_is_done_whatever_slurm_says(sweep):
    run_id = next(iter(sweep.specs))
    write_json(RunStore(sweep.out).record_path(run_id), {})
    assert sweep.standing(run_id, RunStore(sweep.out), JOB, Seen(State.KILLED)) == Standing("done", "", "5")
    assert sweep.standing(run_id, RunStore(sweep.out), None, None).stage == "done"


def test_damaged_news_are_no_news(sweep):
    run_id = next(iter(sweep.specs))
    sweep.news(run_id).parent.mkdir()
    for text in ("{", "[]", '{"stage": 1}'):
        sweep.news(run_id).write_text(text)
        assert sweep.standing(run_id, RunStore(sweep.out), JOB, Seen(State.RUNNING)).news is None
    sweep.forget_news(sweep.specs)
    assert not sweep.news(run_id).exists()
