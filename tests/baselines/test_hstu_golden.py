"""HSTU and the SASRec of its repository against numbers of the authors' own code: golden/README.md says how made."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.hstu import HSTU, NextItemModel
from baselines.meta_sasrec import MetaSASRec
from synergen.contract import Batch, DataView, Histories, Requests, Task

SIZES = {"width": 8, "layers": 2, "heads": 2, "max_history": 9, "negatives": 5}
MODELS = {"hstu": (HSTU, {"qk_width": 3, "v_width": 5}), "meta_sasrec": (MetaSASRec, {"ffn_width": 6})}


@pytest.fixture(params=sorted(MODELS))
def golden(
    request: pytest.FixtureRequest, make_view: Callable[..., DataView]
) -> tuple[NextItemModel, dict[str, Tensor]]:
    """A model with the weights of the file, and the file's other numbers."""
    kind, own = MODELS[request.param]
    with np.load(Path(__file__).parent / "golden" / f"{request.param}.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    model = kind(make_view(12), **SIZES, **own).eval()
    weights = {name.removeprefix("weight:"): value for name, value in values.items() if name.startswith("weight:")}
    model.load_state_dict(weights)
    return model, {name: value for name, value in values.items() if not name.startswith("weight:")}


def first(values: dict[str, Tensor], lengths: Tensor) -> Histories:
    """The first events of each row, padded with zeros."""
    valid = (torch.arange(values["items"].shape[1]) < lengths[:, None]).long()
    items, times = values["items"].long() * valid, values["times"] * valid
    return Histories(items, valid, times, torch.zeros_like(items), valid.cumsum(1) * valid, lengths)


def test_users_are_the_authors(golden: tuple[NextItemModel, dict[str, Tensor]]) -> None:
    model, values = golden
    lengths = values["lengths"].long()
    times = values["times"].gather(1, lengths[:, None])[:, 0]
    none = torch.zeros_like(lengths)
    asked = Requests(Task.RECOMMENDATION, first(values, lengths), times, none, none)
    torch.testing.assert_close(model.user_vectors(asked), values["users"], rtol=0, atol=1e-5)


def test_states_and_loss_are_the_authors(
    golden: tuple[NextItemModel, dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The states are those that the loss is given."""
    model, values = golden
    events = first(values, values["lengths"].long() + 1)
    seen = []
    monkeypatch.setattr(torch, "randint", lambda *a, **k: values["negatives"].long())
    inner = model.states
    monkeypatch.setattr(model, "states", lambda *a: seen.append(inner(*a)) or seen[0])
    batch = Batch(events, events.valid, events.actions, torch.arange(4))
    torch.testing.assert_close(model.loss(batch)["sampled"], values["loss"], rtol=0, atol=1e-5)
    states = torch.nn.functional.normalize(seen[0], dim=-1) * events.valid[:, 1:, None]
    torch.testing.assert_close(states, values["states"], rtol=0, atol=1e-5)
