"""Made-up catalogues, histories and batches for the tests of the model."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.model.synergen import SynerGen

START = 1_500_000_000
TEXT_WIDTH = 12


def data_view(n_items: int = 20, n_queries: int = 5, n_actions: int = 2, text: bool = True) -> DataView:
    """A catalogue with random text vectors and counts."""
    rng = np.random.default_rng(3)

    def vectors(n: int) -> np.ndarray | None:
        if not text:
            return None
        rows = rng.normal(size=(n + 1, TEXT_WIDTH)).astype(np.float16)
        rows[0] = 0
        return rows

    return DataView(
        n_items=n_items,
        n_queries=n_queries,
        n_actions=n_actions,
        item_texts=[""] * (n_items + 1),
        query_texts=[""] * (n_queries + 1),
        item_counts=np.concatenate([[0], rng.integers(0, 50, n_items)]),
        item_vectors=vectors(n_items),
        query_vectors=vectors(n_queries),
    )


def random_histories(lengths: list[int], seed: int = 0, width: int | None = None, n_items: int = 20) -> Histories:
    """Random events hours apart; about a third share the request of the event before. Rows are padded with zeros."""
    g = torch.Generator().manual_seed(seed)
    size, longest = len(lengths), max(lengths)
    shape = (size, longest)
    valid = torch.arange(longest) < torch.tensor(lengths)[:, None]

    def pad(values: Tensor) -> Tensor:
        full = torch.zeros(size, longest if width is None else width, dtype=torch.int64)
        full[:, :longest] = values * valid
        return full

    return Histories(
        items=pad(torch.randint(1, n_items + 1, shape, generator=g)),
        actions=pad(torch.randint(1, 3, shape, generator=g)),
        times=pad(START + torch.randint(1, 200_000, shape, generator=g).cumsum(1)),
        queries=pad(torch.randint(0, 6, shape, generator=g)),
        groups=pad((torch.rand(shape, generator=g) > 1 / 3).long().cumsum(1)),
        lengths=torch.tensor(lengths),
    )


def random_batch(lengths: list[int], seed: int = 0, width: int | None = None) -> Batch:
    """A batch whose events are all targets."""
    events = random_histories(lengths, seed, width)
    return Batch(events, events.valid, events.actions, torch.arange(len(events.items)))


def random_requests(lengths: list[int], task: Task, seed: int = 0, width: int | None = None) -> Requests:
    """Requests a day after everything else; in search, each has a query."""
    history = random_histories(lengths, seed, width)
    size = len(lengths)
    queries = 1 + torch.arange(size) % 5 if task is Task.SEARCH else torch.zeros(size, dtype=torch.int64)
    times = torch.full((size,), START + 10_000_000) + torch.arange(size)
    return Requests(task, history, times, queries, 1 + torch.arange(size) % 2)


def build(data: DataView | None = None, **settings: object) -> SynerGen:
    """A small model in evaluation mode, without dropout."""
    torch.manual_seed(0)
    small = {"width": 16, "ffn_width": 32, "dropout": 0.0, "embedding_dropout": 0.0}
    model = SynerGen(data_view() if data is None else data, **(small | settings)).eval()
    # At initialisation scores hardly depend on the history; tests of "nothing changed" must not pass for that reason.
    for parameter in model.parameters():
        parameter.data.mul_(2)
    return model


@pytest.fixture(scope="session")
def make_view() -> Callable[..., DataView]:
    return data_view


@pytest.fixture(scope="session")
def make_histories() -> Callable[..., Histories]:
    return random_histories


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture(scope="session")
def make_requests() -> Callable[..., Requests]:
    return random_requests


@pytest.fixture(scope="session")
def make_model() -> Callable[..., SynerGen]:
    return build
