"""A table spread over processes by TorchRec, against the plain table in one process, with the same first weights."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from processes import by_processes, by_two
from toys import toy_tables

from benchmarks.job import execute, retest
from benchmarks.plan import make_run
from synergen import distributed
from synergen.contract import Batch, Task
from synergen.data.batches import training_batches, training_windows
from synergen.data.dataset import Dataset, prepare
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.evaluation.ranking import full_ranks, pool_ranks
from synergen.model.config import SynerGenConfig
from synergen.model.synergen import SynerGen
from synergen.raw import validate
from synergen.runs import RunSpec, RunStore
from synergen.sharded_table import ShardedTable, nearest
from synergen.training.trainer import TrainingConfig, train

needs_torchrec = pytest.mark.skipif(
    importlib.util.find_spec("torchrec") is None, reason="TorchRec is not installed: `make scale` installs it"
)

SETTINGS: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2, "ffn_width": 16, "inputs": "id"}
SETTINGS |= {"dropout": 0.0, "embedding_dropout": 0.0, "temperature": 1.0, "alpha": 1.0, "gather_negatives": True}
SETTINGS |= {"ranking_head": False}
EPOCHS = 4


def shop() -> Dataset:
    interactions, items = toy_tables()
    return prepare(validate(interactions, items, "toy", "toy"), search_share=0.5)


def sharded(data: Dataset, **settings: Any) -> SynerGen:
    torch.manual_seed(0)
    return SynerGen(data.view(None, None), **SETTINGS, embedding="torchrec", **settings)


def epoch_of(data: Dataset, epoch: int) -> Iterator[Batch]:
    """Without targets that have no history, which the mean of the context loss leaves out: see `take_step`."""
    windows = training_windows(data.split, 50, 0)
    for batch in training_batches(data.log, windows, 8, np.random.default_rng(epoch)):
        yield replace(batch, targets=batch.targets & (batch.events.groups > batch.events.groups[:, :1]))


def weights_of(model: SynerGen) -> dict[str, torch.Tensor]:
    """All of them, the table's rows under the name that they have in a plain model; empty in the other processes."""
    model.gather()
    return {} if distributed.rank() else model.state_dict()


def learn(folder: Path, stop_at: int = 0) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Loss by epoch, and the weights of the last one, which validation always likes best."""
    data, model = shop(), sharded(shop())
    steps = epochs = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at and distributed.rank() == 0

    def validation(model: Any) -> dict[str, float]:
        nonlocal epochs
        epochs += 1
        return {"N@10": epochs + stop_at / 100}

    config = TrainingConfig(max_epochs=EPOCHS, precision="fp32", clip_norm=1e9, sparse_learning_rate=0.05)
    checkpoint = folder / "c.pt"
    summary = train(model, config, lambda e: epoch_of(data, e), 4, validation, seed=3, checkpoint=checkpoint, stop=stop)
    states = {path.name for path in (folder / "c.tables").iterdir()}
    assert states == {f"epoch{EPOCHS - 1}", f"best{EPOCHS - 1}", f"epoch{EPOCHS}", f"best{EPOCHS}"}
    return [point["loss"] for point in summary.curve], weights_of(model)


def learn_plainly(folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The same in one process: a plain table under TorchRec's row-wise Adagrad for whole tables, AdamW for the rest."""
    from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

    data = shop()
    model = sharded(data)
    model.gather()
    assert model.items.id is not None
    table = model.items.id.weight
    torch.manual_seed(0)
    rest = [p for p in model.parameters() if p is not table and p.requires_grad]
    assert len(model.parameter_groups()["sparse"]) == 2  # this table and that of actions
    actions = model.fusion.action.weight
    rest = [p for p in rest if p is not actions]
    groups = [{"params": rest, "lr": 1e-3}, {"params": [actions], "lr": 0.05}]
    optimisers = torch.optim.AdamW(groups, weight_decay=0.0), RowWiseAdagrad([table], lr=0.05)
    curve = []
    for epoch in range(1, EPOCHS + 1):
        loss_sum = targets = 0.0
        for batch in epoch_of(data, epoch):
            for optimiser in optimisers:
                optimiser.zero_grad()
            loss = torch.stack(list(model.loss(batch).values())).sum()
            loss.backward()
            for optimiser in optimisers:
                optimiser.step()
            count = int(batch.targets.sum())
            loss_sum, targets = loss_sum + loss.item() * count, targets + count
        curve.append(loss_sum / targets)
    return curve, model.state_dict()


def compare(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance, msg=lambda text, n=name: f"{n}: {text}")


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> list[Any]:
    """What each of two processes learns, undisturbed."""
    return by_two(tmp_path_factory.mktemp("two"), learn)


def learn_both_ways(folder: Path) -> tuple[Any, Any]:
    return learn_plainly(folder), learn(folder)


@needs_torchrec
def test_it_learns_what_the_plain_table_learns(tmp_path, of_two):
    """In one process and in two; float32 and the order of sums leave 2e-4 of the loss."""
    (((curve, weights), alone),) = by_processes(1, tmp_path, learn_both_ways)
    for losses, _ in (alone, *of_two):
        assert losses == pytest.approx(curve, rel=2e-4)
    for _, found in (alone, of_two[0]):
        compare(found, weights, 2e-3)
        assert not found["items.id.weight"][0].any()


@needs_torchrec
def test_a_stopped_training_goes_on_at_that_step_with_any_number_of_processes(tmp_path, of_two):
    """With as many, to the same bits; with one in place of two, up to the order of sums."""
    assert by_two(tmp_path / "2", learn, stop_at=6) == ["interrupted", "interrupted"]
    shutil.copytree(tmp_path / "2", tmp_path / "1")
    for world, tolerance in ((2, 0.0), (1, 2e-3)):
        compare(by_processes(world, tmp_path / str(world), learn)[0][1], of_two[0][1], tolerance)


def ranked(folder: Path, spread: bool) -> dict[str, np.ndarray]:
    """Ranks among pools and all items, and the ten items nearest to each user."""
    data = shop()
    model = sharded(data, easy="uniform")
    if not spread:
        model.gather()
    common: dict[str, Any] = {"max_history": 50, "batch_size": 7}
    pool = np.stack([np.roll(np.arange(1, 21), u) for u in range(data.log.n_users)])
    asked = data.log, data.split, Part.TEST, Task.RECOMMENDATION
    among = np.arange(0, data.log.n_users, 2)
    users = torch.randn(5, model.config.width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        items = model.item_vectors()
        scores, ids = nearest(users, items, model.first_item or 0, 10)
        if not spread:
            expected = (users @ items[1:].T).topk(10)
            torch.testing.assert_close(ids, expected.indices + 1, rtol=0, atol=0)
            assert len(items) == data.log.n_items + 1
    return {
        "pool": pool_ranks(model, *asked, pool, **common),
        "full": full_ranks(model, *asked, **common),
        "among": full_ranks(model, *asked, among=among, **common),
        "nearest": ids.numpy(),
        "scores": scores.numpy().round(5),
    }


@needs_torchrec
def test_ranks_and_nearest_items_are_those_of_the_plain_table(tmp_path):
    """Three processes, so that blocks are of unequal size; first weights do not depend on how many there are."""
    (expected,) = by_processes(1, tmp_path / "plain", ranked, spread=False)
    for found in by_processes(3, tmp_path / "spread", ranked, spread=True):
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert np.isnan(expected["among"]).any()


def spec_of_a_run() -> RunSpec:
    protocol = {"split": "leave-one-out", "filter": "k-core", "min_count": 5, "max_history": 50, "encoder": "minilm"}
    protocol |= {"candidates": "full", "negatives": 0, "validation": "N@10", "search_share": 0.0}
    settings = SETTINGS | {"embedding": "torchrec", "easy": "uniform", "retrieval_loss": "infonce"}
    short = {"max_epochs": 1, "patience": 1}
    return make_run("SynerGen", "recommendation", settings, protocol, "ml-100k", "smoke", 0, short)


def one_run(folder: Path) -> dict[str, Any]:
    return execute(spec_of_a_run(), "ml-100k", RunStore(folder), "cpu", "smoke", lambda stage, state: None).record


@needs_torchrec
def test_a_run_is_kept_as_a_model_with_a_plain_table(tmp_path):
    """Trained by two processes, asked by one: the same metrics, and as many parameters as ml-100k has items."""
    record, _ = by_two(tmp_path, one_run)
    assert retest(spec_of_a_run(), "ml-100k", RunStore(tmp_path), "cpu", None) == record["metrics"]
    assert record["parameters"]["sparse"] >= 16 * (record["data"]["items"] + 1)
    assert not list((tmp_path / "checkpoints").iterdir())


def test_a_process_without_rows_is_refused(monkeypatch):
    """Blocks of 2 rows: 2, 2 and none."""
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(UserError, match="4 rows in blocks of 2 leave some of 3 processes without any"):
        ShardedTable(4, 8, 0.1)


def test_without_torchrec_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchrec", None)
    with pytest.raises(UserError, match=r"TorchRec cannot be loaded.*set embedding to plain"):
        ShardedTable(10, 4, 0.1)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"inputs": "text"}, "embedding"),
        ({"retrieval_loss": "full_softmax"}, "retrieval_loss"),
        ({"hard": "mined"}, "hard"),
    ],
)
def test_what_needs_all_items_in_one_process_is_refused(settings, key):
    with pytest.raises(UserError, match=f"'{key}' is"):
        SynerGenConfig(embedding="torchrec", **settings)
