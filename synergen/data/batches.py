"""Flat events to padded tensors, without a Python loop over users."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from synergen.contract import Batch, Histories, Requests, Task
from synergen.data.splits import EventSplit, Part
from synergen.errors import UserError
from synergen.events import EventLog

_SORT_SPAN = 32
"""Batches sorted together by length: long enough to save padding, short enough to keep batches random."""


def tensor(values: np.ndarray) -> torch.Tensor:
    """As int64."""
    return torch.from_numpy(values.astype(np.int64, copy=False))


def gather(log: EventLog, starts: np.ndarray, stops: np.ndarray, left_out: np.ndarray | None = None) -> Histories:
    """The events starts[b]:stops[b] of the log, without the event left_out[b], as rows padded to the longest."""
    hole = stops if left_out is None else np.where(left_out < starts, stops, left_out)
    lengths = stops - starts - (hole < stops)
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    valid = steps < lengths[:, None]  # (B, T)
    at = starts[:, None] + steps
    at = np.where(valid, at + (at >= hole[:, None]), 0)

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


def training_windows(split: EventSplit, max_history: int, stride: int = 0) -> Windows:
    """Cut each user's training events into windows of max_history + 1, so that the last target of a full window has a
    full history. Every event is a target once, and in all but a user's first window it has at least
    max_history + 1 - stride events before it.

    Args:
        stride: events between the ends of a user's windows, up to max_history; 0 stands for half of max_history.

    Raises:
        UserError: windows so far apart that events between them would be left out.
    """
    if not 0 <= stride <= max_history:
        raise UserError(
            f"training.window_stride is {stride}, and windows read {max_history} events: set it from 1 to "
            f"{max_history}, or to 0 for half of that"
        )
    begin, end = split.log.offsets[:-1], split.train_ends()
    size, stride = max_history + 1, stride or max(1, max_history // 2)
    beyond = np.maximum(0, end - begin - size)
    counts = np.where(end > begin, 1 + -(-beyond // stride), 0)  # windows of each user
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


def training_batches(
    log: EventLog, windows: Windows, batch_size: int, rng: np.random.Generator, task: Task | None = None
) -> Iterator[Batch]:
    """One epoch in random order. Batches hold windows of like length and an equal number of targets (that of
    `batch_size` average windows), so that a mean over a batch's targets weighs every event of the log alike.

    Args:
        task: only events of this kind are targets; all of them are context.
    """
    sizes = (windows.stops - windows.starts, windows.target_counts)
    for chosen in alike(sizes, windows.target_counts, batch_size, rng):
        events = gather(log, windows.starts[chosen], windows.stops[chosen])
        offset = tensor(windows.first_targets[chosen] - windows.starts[chosen])
        steps = torch.arange(events.items.shape[1])
        targets = events.valid & (steps >= offset[:, None])  # (B, T)
        if task is not None:
            targets &= (events.queries > 0) == (task is Task.SEARCH)
        wanted = torch.zeros_like(events.actions) if log.action_is_outcome else events.actions
        users = tensor(log.users[windows.starts[chosen]] + 1)
        yield Batch(events, targets, wanted, tensor(chosen), users=users)


@dataclass(frozen=True)
class Question:
    """Requests of some events that are asked about, and what the protocol knows about them."""

    numbers: np.ndarray  # (B,) places among the split's questions
    events: np.ndarray  # (B,) positions in the log
    users: np.ndarray  # (B,)
    requests: Requests
    targets: torch.Tensor  # (B,) int64: the item that the user went on to choose


def questions(
    log: EventLog,
    split: EventSplit,
    part: Part,
    task: Task,
    max_history: int,
    batch_size: int,
    among: np.ndarray | None = None,
) -> Iterator[Question]:
    """Every question of a part and task, or those numbered `among`, in batches of like history length. The history is
    what came before the request that the event is of."""
    asked = split.questions(part, task)  # (Q,)
    left_out, stops = split.left_out(asked), log.request_starts[asked]
    lengths = np.minimum(stops - log.offsets[log.users[asked]], max_history)
    among = np.arange(len(asked)) if among is None else among
    order = among[np.argsort(lengths[among], kind="stable")]
    for at in range(0, len(order), batch_size):
        numbers = order[at : at + batch_size]
        events = asked[numbers]
        wanted = np.zeros(len(events)) if log.action_is_outcome else log.actions[events]
        queries = log.queries[events] if task is Task.SEARCH else np.zeros(len(events))
        history = gather(log, stops[numbers] - lengths[numbers], stops[numbers], left_out[numbers])
        users = log.users[events]
        columns = (tensor(column) for column in (log.times[events], queries, wanted, users + 1))
        requests = Requests(task, history, *columns)
        yield Question(numbers, events, users, requests, tensor(log.items[events]))


def history_pairs(log: EventLog, users: np.ndarray, stops: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """(rows, items) of everything that each of `users` touched before event stops[b]: what full ranking removes."""
    counts = stops - log.offsets[users]
    rows = np.repeat(np.arange(len(users)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return tensor(rows), tensor(log.items[np.repeat(log.offsets[users], counts) + within])
