"""Two processes on gloo against one with the same batches: the same weights, the same ranks, the same resumed training.

The reference is always the trainer and the evaluator in one process, whose numbers other tests hold to account.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from processes import by_two
from toys import toy_requests, toy_shop, toy_tables

from baselines.registry import build
from synergen import distributed
from synergen.contract import Batch, Task
from synergen.data.batches import training_batches, training_windows
from synergen.data.dataset import Dataset, prepare
from synergen.data.impressions import with_impressions
from synergen.data.splits import Part, TimeSplit
from synergen.evaluation import slates
from synergen.evaluation.ranking import full_ranks, pool_ranks
from synergen.raw import validate
from synergen.runs import RunStore
from synergen.training.trainer import Summary, TrainingConfig, train

ROOT = Path(distributed.__file__).resolve().parents[1]
WITHOUT_DROPOUT = {"hidden_dropout": 0.0, "attention_dropout": 0.0}


def shop() -> Dataset:
    interactions, items = toy_tables()
    return prepare(validate(interactions, items, "toy", "toy"), search_share=0.5)


def learn(
    folder: Path,
    batch_size: int = 8,
    stop_at: int = 0,
    row_updates: bool = False,
    name: str = "SASRec",
    settings: dict[str, Any] = WITHOUT_DROPOUT,
) -> tuple[Summary, dict[str, Any]]:
    """Four epochs without dropout: nothing is random but the batches, which all processes draw alike. In float64, as
    AdamW makes steps of the rounding errors of float32."""
    data = shop()
    torch.manual_seed(0)
    model = build(name, data.view(None, None), settings).double()
    windows = training_windows(data.split, 50, 0)
    steps = 0

    def batches(epoch: int) -> Iterator[Batch]:
        """Without targets that have no history, which SASRec's mean leaves out: see `take_step`, `weight`."""
        for batch in training_batches(data.log, windows, batch_size, np.random.default_rng(epoch)):
            yield replace(batch, targets=batch.targets & (batch.events.groups > batch.events.groups[:, :1]))

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at and distributed.rank() == 0  # one process hears of it

    def validation(model: Any) -> dict[str, float]:
        ranks = full_ranks(model, data.log, data.split, Part.VALID, Task.RECOMMENDATION, max_history=50, batch_size=7)
        return {"N@10": float(np.nanmean(1 / ranks))}

    config = TrainingConfig(max_epochs=4, precision="fp32", row_updates=row_updates)
    summary = train(model, config, batches, 4, validation, seed=3, checkpoint=folder / "c.pt", stop=stop)
    return summary, model.state_dict()


def slates_of() -> dict[str, np.ndarray]:
    """Requests, and ranks in slates by the items' own numbers."""
    interactions, items, impressions = toy_requests(users=40)
    split = prepare(
        with_impressions(validate(interactions, items, "toy", "toy"), impressions, "toy"), 0.0, "time"
    ).split
    assert isinstance(split, TimeSplit)
    asked = split, Part.TEST, Task.SEARCH, 1
    with patch.object(slates, "BATCH_SIZE", 7):
        found = slates.slate_ranks(lambda question: question.slates.float(), *asked, max_history=5, report=None)
    return {"requests": found.requests, "in slates": found.ranks}


def ranks_of(folder: Path) -> dict[str, np.ndarray]:
    """Among a pool, among all items and in slates, of questions in batches of 7."""
    data = shop()
    torch.manual_seed(0)
    model = build("SASRec", data.view(None, None), WITHOUT_DROPOUT)
    common: dict[str, Any] = {"max_history": 50, "batch_size": 7}
    pool = np.stack([np.roll(np.arange(1, 21), u) for u in range(data.log.n_users)])
    asked = data.log, data.split, Part.TEST, Task.SEARCH
    among = np.arange(0, data.log.n_users, 2)
    return slates_of() | {
        "pool": pool_ranks(model, *asked, pool, **common),
        "full": full_ranks(model, *asked, **common),
        "among": full_ranks(model, *asked, among=among, **common),
    }


def the_same(weights: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=tolerance)


@pytest.mark.parametrize("batch_size", [8, 1])
def test_two_processes_learn_what_one_learns(tmp_path, batch_size):
    """Up to the order of sums: 1e-6 after four epochs. In batches of about one sequence a process often has none."""
    summary, expected = learn(tmp_path, batch_size)
    both = by_two(tmp_path / "two", learn, batch_size=batch_size)
    for found, weights in both:
        the_same(weights, expected, 1e-6)
        assert [p["loss"] for p in found.curve] == pytest.approx([p["loss"] for p in summary.curve], abs=1e-5)
        assert [p["targets"] for p in found.curve] == [p["targets"] for p in summary.curve]
        assert [p["metric"] for p in found.curve] == pytest.approx([p["metric"] for p in summary.curve], rel=5e-3)
    the_same(both[0][1], both[1][1], 0.0)


def test_rows_that_either_process_read_are_updated_in_both(tmp_path):
    """Negatives are each process's own, so that only their agreement can be told."""
    settings = WITHOUT_DROPOUT | {"loss": "sampled", "negatives": 20}
    (_, first), (_, second) = by_two(tmp_path, learn, row_updates=True, settings=settings)
    the_same(first, second, 0.0)


@pytest.mark.parametrize("gather", [True, False])
def test_in_batch_negatives_are_those_of_all_processes_if_wished(tmp_path, gather):
    """The whole batch is then what each choice stands against, as in one process."""
    settings = {"inputs": "id", "width": 16, "layers": 1, "heads": 2, "ffn_width": 16, "dropout": 0.0, "alpha": 1.0}
    settings |= {"embedding_dropout": 0.0, "ranking_head": False, "gather_negatives": gather, "temperature": 1.0}
    _, expected = learn(tmp_path, name="SynerGen", settings=settings)
    (_, weights), _ = by_two(tmp_path / "two", learn, name="SynerGen", settings=settings)
    furthest = max(float((weights[name] - value).abs().max()) for name, value in expected.items())
    assert (furthest < 1e-5) == gather


def test_a_stop_that_one_hears_of_stops_both_and_they_go_on_at_that_step(tmp_path):
    _, expected = by_two(tmp_path / "whole", learn)[0]
    assert by_two(tmp_path / "two", learn, stop_at=6) == ["interrupted", "interrupted"]
    assert torch.load(tmp_path / "two" / "c.pt", weights_only=True)["within"]["place"]["step"] > 0
    for _, weights in by_two(tmp_path / "two", learn):
        the_same(weights, expected, 0.0)


def test_a_training_of_two_goes_on_in_one(tmp_path):
    """The checkpoint is that of the whole model; here nothing is random, so the numbers are those of one process."""
    _, expected = learn(tmp_path)
    by_two(tmp_path / "two", learn, stop_at=6)
    the_same(learn(tmp_path / "two")[1], expected, 1e-6)


def test_two_processes_find_the_ranks_that_one_finds(tmp_path):
    expected = ranks_of(tmp_path)
    for found in by_two(tmp_path / "two", ranks_of):
        for name, ranks in expected.items():
            np.testing.assert_array_equal(found[name], ranks)
    assert np.isnan(expected["among"]).any()


def test_alone_nothing_happens(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.joined("cuda") as device:
        assert (device, distributed.world(), distributed.rank()) == ("cuda", 1, 0)
    assert distributed.summed(1, 2.5) == [1, 2.5]
    assert distributed.gathered("x") == ["x"]


@pytest.mark.parametrize(("asked", "backend"), [("cpu", "gloo"), ("cuda:1", "nccl")], ids=["processor", "second GPU"])
def test_alone_the_backend_is_that_of_the_device_and_not_of_what_the_machine_has(monkeypatch, asked, backend):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with patch.object(distributed.dist, "init_process_group") as start:
        with distributed.joined(asked), pytest.raises(AssertionError):  # nothing was started
            distributed.group()
        with pytest.raises(AssertionError):  # nobody says what device it shall be
            distributed.group()
    assert [call.args for call in start.call_args_list] == [(backend,), ("nccl",)]


def test_torchrun_trains_each_run_by_all_its_processes(tmp_path):
    """The same batches, of which each takes half; dropout makes the losses differ a little."""
    shop = toy_shop(tmp_path / "shop", users=120, items=40)
    words = [
        "--table",
        "2",
        "--models",
        "SASRec,Popularity",
        "--dataset",
        str(shop),
        "--scale",
        "short",
        "--device",
        "cpu",
    ]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = []
    for launcher, name in (([], "one"), (launch, "two")):
        command = [
            sys.executable,
            *launcher,
            str(ROOT / "benchmarks" / "run.py"),
            *words,
            "--out",
            str(tmp_path / name),
        ]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert said.returncode == 0, said.stderr
        assert said.stdout.count("written: ") == 1  # the first process alone speaks
        found.append({record["model"]: record for record in RunStore(tmp_path / name).records()})
    one, two = found
    assert two["SASRec"]["processes"] == 2
    assert two["Popularity"]["metrics"] == one["Popularity"]["metrics"]
    losses = [[point["loss"] for point in record["training"]["curve"]] for record in (one["SASRec"], two["SASRec"])]
    assert losses[1] == pytest.approx(losses[0], rel=0.1)
