"""The training loop on a model small enough to follow: early stopping, resuming, refusing what is not finite."""

import math
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from synergen import distributed
from synergen.contract import Batch, Histories, Recommender, Slates
from synergen.errors import UserError
from synergen.training.checkpoint import load_checkpoint, save_checkpoint
from synergen.training.trainer import Interrupted, Progress, TrainingConfig, train


class Slope(Recommender):
    """One weight w and a loss (w - target)² with noise from torch's generator, so that resuming can go wrong."""

    def __init__(self, target: float = 3.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.table = nn.Embedding.from_pretrained(torch.ones(2, 1), freeze=False)
        self.target = target

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        noise = 0.1 * torch.rand(1)
        return {"square": ((self.w - self.target + noise) ** 2).sum(), "table": self.table.weight.square().sum()}


class Row(Slope):
    """It reads one of the table's two rows in each step, so that these have moments of different ages."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"square": ((self.w - self.target) ** 2).sum(), "table": self.table(torch.randint(2, (1,))).exp().sum()}


def one_batch(epoch: int) -> Iterator[Batch]:
    zeros = torch.zeros(1, 2, dtype=torch.long)
    events = Histories(zeros, zeros, zeros, zeros, zeros, torch.tensor([2]))
    yield Batch(events, torch.ones(1, 2, dtype=torch.bool), zeros, torch.tensor([7]))


def three_batches(epoch: int) -> Iterator[Batch]:
    for _ in range(3):
        yield from one_batch(epoch)


def fit(path, validate, model=None, report=None, batches=one_batch, stop=lambda: False, save_every=600.0, **config):
    model = model or Slope()
    config = TrainingConfig(**{"learning_rate": 0.5, "max_epochs": 20, "patience": 3, "precision": "fp32"} | config)
    paths = {"checkpoint": path / "c.pt", "save_every": save_every}
    summary = train(model, config, batches, 1, validate, seed=5, report=report, stop=stop, **paths)
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


def test_processor_seconds_of_training_leave_validation_out(tmp_path):
    def busy(model: Slope) -> dict[str, float]:
        """Validation that uses the processor for a tenth of a second."""
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
        return closeness(model)

    _, summary = fit(tmp_path, busy, max_epochs=3)
    validating = summary.processor_seconds - summary.training_processor_seconds
    assert summary.training_processor_seconds > 0
    assert validating >= 3 * 0.1


class Killed(BaseException):
    """Stands for kill -9: nothing gets to clean up after it."""


@pytest.mark.parametrize(("kind", "row_updates"), [(Slope, False), (Row, True)])
@pytest.mark.parametrize("killed_in_epoch", [1, 4])
def test_a_killed_training_resumes_to_the_same_weights(tmp_path, killed_in_epoch, kind, row_updates):
    whole, expected = fit(tmp_path / "whole", closeness, model=kind(), row_updates=row_updates)

    def kill(progress: Progress) -> None:
        if progress.epoch == killed_in_epoch:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path / "killed", closeness, model=kind(), report=kill, row_updates=row_updates)
    resumed, summary = fit(tmp_path / "killed", closeness, model=kind(), row_updates=row_updates)
    assert torch.equal(resumed.w, whole.w)
    assert torch.equal(resumed.table.weight, whole.table.weight)
    assert [p["metric"] for p in summary.curve] == [p["metric"] for p in expected.curve]


class Remembering(Slope):
    """It makes a random something of the weights that an epoch begins with, and its loss needs that."""

    def begin_epoch(self, epoch: int) -> None:
        self.first = self.w.detach().clone() + torch.rand(1)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"first": (0.1 * (self.w - self.first) ** 2).sum(), **super().loss(batch)}


@pytest.mark.parametrize("kind", [Slope, Remembering])
@pytest.mark.parametrize("stopped_after", [1, 5, 6])
def test_a_training_that_is_asked_to_stop_goes_on_at_the_same_step(tmp_path, kind, stopped_after):
    """Three steps an epoch: after one step, in the middle of an epoch, and at the end of its last step. What is seen by
    the resumed training is what the other one had not seen, and nothing differs in the end."""
    whole, expected = fit(tmp_path / "whole", closeness, model=kind(), batches=three_batches, max_epochs=4)
    steps: list[tuple[int, int]] = []

    def note(progress: Progress) -> None:
        steps.append((progress.epoch, progress.step))

    common = {"report": note, "batches": three_batches, "max_epochs": 4}
    with pytest.raises(Interrupted, match=f"epoch {(stopped_after + 2) // 3}, step"):
        fit(tmp_path, closeness, model=kind(), stop=lambda: len(steps) == stopped_after, **common)
    resumed, summary = fit(tmp_path, closeness, model=kind(), **common)
    assert steps == [(epoch, step) for epoch in range(1, 5) for step in range(1, 4)]
    assert torch.equal(resumed.w, whole.w)
    assert torch.equal(resumed.table.weight, whole.table.weight)
    timeless = [[{k: v for k, v in p.items() if k != "seconds"} for p in one.curve] for one in (summary, expected)]
    assert timeless[0] == timeless[1]


def test_a_checkpoint_by_time_is_enough_for_a_kill(tmp_path):
    """`save_every` of no seconds: one after each step."""
    whole, _ = fit(tmp_path / "whole", closeness, batches=three_batches)
    steps = 0

    def kill(progress: Progress) -> None:
        nonlocal steps
        steps += 1
        if steps == 6:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, closeness, batches=three_batches, report=kill, save_every=0.0)
    within = load_checkpoint(tmp_path / "c.pt")["within"]
    assert within["place"]["step"] == 2  # the kill came before the save of the epoch's third step
    resumed, _ = fit(tmp_path, closeness, batches=three_batches)
    assert torch.equal(resumed.w, whole.w)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path):
    path = tmp_path / "c.pt"
    assert load_checkpoint(path) is None
    for number in (1.0, 2.0, 3.0):
        save_checkpoint(path, {"w": torch.full((1000,), number)})
    assert load_checkpoint(path)["w"][0] == 3
    path.write_bytes(path.read_bytes()[:900])
    assert load_checkpoint(path)["w"][0] == 2
    path.with_suffix(".before.pt").write_bytes(b"")
    assert load_checkpoint(path) is None


def test_a_loss_that_is_not_finite_stops_with_its_place(tmp_path):
    """NaN in one term is NaN in the sum; the table of two ones has the sum of squares 2."""
    model = Slope(target=math.nan)
    with pytest.raises(UserError, match=r"the loss \(square nan, table 2\) is not finite at epoch 1, step 1; lower"):
        fit(tmp_path, closeness, model=model)
    assert [path.name for path in tmp_path.iterdir()] == ["c.failed.pt"]  # no epoch is whole, so there is no checkpoint
    assert model.w.isfinite()


class Cliff(Slope):
    """Its loss is finite everywhere; from epoch 3 on the gradient of the table is infinite, d√x/dx at 0."""

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        terms = super().loss(batch)
        root = (self.table.weight - self.table.weight.detach()).sqrt().sum()
        return terms | ({"root": root} if self.epoch == 3 else {})


def slate_batch(epoch: int) -> Iterator[Batch]:
    for batch in one_batch(epoch):
        asked = torch.zeros(1, 1, dtype=torch.long)
        slates = Slates(asked, asked, asked, asked, torch.tensor([[[4, 5]]]), torch.tensor([[[0, 1]]]))
        yield Batch(batch.events, batch.targets, batch.wanted, batch.windows, slates)


@pytest.mark.parametrize("batches", [one_batch, slate_batch])
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_kept(tmp_path, batches):
    """The weights must be those of a training of two epochs, and so must the checkpoint."""
    fit(tmp_path / "two", closeness, model=Cliff(), max_epochs=2, batches=batches)
    expected = load_checkpoint(tmp_path / "two" / "c.pt")["model"]
    model = Cliff()
    with pytest.raises(UserError, match=r"the gradient of table\.weight is not finite at epoch 3, step 1") as stopped:
        fit(tmp_path, closeness, model=model, batches=batches)
    failed, checkpoint = tmp_path / "c.failed.pt", tmp_path / "c.pt"
    assert str(failed) in str(stopped.value)
    assert f"after epoch 2 is kept in {checkpoint}" in str(stopped.value)
    kept, state = load_checkpoint(failed), load_checkpoint(checkpoint)
    for weights in (model.state_dict(), kept["model"], state["model"]):
        assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert {name: kept[name] for name in ("epoch", "step", "seed")} == {"epoch": 3, "step": 1, "seed": 5}
    batch = next(batches(3))
    assert torch.equal(kept["batch"]["windows"], batch.windows)
    assert torch.equal(kept["batch"]["events"]["lengths"], batch.events.lengths)
    if batch.slates is None:
        assert kept["batch"]["slates"] is None
    else:
        assert torch.equal(kept["batch"]["slates"]["items"], batch.slates.items)


class Pole(Row):
    """The gradient of the one row that it reads is infinite, d√x/dx at 0."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        row = self.table(torch.tensor([1]))
        return {"root": (row - row.detach()).sqrt().sum()}


def test_a_sparse_gradient_that_is_not_finite_is_named(tmp_path):
    """It is the table's, of which no number may change."""
    model = Pole()
    with pytest.raises(UserError, match=r"the gradient of table\.weight is not finite at epoch 1, step 1"):
        fit(tmp_path, closeness, model=model, row_updates=True)
    assert model.table.weight.flatten().tolist() == [1, 1]


class Steep(Slope):
    """A loss whose gradients are finite, 10³⁰ each, but whose norm overflows where its square is not representable."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"steep": 1e30 * self.w.sum() + 1e30 * self.table.weight.sum()}


def test_a_norm_that_overflows_counts_as_not_finite(tmp_path):
    """Clipping by an infinite norm would silently multiply every gradient by zero."""
    with pytest.raises(UserError, match=r"the gradient of .* is not finite at epoch 1, step 1"):
        fit(tmp_path, closeness, model=Steep())


def test_each_epoch_is_announced_after_its_seed_is_set(tmp_path):
    """What a model draws in `begin_epoch` differs between epochs and is drawn again alike when an epoch is repeated."""
    drawn: list[tuple[int, float]] = []

    class Drawing(Slope):
        def begin_epoch(self, epoch: int) -> None:
            drawn.append((epoch, torch.rand(1).item()))

    def kill(progress: Progress) -> None:
        if progress.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(tmp_path, closeness, model=Drawing(), report=kill)
    fit(tmp_path, closeness, model=Drawing(), max_epochs=3)
    assert [epoch for epoch, _ in drawn] == [1, 2, 2, 3]
    assert drawn[1] == drawn[2]
    assert len({value for _, value in drawn}) == 3


def half_a_write(state: object, path: Path) -> None:
    """Stands for torch.save: ctrl-C arrives when half of the file is written."""
    path.write_bytes(b"half")
    raise KeyboardInterrupt


def test_several_gpus_do_not_update_rows(tmp_path, monkeypatch):
    """NCCL sums no sparse tensors (pytorch issue 22400); the refusal comes before a GPU is asked for anything."""
    monkeypatch.setattr(distributed, "world", lambda: 2)
    config = TrainingConfig(row_updates=True)
    with pytest.raises(UserError, match=r"set training\.row_updates to false"):
        train(Slope(), config, one_batch, 1, closeness, seed=5, checkpoint=tmp_path / "c.pt", device="cuda:0")


def test_ctrl_c_in_the_middle_of_a_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    """The file is moved into place only when it is whole: what is there is the state after epoch 1 and nothing else."""

    def interrupt(progress: Progress) -> None:
        if progress.epoch == 2:
            monkeypatch.setattr(torch, "save", half_a_write)

    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, closeness, report=interrupt)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]
    assert load_checkpoint(tmp_path / "c.pt")["summary"]["epochs"] == 1
    whole, _ = fit(tmp_path / "whole", closeness)
    resumed, _ = fit(tmp_path, closeness)
    assert torch.equal(resumed.w, whole.w)


def test_a_full_disk_is_said_in_words_and_keeps_the_checkpoint_before(tmp_path):
    """A limit on the size of files stands for the disk; torch raises its own kind of error there."""
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"w": torch.ones(1)})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*c\.pt.*free some space"):
            save_checkpoint(path, {"w": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]
    assert torch.equal(load_checkpoint(path)["w"], torch.ones(1))


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


@pytest.mark.parametrize("row_updates", [False, True])
def test_a_training_has_the_beta_of_its_settings(tmp_path, row_updates):
    """The checkpoint keeps the optimiser: 0.9 and beta2, which is 0.999 where nothing is said, as in torch."""
    for name, said, expected in (("usual", {}, 0.999), ("published", {"beta2": 0.98}, 0.98)):
        fit(tmp_path / name, closeness, model=Row(), max_epochs=1, row_updates=row_updates, **said)
        groups = load_checkpoint(tmp_path / name / "c.pt")["optimiser"]["param_groups"]
        assert [group["betas"] for group in groups] == [(0.9, expected)] * 2


@pytest.mark.parametrize("beta2", [-0.1, 1.0, math.nan])
def test_a_beta_that_is_no_share_is_refused(beta2):
    """At 1 the mean square would never leave 0, and AdamW would divide by it."""
    with pytest.raises(UserError, match=f"beta2 is {beta2}; it must be 0 or more and less than 1"):
        TrainingConfig(beta2=beta2)


def test_decay_lowers_both_rates_evenly_to_zero(tmp_path, monkeypatch):
    # 2 epochs of 2 steps: what is left of each rate at its step is 4/4, 3/4, 2/4, 1/4
    seen = []
    step = torch.optim.AdamW.step

    def spy(optimiser, *arguments, **named):
        seen.append([group["lr"] for group in optimiser.param_groups])
        return step(optimiser, *arguments, **named)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)

    def two_batches(epoch):
        return [*one_batch(epoch), *one_batch(epoch)]

    config = TrainingConfig(
        learning_rate=0.4, sparse_learning_rate=0.8, max_epochs=2, patience=3, precision="fp32", decay=True
    )
    train(Slope(), config, two_batches, 2, closeness, seed=5, checkpoint=tmp_path / "c.pt")
    assert seen == [pytest.approx([0.4 * left, 0.8 * left]) for left in (1, 0.75, 0.5, 0.25)]
