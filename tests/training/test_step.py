"""One training step, with dense and with row updates of the tables."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from synergen.contract import Batch, DataView, Histories
from synergen.model.synergen import SynerGen
from synergen.training.step import make_optimiser, take_step

RATES = {"dense": 1e-2, "sparse": 3e-2}
TITLES = ["", "red tea", "green tea", "red cup", "green cup", "blue cup"]


def view(n_items: int) -> DataView:
    """Items of five titles in turn, whose vectors are random."""
    rng = np.random.default_rng(0)
    texts = ["", *(TITLES[1 + i % 5] for i in range(n_items))]
    vectors = rng.normal(size=(n_items + 1, 6)).astype(np.float16)
    return DataView(n_items, 0, 2, texts, [""], rng.integers(0, 9, n_items + 1), vectors)


def batch(n_items: int) -> Batch:
    """Three users, five events each, some items more than once."""
    generator = torch.Generator().manual_seed(0)
    order = torch.arange(5).expand(3, -1)
    items = torch.randint(1, min(n_items, 12) + 1, (3, 5), generator=generator)
    actions = torch.randint(1, 3, (3, 5), generator=generator)
    events = Histories(items, actions, order * 1000, torch.zeros_like(items), order, torch.tensor([5, 5, 5]))
    return Batch(events, events.valid, actions, torch.arange(3))


def model(n_items: int, **settings: object) -> SynerGen:
    torch.manual_seed(0)
    small = {"width": 8, "ffn_width": 16, "layers": 1, "hard_negatives": 3}
    return SynerGen(view(n_items), **(small | settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"inputs": "id"},
        {"inputs": "both", "text_encoder": "trained"},
        {"inputs": "id", "easy": "uniform", "easy_negatives": 9, "alpha": 1.0},
        {"inputs": "id", "retrieval_loss": "full_softmax"},
    ],
)
@pytest.mark.parametrize("clip_norm", [1e9, 0.01])
def test_the_first_step_by_rows_is_that_of_adamw(settings: dict[str, object], clip_norm: float) -> None:
    """Moments start at zero, so that AdamW's first step moves no row without a gradient either. Gradients as small as
    these show in the first step only beside an eps as large."""
    dense = model(200, **settings)
    rows = deepcopy(dense)
    found = []
    for one, by_rows in ((dense, False), (rows, True)):
        optimiser = make_optimiser(one, RATES, 0.0, by_rows)
        for group in optimiser.param_groups:
            group["eps"] = 1e-2
        torch.manual_seed(1)
        found.append(take_step(one, optimiser, batch(200), clip_norm, None))
    assert found[0].loss == found[1].loss
    assert found[0].norm == pytest.approx(found[1].norm, rel=1e-5)
    moved = dict(dense.named_parameters())
    for name, parameter in rows.named_parameters():
        torch.testing.assert_close(parameter, moved[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("beta2", [0.0, 0.98])
def test_steps_are_those_of_torch_with_the_beta_asked_for(beta2: float) -> None:
    """Reference: AdamW of torch, not fused, on the same losses."""
    ours = model(12, inputs="id")
    theirs = deepcopy(ours)
    optimiser = make_optimiser(ours, RATES, 0.1, False, beta2)
    groups = [{"params": group, "lr": RATES[name]} for name, group in theirs.parameter_groups().items()]
    reference = torch.optim.AdamW(groups, betas=(0.9, beta2), weight_decay=0.1)
    for seed in range(4):
        for one, stepper in ((ours, optimiser), (theirs, reference)):
            torch.manual_seed(seed)
            take_step(one, stepper, batch(12), 1e9, None)
    moved = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter, moved[name], atol=1e-6, rtol=1e-5, msg=name)


class Largest(TorchDispatchMode):
    """The tensors with `least` numbers or more that operations make, other than views of those `known`."""

    def __init__(self, least: int, known: list[Tensor]) -> None:
        super().__init__()
        self.least, self.known = least, {tensor.untyped_storage().data_ptr() for tensor in known}
        self.made: list[str] = []

    def __torch_dispatch__(self, operation, types, arguments=(), named=None):
        result = operation(*arguments, **(named or {}))
        for one in tree_flatten(result)[0]:
            large = isinstance(one, Tensor) and not one.is_sparse and one.numel() >= self.least
            if large and one.untyped_storage().data_ptr() not in self.known:
                self.made.append(f"{operation} {tuple(one.shape)}")
        return result


@pytest.mark.parametrize(
    "settings",
    [
        {"easy": "uniform", "alpha": 1.0},
        {"hard": "popular", "popularity_correction": True},
        {"hard": "sampled", "inputs": "both"},
    ],
)
def test_nothing_that_a_step_by_rows_makes_is_as_large_as_the_catalogue(settings: dict[str, object]) -> None:
    """With 15 targets no tensor of a step comes near V = 30,000 numbers; only AdamW's makes a gradient of the table."""
    made = {}
    for by_rows in (True, False):
        one = model(30_000, **({"inputs": "id", "easy_negatives": 9} | settings))
        optimiser = make_optimiser(one, RATES, 0.01, by_rows)
        take_step(one, optimiser, batch(30_000), 5.0, None)  # makes the optimiser's state
        state = [value for values in optimiser.state.values() for value in values.values()]
        with Largest(30_000, [*one.parameters(), *one.buffers(), *state]) as seen:
            take_step(one, optimiser, batch(30_000), 5.0, None)
        made[by_rows] = seen.made
    assert made[True] == []
    assert any("(30001, 8)" in one for one in made[False])


def test_a_step_that_is_not_finite_is_not_taken() -> None:
    one = model(20, inputs="id")
    optimiser = make_optimiser(one, RATES, 0.0, True)
    one.fusion.mask.data[0] = torch.inf
    before = [parameter.detach().clone() for parameter in one.parameters()]
    assert not take_step(one, optimiser, batch(20), 5.0, None).taken
    assert all(torch.equal(old, new) for old, new in zip(before, one.parameters(), strict=True))
