"""RecBole as it is shipped, on our logs. Expected values: our own split of the log, and trainings compared with
themselves."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import shipped
from benchmarks.shipped import MODELS, Curve, Point, read_curve, training_curve
from synergen.contract import Histories, Requests, Task
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


@pytest.mark.parametrize("model", ["SASRec", "GRU4Rec"])
def test_copied_weights_give_recboles_scores(toy: Dataset, model: str) -> None:
    with shipped.shipped(toy.log, model) as recbole:
        ours = recbole.ours(toy).eval()
        recbole.trainer.model.eval()
        rows, *_ = next(iter(recbole.valid))
        scores = recbole.trainer.model.full_sort_predict(rows)
        history = our_numbers(recbole)[rows["item_id_list"]]
        states = ours.net(history, rows["item_length"])[torch.arange(len(history)), rows["item_length"] - 1]
        torch.testing.assert_close(states @ ours.item_vectors().T, scores[:, recbole.item_numbers])


def test_copied_weights_of_bert4rec_give_recboles_scores_of_histories_without_their_oldest_event(toy: Dataset) -> None:
    with shipped.shipped(toy.log, "BERT4Rec") as recbole:
        ours, theirs = recbole.ours(toy).eval(), recbole.trainer.model.eval()
        with torch.no_grad():
            theirs.output_bias.normal_()
            ours.net.output_bias.copy_(theirs.output_bias[recbole.item_numbers])
        rows, *_ = next(iter(recbole.valid))
        items = our_numbers(recbole)[rows["item_id_list"]][:, 1:]  # (B, 49)
        history = Histories(*[items] * 5, lengths=rows["item_length"] - 1)  # of which the model reads the items
        nothing = torch.zeros_like(history.lengths)
        states = ours.user_vectors(Requests(Task.RECOMMENDATION, history, *[nothing] * 3))
        scores = states @ ours.item_vectors().T + ours.item_bias()
        torch.testing.assert_close(scores, theirs.full_sort_predict(rows)[:, recbole.item_numbers])


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


@pytest.mark.parametrize("model", MODELS)
def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(toy: Dataset, tmp_path: Path, model: str) -> None:
    def train(name: str, epochs: int) -> list[Point]:
        curve = training_curve(toy, tmp_path / name, lambda p: None, model, epochs=epochs)
        return [replace(point, seconds=0.0) for point in curve.points]

    whole = train("whole", 3)
    train("cut", 1)
    assert train("cut", 3) == whole
    written = read_curve(tmp_path / "cut").points
    assert [replace(point, seconds=0.0) for point in written] == whole
    assert [point.epoch for point in written] == [1, 2, 3]
    assert 0 < written[0].seconds < written[1].seconds < written[2].seconds


def curve(*values: float) -> Curve:
    """One whose validation metrics by RecBole are `values`."""
    points = [Point(epoch, 1.0, value, 0.0, {}) for epoch, value in enumerate(values, start=1)]
    return Curve("SASRec", "toy", "", 1, 1, points)


def test_finished_is_what_recboles_patience_says() -> None:
    # Its counter passes 10 in the eleventh epoch that is worse than the best; an equal one starts it anew.
    assert not curve().finished
    assert not curve(0.2, *[0.1] * 10).finished
    assert curve(0.2, *[0.1] * 11).finished
    assert not curve(0.2, 0.2, *[0.1] * 10).finished
    assert curve(*np.linspace(0, 1, 300)).finished


def test_a_finished_training_is_read(toy: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "curve"
    training_curve(toy, file, lambda point: None, epochs=1)
    monkeypatch.setattr(shipped, "MAX_EPOCHS", 1)
    before = file.stat().st_mtime_ns
    assert training_curve(toy, file, lambda point: None) == read_curve(file)
    assert file.stat().st_mtime_ns == before


def test_the_best_epoch_is_that_of_our_validation() -> None:
    points = [Point(epoch, 1.0, theirs, ours, {}) for epoch, theirs, ours in ((1, 0.3, 0.1), (2, 0.2, 0.2))]
    assert replace(curve(), points=points).best.epoch == 2


def test_what_cannot_be_compared_is_refused(toy: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave-one-out only"):
        training_curve(replace(toy, split=LastN(toy.log, 1)), tmp_path / "curve", lambda point: None)
    (tmp_path / "other").write_text('{"epoch": 1}\n')
    for name in ("other", "missing"):
        with pytest.raises(UserError, match=f"{name}: no training curve"):
            read_curve(tmp_path / name)
    training_curve(toy, tmp_path / "one", lambda point: None, epochs=1)
    with pytest.raises(UserError, match=r"a training of SASRec on .*, not of GRU4Rec"):
        training_curve(toy, tmp_path / "one", lambda point: None, "GRU4Rec")
