"""How much an epoch of a run has to learn, and batches of that shape with made-up items."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.inputs import Known, load_for, prepared_for, published_of
from benchmarks.planning.counts import counts_of
from synergen.contract import Batch, Histories, Slates
from synergen.data.slates import weekly_windows
from synergen.data.splits import TimeSplit
from synergen.errors import UserError
from synergen.runs import RunSpec

UNKNOWN_QUERIES = ("what users type",)
"""Where queries are not known: some models learn vectors of their words."""

_START, _DAY = 1_700_000_000, 86_400


@dataclass(frozen=True)
class Workload:
    """Training sequences of an epoch; means are over these."""

    windows: int
    events: float
    """Of a window, mean."""
    targets: float
    """Of a window, mean: events to be predicted, or requests."""
    full: tuple[int, int]
    """Events and targets of the largest kind of window."""
    shown: int = 0
    """Items that a request shows; 0 where the log does not say."""

    def full_windows(self, batch_size: float) -> int:
        """The most windows of the largest kind in a step: batches hold equal numbers of targets."""
        return max(1, math.ceil(batch_size * self.targets / self.full[1]))


def workload_of(spec: RunSpec, source: str) -> Workload:
    """Of a data set that is prepared or, as if all users had equally many events, published or counted by a file.

    Raises:
        UserError: of the data set nothing is known.
    """
    history, split = spec.protocol["max_history"], spec.protocol["split"]
    folder, published = prepared_for(source, spec.protocol), published_of(source)
    if folder and split == "time":
        return _of_requests(spec, source)
    if folder:
        lengths = np.diff(np.load(folder / "offsets.npy"))
    elif published and published.events:
        lengths = np.full(published.users, round(published.events / published.users))
    elif counts := counts_of(source):
        events = min(counts.events_per_window, history)
        return Workload(counts.windows, events, events, (history, history))
    else:
        raise UserError(f"{source}: the work of an epoch is not known before the data set is prepared")
    trained = lengths - (2 if split == "leave-one-out" else 0)  # of others, too few are held out to matter here
    stride = spec.trainer.get("window_stride") or max(1, history // 2)
    return _of_sequences(trained[trained > 0], history, stride)


def _of_sequences(lengths: np.ndarray, history: int, stride: int) -> Workload:
    """Of users with so many training events each, cut as `synergen.data.batches.training_windows` does."""
    size = history + 1
    further = -(-np.maximum(0, lengths - size) // stride)  # windows after the first one of a user
    windows = int((1 + further).sum())
    events = float((lengths - further * stride + further * size).sum()) / windows  # the first ends as the others begin
    return Workload(windows, events, float(lengths.sum()) / windows, (size, stride))


def _of_requests(spec: RunSpec, source: str) -> Workload:
    dataset = load_for(source, spec.protocol)
    assert isinstance(dataset.split, TimeSplit)
    weeks = weekly_windows(dataset.split, spec.protocol["max_history"])
    events, requests = weeks.stops - weeks.starts, weeks.request_counts
    shown = dataset.split.impressions.items.shape[1]
    largest = int(events.max()), int(requests.max())
    return Workload(len(events), float(events.mean()), float(requests.mean()), largest, shown)


def made_up_batch(work: Workload, windows: int, spec: RunSpec, known: Known, full: bool = False) -> Batch:
    """Windows of average size, or of the largest kind, of uniform items: searches for a search run, both in turns for a
    joint one."""
    torch.manual_seed(0)
    events, targets = work.full if full else (max(2, round(work.events)), max(1, round(work.targets)))
    requests = targets if work.shown else 0
    shape = (windows, events)
    order = torch.arange(events).expand(shape)
    asks = {"recommendation": 0, "search": 1}.get(spec.task)
    searched = order % 2 if asks is None else torch.full(shape, asks)
    queries = torch.randint(1, max(1, len(known.queries)) + 1, shape) * searched
    ones = torch.ones(shape, dtype=torch.int64)
    history = Histories(
        torch.randint(1, known.items + 1, shape), ones, _START + order * _DAY, queries, order,
        torch.full((windows,), events),
    )  # fmt: skip
    is_target = torch.zeros(shape, dtype=torch.bool)
    is_target[:, -targets:] = True
    slates = _slates(history, requests, work.shown, known.items) if requests else None
    users = torch.randint(1, max(1, known.users) + 1, (windows,))
    return Batch(history, is_target, ones, torch.arange(windows), slates, users if known.users else None)


def _slates(history: Histories, requests: int, shown: int, n_items: int) -> Slates:
    """Requests after a growing part of each history, each of which got one item."""
    windows, events = history.items.shape
    shape = (windows, requests)
    groups = torch.linspace(1, events, requests).long().expand(shape)
    outcomes = torch.zeros(*shape, shown, dtype=torch.int64)
    outcomes[..., 0] = 1
    ones = torch.ones(shape, dtype=torch.int64)
    items = torch.randint(1, n_items + 1, (*shape, shown))
    queries = history.queries[:, :1].expand(shape)
    return Slates(_START + groups * _DAY, queries, groups, ones, items, outcomes)
