"""Does the data leak? Shares and trivial rankers that a reader should see under every table."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergen.contract import Requests
from synergen.data.splits import LeaveOneOut, Part, Split, TimeSplit
from synergen.events import EventLog


@dataclass(frozen=True)
class SeenRanker:
    """Puts candidates that are in the history first: it scores well only where the data leak or repeat."""

    n_items: int

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        seen = torch.zeros(len(requests.times), self.n_items + 1, device=candidates.device)
        seen.scatter_(1, requests.history.items, 1.0)
        seen[:, 0] = 0.0
        return seen[:, candidates] if candidates.dim() == 1 else seen.gather(1, candidates)


@dataclass(frozen=True)
class PopularRanker:
    """Orders candidates by their training events."""

    item_counts: np.ndarray  # (V + 1,)

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        counts = torch.from_numpy(self.item_counts).to(candidates.device)[candidates]
        return counts.expand(len(requests.times), -1) if candidates.dim() == 1 else counts


def leak_shares(log: EventLog, split: Split) -> dict[str, float]:
    """What the log gives away of its test part, by the kind of split."""
    return _leaks_of_last_events(log, split) if isinstance(split, LeaveOneOut) else _leaks_of_last_days(log, split)


def _leaks_of_last_events(log: EventLog, split: LeaveOneOut) -> dict[str, float]:
    """Shares of test events whose answer, or whose time, is given away by the log.

    - targets in own history: the item was touched before; in full ranking it would be removed, in a pool recognised.
    - search targets in same-time history: the published construction's leak (one purchase as two events).
    - targets tied in time: file order decides what is "next".
    - training events after the target: future information of other users that leave-one-out lets in.
    """
    at = split.targets(Part.TEST)
    position = np.arange(log.n_events)
    target_of_user = at[log.users]
    is_history = position < target_of_user
    same_item = (log.items == log.items[target_of_user]) & is_history
    same_time = log.times == log.times[target_of_user]
    repeated = np.bincount(log.users[same_item], minlength=log.n_users) > 0
    leaked = np.bincount(log.users[same_item & same_time], minlength=log.n_users) > 0
    tied = np.bincount(log.users[is_history & same_time], minlength=log.n_users) > 0
    searched = log.queries[at] > 0
    train_times = np.sort(log.times[position < split.train_ends()[log.users]])
    later = 1 - np.searchsorted(train_times, log.times[at], side="right") / max(1, len(train_times))
    return {
        "test targets in own history": float(repeated.mean()),
        "search targets in own history at the same time": float(leaked[searched].mean()) if searched.any() else 0.0,
        "test targets tied in time with the event before": float(tied.mean()),
        "training events later than a test event, mean": float(later.mean()),
    }


def _leaks_of_last_days(log: EventLog, split: TimeSplit) -> dict[str, float]:
    """Shares of what is asked after a point of time.

    - chosen items in own history: chosen before by the same user; nothing is removed, so a model may repeat them.
    - chosen items without training event: only what is known of them in words can find them.
    - requests tied in time with the one before: file order decides what is history.
    - training events after the request: 0 by construction, as the split is one point of time for all users.
    """
    shown = split.impressions
    asked = split.part_of_request() == 2
    rows, slots = np.nonzero((shown.outcomes > 0) & asked[:, None])
    items, users = shown.items[rows, slots].astype(np.int64), shown.users[rows]
    base = log.n_items + 1
    keys = log.users * base + log.items
    first_event = np.full(log.n_users * base, log.n_events)
    np.minimum.at(first_event, keys, np.arange(log.n_events))
    tied = (np.diff(shown.times, prepend=-1) == 0) & (np.diff(shown.users, prepend=-1) == 0)
    train_times = np.sort(log.times[np.arange(log.n_events) < split.train_ends()[log.users]])
    later = 1 - np.searchsorted(train_times, shown.times[asked], side="right") / max(1, len(train_times))
    return {
        "chosen test items in own history": _share(first_event[users * base + items] < shown.stops[rows]),
        "chosen test items without a training event": _share(split.item_counts()[items] == 0),
        "test requests tied in time with the request before": _share(tied[asked]),
        "training events later than a test request, mean": float(later.mean()),
    }


def _share(cases: np.ndarray) -> float:
    return float(cases.mean()) if len(cases) else 0.0
