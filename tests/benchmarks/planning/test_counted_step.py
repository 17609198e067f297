"""A step is counted as torch counts a real one, and as one counts by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from baselines.registry import MODELS, build, model_class, tasks_of
from benchmarks.inputs import Known
from benchmarks.plan import make_run
from benchmarks.planning.counted_step import CountedStep, count_step, step_of, use_byte_masks
from benchmarks.planning.workload import Workload, made_up_batch
from benchmarks.size import catalogue_of
from benchmarks.spec import load_spec
from synergen.contract import Batch, Recommender
from synergen.errors import UserError

KNOWN = Known(300, 40, ("red shoes", "blue shoes"))
WORK = Workload(1000, 12, 10, (12, 10))
PROTOCOL = load_spec(3).protocol
COUNTED = [name for name in MODELS if model_class(name).learns and not name.startswith("HLLM")]


def planned(model: str, **settings: Any):
    tasks = tasks_of(model)
    task = "joint" if len(tasks) == 2 else str(next(iter(tasks)))
    return make_run(model, task, settings, PROTOCOL, "shop", "cpu", 0)


def counted(model: str, windows: int = 6, dtype: torch.dtype | None = None, **settings: Any) -> CountedStep:
    spec = planned(model, **settings)
    batch = made_up_batch(WORK, windows, spec, KNOWN)
    torch.manual_seed(1)
    return count_step(model, spec.settings, catalogue_of(KNOWN), batch, dtype)


class _Toy(Recommender):
    """A table of 4 numbers a row, and 3 sums of them, squared."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.sums = nn.Embedding(10, 4), nn.Linear(4, 3, bias=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {"squares": self.sums(self.table(batch.events.items)).square().sum()}


def test_a_step_by_hand() -> None:
    """2 windows of 5 events are 10 tokens: products of 2·10·4·3 FLOPs, forward, for the weights, and for the tokens.
    Kept are ids (8 bytes), vectors (4 numbers) and sums (3) of 10 tokens; rows are the distinct ids."""
    batch = made_up_batch(Workload(2, 5, 5, (5, 5)), 2, planned("SASRec"), Known(9))
    found = step_of(_Toy(), batch, None)
    distinct = len(set(batch.events.items.flatten().tolist()))
    assert found == CountedStep(3 * 240, 10 * (8 + 16 + 12), distinct, 4 * distinct)


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("SynerGen", {"dropout": 0.0, "embedding_dropout": 0.0, "retrieval_loss": "infonce"}),
        ("SynerGen", {"dropout": 0.0, "embedding_dropout": 0.0, "inputs": "id", "hard": "query"}),
        ("SASRec", {"hidden_dropout": 0.0, "attention_dropout": 0.0}),
        ("HSTU", {"dropout": 0.0}),
        ("TEM", {"dropout": 0.0}),
    ],
)
def test_shapes_give_what_a_real_step_gives(model: str, settings: dict[str, Any]) -> None:
    """FLOPs by torch's counter and the storages that autograd keeps, of the same step with real numbers."""
    spec = planned(model, **settings)
    batch = made_up_batch(WORK, 6, spec, KNOWN)
    real = build(model, catalogue_of(KNOWN, rows=True), spec.settings).train()
    torch.manual_seed(1)
    expected = step_of(real, batch, None)
    found = counted(model, **settings)
    assert found.flops == expected.flops > 0
    assert found.kept_bytes == pytest.approx(expected.kept_bytes, rel=0.01)
    assert (found.rows, found.row_numbers) == (expected.rows, expected.row_numbers)


def test_synergen_by_formula() -> None:
    """Of each of 1 + 1 + 5 tokens of an event, forward: 2 · 12 D² of a layer's matrices (F = 4 D); attention, 4 D to T
    context tokens (and to itself and the retrieval token, as rows of the product); about 2 · 3 D² of the fusion, and
    2 D² of the ranking head. Both readings of N targets against N others: 2 · 2 N² D. Backward is twice as much."""
    windows, tokens, width, layers = 6, 12, 64, 2
    found = counted("SynerGen", windows, inputs="id", retrieval_loss="infonce", ranking_negatives=4, alpha=1.0)
    events, targets = windows * tokens, windows * 10
    context, tasks = events, 6 * targets
    matrices = (context + tasks) * (2 * 12 * layers + 2 * 3) * width**2 + 5 * targets * 2 * width**2
    attention = layers * 4 * width * (context * tokens + tasks * (tokens + 2))
    logits = 2 * 2 * targets**2 * width
    assert found.flops == pytest.approx(3 * (matrices + attention + logits), rel=0.05)


@pytest.mark.parametrize("model", COUNTED)
def test_every_model_is_counted(model: str) -> None:
    """Twice as many windows are at least as much work, and need more memory."""
    one, two = counted(model, 6, torch.bfloat16), counted(model, 12, torch.bfloat16)
    assert 0 < one.flops <= two.flops
    assert 0 < one.kept_bytes < two.kept_bytes
    assert 0 < one.rows <= two.rows


def test_requests_with_slates_are_counted() -> None:
    """All that a request shows is ranked: twice as many tokens for 10 items as for 5, beside those of the context."""
    spec = planned("SynerGen", hard="impressions", retrieval_loss="infonce")

    def flops(shown: int) -> float:
        batch = made_up_batch(Workload(100, 12, 3, (12, 3), shown), 6, spec, KNOWN)
        return count_step("SynerGen", spec.settings, catalogue_of(KNOWN), batch, None).flops

    assert 1.2 * flops(5) < flops(10) < 2 * flops(5)


def test_an_index_of_items_is_not_searched() -> None:
    assert counted("SynerGen", hard="mined", alpha=0.5, retrieval_loss="infonce").flops > 0


def test_masks_of_dropout_are_bytes() -> None:
    """As by hand above, with a byte more for each of 3 sums of 10 tokens."""

    class Drops(_Toy):
        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def loss(self, batch: Batch) -> dict[str, Tensor]:
            return {"squares": self.drop(self.sums(self.table(batch.events.items))).square().sum()}

    model = Drops().train()
    use_byte_masks(model)
    batch = made_up_batch(Workload(2, 5, 5, (5, 5)), 2, planned("SASRec"), Known(9))
    assert step_of(model, batch, None).kept_bytes == 10 * (8 + 16 + 12 + 3)


def test_numbers_that_decide_shapes_are_refused() -> None:
    class Chooses(_Toy):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            scores = self.sums(self.table(batch.events.items))
            return {"large": scores[scores > 0].sum()}

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = Chooses()
    batch = made_up_batch(WORK, 2, planned("SASRec"), Known(9))
    with pytest.raises(UserError, match="Chooses: its step cannot be counted by shapes"):
        step_of(model, batch, None)
