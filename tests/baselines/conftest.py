"""Small catalogues and histories that the tests of the model zoo share."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from synergen.contract import Batch, DataView, Histories, Requests, Task

START, HOUR = 1_500_000_000, 3600


def histories(rows: Sequence[Sequence[int]], width: int | None = None) -> Histories:
    """Events an hour apart, each a request of its own; every other one was a search."""
    width = max(1, *(len(row) for row in rows)) if width is None else width
    lengths = torch.tensor([len(row) for row in rows])
    items = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], dtype=torch.int64)
    steps = torch.arange(width).expand_as(items)
    valid = (steps < lengths[:, None]).long()
    return Histories(
        items=items,
        actions=valid,
        times=(START + HOUR * steps) * valid,
        queries=(1 + items % 5) * (steps % 2) * valid,
        groups=steps * valid,
        lengths=lengths,
    )


def requests(rows: Sequence[Sequence[int]], task: Task, width: int | None = None) -> Requests:
    """What each user asks an hour after the last event."""
    size = len(rows)
    queries = 1 + torch.arange(size) % 5 if task is Task.SEARCH else torch.zeros(size, dtype=torch.int64)
    times = torch.tensor([START + HOUR * len(row) for row in rows])
    return Requests(task, histories(rows, width), times, queries, torch.ones(size, dtype=torch.int64))


def batch(rows: Sequence[Sequence[int]], width: int | None = None, targets_before: int | None = None) -> Batch:
    """Training sequences; every event, or those before position `targets_before`, are targets."""
    events = histories(rows, width)
    steps = torch.arange(events.items.shape[1])
    targets = events.valid if targets_before is None else events.valid & (steps < targets_before)
    return Batch(events, targets, events.actions, torch.arange(len(events.items)))


def view(n_items: int = 30) -> DataView:
    """Items whose words and vectors tell them apart, and five queries of words that some items have."""
    rng = np.random.default_rng(7)
    words = ["red", "green", "blue", "black", "white"]
    return DataView(
        n_items=n_items,
        n_queries=5,
        n_actions=1,
        item_texts=["", *(f"{words[i % 5]} thing{i % 7} name{i}" for i in range(1, n_items + 1))],
        query_texts=["", *words],
        item_counts=np.concatenate([[0], rng.integers(1, 50, n_items)]),
        item_vectors=rng.normal(size=(n_items + 1, 12)).astype(np.float16),
        query_vectors=rng.normal(size=(6, 12)).astype(np.float16),
    )


@pytest.fixture(scope="session")
def make_histories() -> Callable[..., Histories]:
    return histories


@pytest.fixture(scope="session")
def make_requests() -> Callable[..., Requests]:
    return requests


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Batch]:
    return batch


@pytest.fixture(scope="session")
def make_view() -> Callable[..., DataView]:
    return view
