"""Flat events to padded tensors, without a Python loop over users."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from synergen.contract import Batch, Histories, Requests, Task
from synergen.data.splits import LeaveOneOut, Part
from synergen.events import EventLog

_SORT_SPAN = 32
"""Batches sorted together by length: long enough to save padding, short enough to keep batches random."""


def tensor(values: np.ndarray) -> torch.Tensor:
    """As int64."""
    return torch.from_numpy(values.astype(np.int64, copy=False))


def gather(log: EventLog, starts: np.ndarray, stops: np.ndarray) -> Histories:
    """The events starts[b]:stops[b] of the log as rows padded to the longest."""
    lengths = stops - starts
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    valid = steps < lengths[:, None]  # (B, T)
    at = np.where(valid, starts[:, None] + steps, 0)

    def padded(values: np.ndarray) -> torch.Tensor:
        return tensor(np.where(valid, values[at], 0))

    return Histories(
        items=padded(log.items),
        actions=padded(log.actions),
        times=padded(log.times),
        queries=padded(log.query_trail),
        groups=padded(log.groups),
        lengths=tensor(lengths),
    )


@dataclass(frozen=True)
class Windows:
    """Cuts of the training sequences: events starts:stops, of which those from first_targets on are targets."""

    starts: np.ndarray
    stops: np.ndarray
    first_targets: np.ndarray

    @property
    def target_counts(self) -> np.ndarray:
        return self.stops - self.first_targets


def training_windows(split: LeaveOneOut, max_history: int) -> Windows:
    """Cut each user's training events into windows of max_history + 1, so that the last target of a full window has a
    full history. Windows of one user overlap by half: every event is a target once, and in all but a user's first
    window it has at least half of max_history before it."""
    begin, end = split.log.offsets[:-1], split.train_ends()
    size, stride = max_history + 1, max(1, max_history // 2)
    beyond = np.maximum(0, end - begin - size)
    counts = 1 + -(-beyond // stride)  # windows of each user
    user = np.repeat(np.arange(len(begin)), counts)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    stops = end[user] - (counts[user] - 1 - nth) * stride
    starts = np.maximum(begin[user], stops - size)
    first_targets = np.where(nth == 0, begin[user], stops - stride)
    return Windows(starts, stops, first_targets)


def alike(
    sizes: tuple[np.ndarray, np.ndarray], counts: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Every sequence once, in random batches of like `sizes` (the first before the second) and equal total `counts`
    (that of `batch_size` average sequences)."""
    order = rng.permutation(len(counts))
    spans = np.arange(len(order)) // (_SORT_SPAN * batch_size)
    order = order[np.lexsort((sizes[1][order], sizes[0][order], spans))]
    budget = max(1.0, batch_size * float(counts.mean()))
    number = np.floor((np.cumsum(counts[order]) - 1) / budget).astype(np.int64)
    batches = np.split(order, np.flatnonzero(np.diff(number)) + 1)
    for i in rng.permutation(len(batches)):
        yield batches[i]


def training_batches(log: EventLog, windows: Windows, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch in random order. Batches hold windows of like length and an equal number of targets (that of
    `batch_size` average windows), so that a mean over a batch's targets weighs every event of the log alike."""
    sizes = (windows.stops - windows.starts, windows.target_counts)
    for chosen in alike(sizes, windows.target_counts, batch_size, rng):
        events = gather(log, windows.starts[chosen], windows.stops[chosen])
        offset = tensor(windows.first_targets[chosen] - windows.starts[chosen])
        steps = torch.arange(events.items.shape[1])
        targets = events.valid & (steps >= offset[:, None])  # (B, T)
        wanted = torch.zeros_like(events.actions) if log.action_is_outcome else events.actions
        yield Batch(events, targets, wanted, tensor(chosen))


@dataclass(frozen=True)
class Question:
    """Requests of some users and what the protocol knows about them."""

    users: np.ndarray  # (B,)
    requests: Requests
    targets: torch.Tensor  # (B,) int64: the item that the user went on to choose


def asked_users(log: EventLog, split: LeaveOneOut, part: Part, task: Task) -> np.ndarray:
    """(≤U,) users that the task is asked for: all in recommendation, in search those whose target has a query."""
    users = np.arange(log.n_users)
    return users if task is Task.RECOMMENDATION else users[log.queries[split.targets(part)] > 0]


def questions(
    log: EventLog, split: LeaveOneOut, part: Part, task: Task, max_history: int, batch_size: int
) -> Iterator[Question]:
    """Every request of a part and task, in batches of like history length."""
    targets = split.targets(part)
    users = asked_users(log, split, part, task)
    lengths = np.minimum(targets - log.offsets[:-1], max_history)[users]
    users = users[np.argsort(lengths, kind="stable")]
    for at in range(0, len(users), batch_size):
        chosen = users[at : at + batch_size]
        events = targets[chosen]
        starts = np.maximum(log.offsets[chosen], events - max_history)
        wanted = np.zeros(len(chosen)) if log.action_is_outcome else log.actions[events]
        queries = log.queries[events] if task is Task.SEARCH else np.zeros(len(chosen))
        requests = Requests(
            task, gather(log, starts, events), tensor(log.times[events]), tensor(queries), tensor(wanted)
        )
        yield Question(chosen, requests, tensor(log.items[events]))


def history_pairs(log: EventLog, users: np.ndarray, stops: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, items) of everything that each of `users` touched before event stops[b]: what full ranking removes."""
    counts = stops - log.offsets[users]
    rows = np.repeat(np.arange(len(users)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return tensor(rows), tensor(log.items[np.repeat(log.offsets[users], counts) + within])
