"""The training loop on a model small enough to follow: early stopping, resuming, refusing what is not finite."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from synergen.contract import Batch, Histories, Recommender
from synergen.errors import UserError
from synergen.training.checkpoint import load_checkpoint, save_checkpoint
from synergen.training.trainer import Progress, TrainingConfig, train


class Slope(Recommender):
    """One weight w and a loss (w - target)² with noise from torch's generator, so that resuming can go wrong."""

    def __init__(self, target: float = 3.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.table = nn.Embedding(2, 1)
        self.target = target

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        noise = 0.1 * torch.rand(1)
        return {"square": ((self.w - self.target + noise) ** 2).sum(), "table": self.table.weight.square().sum()}


def one_batch(epoch: int) -> Iterator[Batch]:
    zeros = torch.zeros(1, 2, dtype=torch.long)
    events = Histories(zeros, zeros, zeros, zeros, zeros, torch.tensor([2]))
    yield Batch(events, torch.ones(1, 2, dtype=torch.bool), zeros)


def fit(path, validate, model=None, report=None, **config):
    torch.manual_seed(1)
    model = model or Slope()
    config = TrainingConfig(**{"learning_rate": 0.5, "max_epochs": 20, "patience": 3, "precision": "fp32"} | config)
    summary = train(model, config, one_batch, 1, validate, seed=5, checkpoint=path / "c.pt", report=report)
    return model, summary


def closeness(model: Slope) -> dict[str, float]:
    return {"N@10": -abs(model.w.item() - 3)}


def test_stops_after_patience_and_returns_the_best_epoch(tmp_path):
    scores = iter([0.1, 0.3, 0.2, 0.3, 0.1, 0.9])
    weights = []

    def validate(model):
        weights.append(model.w.item())
        return {"N@10": next(scores)}

    model, summary = fit(tmp_path, validate)
    # best is epoch 2 (a tie does not count as better); three validations later, at epoch 5, patience is used up
    assert (summary.best_epoch, summary.epochs, summary.stopped) == (2, 5, "early stopping")
    assert model.w.item() == weights[1]
    assert [point["metric"] for point in summary.curve] == [0.1, 0.3, 0.2, 0.3, 0.1]


def test_epoch_limit_is_named(tmp_path):
    _, summary = fit(tmp_path, closeness, max_epochs=2)
    assert (summary.epochs, summary.stopped) == (2, "epoch limit")


def test_validation_every_second_epoch_counts_patience_in_validations(tmp_path):
    scores = iter([0.5, 0.4, 0.3, 0.2])
    _, summary = fit(tmp_path, lambda model: {"N@10": next(scores)}, validate_every=2)
    assert [point["epoch"] for point in summary.curve] == [2, 4, 6, 8]
    assert summary.stopped == "early stopping"


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


@pytest.mark.parametrize("killed_in_epoch", [1, 4])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, killed_in_epoch):
    whole, expected = fit(tmp_path / "whole", closeness)

    def kill(progress: Progress) -> None:
        if progress.epoch == killed_in_epoch:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path / "killed", closeness, report=kill)
    resumed, summary = fit(tmp_path / "killed", closeness)
    assert torch.equal(resumed.w, whole.w)
    assert torch.equal(resumed.table.weight, whole.table.weight)
    assert [p["metric"] for p in summary.curve] == [p["metric"] for p in expected.curve]


def test_a_damaged_checkpoint_counts_as_none(tmp_path):
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.zeros(1000)})
    path.write_bytes(path.read_bytes()[:900])
    assert load_checkpoint(path) is None
    assert load_checkpoint(tmp_path / "none.pt") is None


def test_a_loss_that_is_not_finite_stops_with_its_place(tmp_path):
    with pytest.raises(UserError, match=r"not finite at epoch 1, step 1 \(square nan"):
        fit(tmp_path, closeness, model=Slope(target=float("nan")))


def test_embedding_tables_learn_at_their_own_rate():
    groups = Slope().parameter_groups()
    assert [p.shape for p in groups["dense"]] == [(1,)]
    assert [p.shape for p in groups["sparse"]] == [(2, 1)]


def test_progress_gives_an_upper_bound_of_the_time_left(tmp_path):
    seen: list[Progress] = []
    fit(tmp_path, closeness, report=seen.append, max_epochs=3)
    assert [p.epoch for p in seen] == [1, 2, 3]
    assert all(p.seconds_left is not None and p.seconds_left >= 0 for p in seen)
    assert seen[-1].seconds_left < seen[0].seconds_left + 1
