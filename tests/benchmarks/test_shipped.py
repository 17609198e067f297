"""RecBole as it is shipped, on our logs. Expected values: our own split of the log, and trainings compared with
themselves."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.recbole_models import SASRec
from benchmarks import shipped
from benchmarks.shipped import Point, finished, read_curve, training_curve
from synergen.contract import Task
from synergen.data.batches import questions
from synergen.data.dataset import Dataset
from synergen.data.splits import LastN, Part
from synergen.errors import UserError


def our_numbers(recbole: shipped.Shipped) -> torch.Tensor:
    """(V + 1,): our number of each item of RecBole's."""
    return recbole.item_numbers.argsort()


def test_the_validation_question_of_every_user_is_ours(toy: Dataset) -> None:
    # Times are equal here within a user, as they are in float32 where events are close: only the order tells.
    log = replace(toy.log, times=np.zeros_like(toy.log.times))
    with shipped.shipped(log) as recbole:
        names = recbole.valid._dataset.field2id_token["user_id"]
        theirs = {}
        for rows, _, _, answers in recbole.valid:
            items = our_numbers(recbole)[rows["item_id_list"]]
            for user, history, n, answer in zip(rows["user_id"], items, rows["item_length"], answers, strict=True):
                theirs[int(names[user])] = (history[:n].tolist(), int(our_numbers(recbole)[answer]))
    ours = {}
    for asked in questions(log, toy.split, Part.VALID, Task.RECOMMENDATION, 50, 256):
        history = asked.requests.history
        for user, items, n, answer in zip(asked.users, history.items, history.lengths, asked.targets, strict=True):
            ours[int(user)] = (items[:n].tolist(), int(answer))
    assert theirs == ours


def test_a_row_is_trained_for_each_event_after_the_first(toy: Dataset) -> None:
    # Of each user, the last two events are held out, and the first has nothing before it.
    with shipped.shipped(toy.log) as recbole:
        assert len(recbole.train._dataset) == toy.log.n_events - 3 * toy.log.n_users
        assert recbole.train.step == 2048
        assert recbole.trainer.config["eval_batch_size"] == 4096


def test_copied_weights_give_recboles_scores(toy: Dataset) -> None:
    with shipped.shipped(toy.log) as recbole:
        ours = recbole.copy_weights(SASRec(toy.view(None, None), max_history=50)).eval()
        recbole.trainer.model.eval()
        rows, *_ = next(iter(recbole.valid))
        scores = recbole.trainer.model.full_sort_predict(rows)
        history = our_numbers(recbole)[rows["item_id_list"]]
        states = ours.net(history, rows["item_length"])[torch.arange(len(history)), rows["item_length"] - 1]
        torch.testing.assert_close(states @ ours.item_vectors().T, scores[:, recbole.item_numbers])


def test_nothing_of_recboles_is_left_behind(toy: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest", "--learning_rate=7"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    folder, files = Path.cwd(), sorted(Path.cwd().iterdir())
    with shipped.shipped(toy.log) as recbole:
        assert recbole.trainer.learning_rate == 0.001  # the command line is not RecBole's
        assert Path.cwd() != folder
    assert Path.cwd() == folder
    assert sorted(folder.iterdir()) == files
    assert sys.argv == ["pytest", "--learning_rate=7"]
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not torch.is_anomaly_enabled()


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(toy: Dataset, tmp_path: Path) -> None:
    def train(name: str, epochs: int) -> list[Point]:
        return [replace(p, seconds=0.0) for p in training_curve(toy, tmp_path / name, lambda p: None, epochs=epochs)]

    whole = train("whole", 3)
    train("cut", 1)
    assert train("cut", 3) == whole
    written = read_curve(tmp_path / "cut")
    assert [replace(point, seconds=0.0) for point in written] == whole
    assert [point.epoch for point in written] == [1, 2, 3]
    assert 0 < written[0].seconds < written[1].seconds < written[2].seconds


def test_finished_is_what_recboles_patience_says() -> None:
    # Its counter passes 10 in the eleventh epoch that is worse than the best; an equal one starts it anew.
    def curve(*values: float) -> list[Point]:
        return [Point(epoch, 1.0, value, 0.0) for epoch, value in enumerate(values, start=1)]

    assert not finished([])
    assert not finished(curve(0.2, *[0.1] * 10))
    assert finished(curve(0.2, *[0.1] * 11))
    assert not finished(curve(0.2, 0.2, *[0.1] * 10))
    assert finished(curve(*np.linspace(0, 1, 300)))


def test_a_finished_training_is_read(toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "curve"
    training_curve(toy, file, lambda point: None, epochs=1)
    monkeypatch.setattr(shipped, "MAX_EPOCHS", 1)
    before = file.stat().st_mtime_ns
    assert training_curve(toy, file, lambda point: None) == read_curve(file)
    assert file.stat().st_mtime_ns == before


def test_what_cannot_be_compared_is_refused(toy: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave-one-out only"):
        training_curve(replace(toy, split=LastN(toy.log, 1)), tmp_path / "curve", lambda point: None)
    (tmp_path / "other").write_text('{"epoch": 1}\n')
    for name in ("other", "missing"):
        with pytest.raises(UserError, match=f"{name}: no training curve"):
            read_curve(tmp_path / name)
