"""Records survive what happens to files."""

import json
import logging

import numpy as np
import pytest

from synergen.errors import UserError
from synergen.evaluation.slates import SlateRanks
from synergen.runs import Run, RunSpec, RunStore, refuse_other_data

SPEC = RunSpec("SASRec", "toy", "recommendation", 0, {"width": 8}, {"max_epochs": 2}, {"candidates": "full"})


def a_run(run_id: str = "0123456789ab") -> Run:
    ranks = {("recommendation", "full"): np.array([1.0, 2.5, np.nan]), ("search", "pool"): np.array([np.nan, 7.0, 1.5])}
    return Run({"id": run_id, "data": {"users": 3, "source_hash": "aa"}}, ranks)


def test_the_id_depends_on_every_field_and_on_nothing_else():
    same = RunSpec("SASRec", "toy", "recommendation", 0, {"width": 8}, {"max_epochs": 2}, {"candidates": "full"})
    assert same.id == SPEC.id
    changes = [("model", "X"), ("dataset", "X"), ("task", "joint"), ("seed", 1)]
    changes += [(key, {"x": 1}) for key in ("settings", "trainer", "protocol")]
    ids = {RunSpec(**{**vars(SPEC), key: value}).id for key, value in changes}
    assert len(ids | {SPEC.id}) == len(changes) + 1


def test_a_run_comes_back_as_it_was_saved(tmp_path):
    store = RunStore(tmp_path)
    store.save(a_run())
    loaded = store.load("0123456789ab")
    assert loaded is not None
    assert loaded.record == a_run().record
    for key, ranks in a_run().ranks.items():
        np.testing.assert_array_equal(loaded.ranks[key], ranks)


def test_one_task_may_ask_users_several_questions_and_another_one_each(tmp_path):
    slates = SlateRanks(np.array([4, 5, 9]), np.array([0, 0, 2]), np.array([1.0, 2.5, 7.0]))
    single = np.array([np.nan, 7.0, 1.5])
    store, run = RunStore(tmp_path), a_run()
    store.save(Run(run.record, {("recommendation", "full"): slates, ("search", "full"): single}))
    loaded = store.load("0123456789ab")
    assert loaded is not None
    found = loaded.ranks["recommendation", "full"]
    assert isinstance(found, SlateRanks)
    assert found.requests.tolist() == [4, 5, 9]
    np.testing.assert_array_equal(loaded.ranks["search", "full"], single)


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_record_cut_in_half_counts_as_not_done_and_is_named(tmp_path, suffix, caplog):
    store = RunStore(tmp_path)
    store.save(a_run())
    path = tmp_path / "runs" / f"0123456789ab.{suffix}"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert store.load("0123456789ab") is None
    assert "0123456789ab.json or its ranks are damaged" in caplog.text


def test_ranks_of_requests_come_back_as_they_were_saved(tmp_path):
    ranks = SlateRanks(np.array([4, 4, 9]), np.array([0, 0, 2]), np.array([1.0, 2.5, 7.0]))
    RunStore(tmp_path).save(Run(a_run().record, {("search", "slate"): ranks, ("search", "full"): ranks}))
    loaded = RunStore(tmp_path).load("0123456789ab")
    assert loaded is not None
    for found in loaded.ranks.values():
        assert isinstance(found, SlateRanks)
        for column in ("requests", "users", "ranks"):
            np.testing.assert_array_equal(getattr(found, column), getattr(ranks, column))


def test_a_failing_write_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pandas.DataFrame.to_parquet", full)
    with pytest.raises(UserError, match="No space left"):
        RunStore(tmp_path).save(a_run())
    assert not list((tmp_path / "runs").iterdir())


def test_what_a_killed_writer_left_is_swept_away_and_nothing_else(tmp_path):
    store = RunStore(tmp_path)
    store.save(a_run())
    (tmp_path / "checkpoints").mkdir()
    left = [tmp_path / "runs" / ".0123456789ab.json.x1.tmp", tmp_path / "checkpoints" / ".0123456789ab.pt.x2.tmp"]
    other = tmp_path / "runs" / ".ffffffffffff.json.x3.tmp"
    for path in (*left, other):
        path.write_text("half")
    left.append(tmp_path / "models" / ".0123456789ab.x4.tmp")
    left[-1].mkdir(parents=True)
    store.sweep("0123456789ab")
    assert not any(path.exists() for path in left)
    assert other.exists()
    assert store.load("0123456789ab") is not None


def test_a_folder_that_cannot_be_written_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose a writable folder"):
        RunStore(tmp_path / "file").check_writable()


def test_records_of_other_files_under_the_same_name_are_refused():
    refuse_other_data(a_run().record, "aa", "toy")
    with pytest.raises(UserError, match="--force"):
        refuse_other_data(a_run().record, "bb", "toy")


def test_records_are_json_that_a_person_can_read(tmp_path):
    RunStore(tmp_path).save(a_run())
    text = (tmp_path / "runs" / "0123456789ab.json").read_text()
    assert json.loads(text)["id"] == "0123456789ab"
    assert len(text.splitlines()) > 3
