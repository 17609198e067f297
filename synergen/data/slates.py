"""Requests with impressions as batches: weekly training sequences, and the questions of a split at a point of time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from synergen.contract import Batch, Requests, Slates, Task
from synergen.data.batches import alike, gather, tensor
from synergen.data.splits import DAY, Part, TimeSplit
from synergen.events import EventLog

STRONGER_SHARE = 0.25
"""Share of training requests that are taken to ask for an action stronger than the weakest. It is drawn whatever the
outcome was: had it looked at the outcome, ranking scores would not be probabilities."""


MAX_REQUESTS = 16
"""Requests of a training sequence: the few weeks that hold more are cut, or their batches would be mostly padding."""


@dataclass(frozen=True)
class WeeklyWindows:
    """Training sequences: what a user did in a week, after at most so much of what came before (paper section 4.1:
    "weekly sub-sessions containing the final 100 events, with sessions of fewer than two actions discarded")."""

    starts: np.ndarray  # (W,) events starts:stops of the log
    stops: np.ndarray
    first_requests: np.ndarray  # (W,) requests first_requests:last_requests of its impressions
    last_requests: np.ndarray

    @property
    def request_counts(self) -> np.ndarray:
        return self.last_requests - self.first_requests


def weekly_windows(split: TimeSplit, max_history: int) -> WeeklyWindows:
    """One sequence for each user and week of training, or for each `MAX_REQUESTS` requests of a week that has more: the
    last `max_history` events by the end of its requests, and these requests. A request before all of these events is
    left out; the first one that is kept may have lost its whole past."""
    shown, log = split.impressions, split.log
    trained = np.flatnonzero(split.part_of_request() == 0)
    week = shown.times[trained] // (7 * DAY)
    new = (np.diff(shown.users[trained], prepend=-1) != 0) | (np.diff(week, prepend=-1) != 0)
    place = np.arange(len(trained)) - np.maximum.accumulate(np.where(new, np.arange(len(trained)), 0))  # in its week
    new |= place % MAX_REQUESTS == 0
    first = trained[new]
    last = np.append(trained[np.flatnonzero(new)[1:] - 1], trained[-1:]) + 1
    user = shown.users[first]
    stops = np.where(last < shown.offsets[user + 1], np.append(shown.stops, log.n_events)[last], log.offsets[user + 1])
    starts = np.maximum(log.offsets[user], stops - max_history)
    first = np.maximum(first, np.searchsorted(shown.stops, starts))  # stops never decrease
    kept = (stops - starts >= 2) & (first < last)
    return WeeklyWindows(starts[kept], stops[kept], first[kept], last[kept])


def slate_batches(log: EventLog, windows: WeeklyWindows, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch in random order; batches hold windows of like size and equal numbers of requests."""
    assert log.impressions is not None
    shown, n_actions = log.impressions, len(log.action_names) - 1
    sizes = (windows.request_counts, windows.stops - windows.starts)  # task tokens are most of the work
    for chosen in alike(sizes, windows.request_counts, batch_size, rng):
        events = gather(log, windows.starts[chosen], windows.stops[chosen])
        first, counts = windows.first_requests[chosen], windows.request_counts[chosen]
        steps = np.arange(int(counts.max()))
        valid = steps < counts[:, None]  # (B, E)
        at = np.where(valid, first[:, None] + steps, 0)
        stronger = (rng.random(at.shape) < STRONGER_SHARE) & (n_actions > 1)
        wanted = np.where(stronger, rng.integers(2, max(2, n_actions) + 1, at.shape), 1)
        slates = Slates(
            times=tensor(shown.times[at] * valid),
            queries=tensor(shown.queries[at] * valid),
            groups=tensor(shown.groups[at] * valid),
            wanted=tensor(wanted * valid),
            items=tensor(shown.items[at] * valid[..., None]),
            outcomes=tensor(shown.outcomes[at] * valid[..., None]),
        )
        offset = tensor(np.maximum(shown.stops[first] - windows.starts[chosen], 0))
        targets = events.valid & (torch.arange(events.items.shape[1]) >= offset[:, None])  # (B, T)
        users = tensor(log.users[windows.starts[chosen]] + 1)
        yield Batch(events, targets, events.actions, tensor(chosen), slates, users)


@dataclass(frozen=True)
class SlateQuestion:
    """Requests of a part, and what the protocol knows about them."""

    at: np.ndarray  # (B,) their numbers among the log's impressions
    requests: Requests
    slates: torch.Tensor  # (B, S) int64 items shown, 0 padding
    chosen: torch.Tensor  # (B, S) bool: got the action wanted, or a stronger one


def slate_questions(
    split: TimeSplit, part: Part, task: Task, action: int, max_history: int, batch_size: int
) -> Iterator[SlateQuestion]:
    """Every request of a part and task in which something got `action`, in batches of like history length."""
    shown, log = split.impressions, split.log
    asked = split.requests(part, task is Task.SEARCH, action)
    starts = np.maximum(log.offsets[shown.users], shown.stops - max_history)
    asked = asked[np.argsort((shown.stops - starts)[asked], kind="stable")]
    for begin in range(0, len(asked), batch_size):
        at = asked[begin : begin + batch_size]
        yield slate_question(split, at, task, action, max_history)


def slate_question(split: TimeSplit, at: np.ndarray, task: Task, action: int, max_history: int) -> SlateQuestion:
    """The requests numbered `at`, taken to ask for `action`."""
    shown, log = split.impressions, split.log
    starts = np.maximum(log.offsets[shown.users[at]], shown.stops[at] - max_history)
    wanted = np.full(len(at), action)
    asked = (tensor(column) for column in (shown.times[at], shown.queries[at], wanted, shown.users[at] + 1))
    requests = Requests(task, gather(log, starts, shown.stops[at]), *asked)
    chosen = torch.from_numpy(shown.outcomes[at] >= action)
    return SlateQuestion(at, requests, tensor(shown.items[at]), chosen)
