"""Does the data leak? Shares and trivial rankers that a reader should see under every table."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from synergen.contract import DotProductRecommender, Requests, Task
from synergen.data.copies import earlier_copies
from synergen.data.splits import DAY, EventSplit, Part, Split, TimeSplit
from synergen.events import EventLog


@dataclass(frozen=True)
class SeenRanker:
    """Puts candidates that are in the history first: it scores well only where the data leak or repeat."""

    n_items: int

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        history = requests.history.items  # (B, T)
        if candidates.dim() == 2:
            return ((candidates[..., None] == history[:, None]) & (candidates[..., None] > 0)).any(-1).float()
        columns = history.new_full((self.n_items + 1,), len(candidates))  # of an item that is no candidate: one more
        columns[candidates] = torch.arange(len(candidates), device=candidates.device)
        columns[0] = len(candidates)
        seen = torch.zeros(len(history), len(candidates) + 1, device=candidates.device)
        return seen.scatter_(1, columns[history], 1.0)[:, :-1]


class PopularRanker(DotProductRecommender):
    """Orders candidates by their training events: a bias beside products of nothing, so that tiles can rank them."""

    def __init__(self, item_counts: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("counts", torch.from_numpy(item_counts).float())

    counts: Tensor  # (V + 1,)

    def user_vectors(self, requests: Requests) -> Tensor:
        return self.counts.new_zeros(len(requests.times), 1)

    def item_vectors(self) -> Tensor:
        return torch.zeros_like(self.counts)[:, None]

    def item_bias(self) -> Tensor:
        return self.counts


def leak_shares(log: EventLog, split: Split) -> dict[str, float]:
    """What the log gives away of its test part, by the kind of split, and what of its order is arbitrary.

    - events that repeat another: of the same user, item, time and action; one of them foretells the other.
    - events tied in time with the one before: file order decides which is "next".
    """
    tied = _follows_at_once(log)
    own = _leaks_of_requests(log, split) if isinstance(split, TimeSplit) else _leaks_of_events(log, split)
    return own | {
        "events that repeat another of their user, item, time and action": _repeated(log, tied) / log.n_events,
        "events tied in time with the event before": _share(tied[np.diff(log.users, prepend=-1) == 0]),
    }


def _leaks_of_events(log: EventLog, split: EventSplit) -> dict[str, float]:
    """Shares of test events whose answer, or whose time, is given away by the log.

    - targets in own history: the item was touched before, so that in a pool it is recognised.
    - search targets in same-time and same-day history: the published construction's leak (one purchase as two events).
    - targets tied in time: file order decides what is "next".
    - training events after the target: what other users did later, which leave-one-out lets models learn from. The
      mean over test events of the share of all training events that are later than the event; the share of test events
      that any is later than; and the mean share of the training events of the item to be found, where it has some.
      Of a user's own training events none is later, whatever the split.
    """
    asked = split.held_out(Part.TEST)  # (Q,)
    times = log.times[asked]
    copies = _last_copies(log, split, asked)
    seen, copied = copies >= 0, log.times[copies]
    search = np.isin(asked, split.questions(Part.TEST, Task.SEARCH))
    train = split.trains()
    train_times = np.sort(log.times[train])
    later = len(train_times) - np.searchsorted(train_times, np.sort(times), side="right")
    return {
        "test targets in own history": _share(seen),
        "search targets in own history at the same time": _share((seen & (copied == times))[search]),
        "search targets in own history on the same day (UTC)": _share((seen & (copied // DAY == times // DAY))[search]),
        "test targets tied in time with the event before": _share(_follows_at_once(log)[asked]),
        "training events later than a test event, mean": _share(later / max(1, len(train_times))),
        "test events with a later training event": _share(later > 0),
        "training events of its item later than a test event, mean": _share(_later_of_item(log, train, asked)),
    }


def _last_copies(log: EventLog, split: EventSplit, events: np.ndarray) -> np.ndarray:
    """(B,) int64: the last event of the same item in the history of each of `events`, -1 for none."""
    _, previous = earlier_copies(log)
    copies = previous[events]
    return np.where(copies == split.left_out(events), previous[copies], copies)


def _later_of_item(log: EventLog, train: np.ndarray, events: np.ndarray) -> np.ndarray:
    """The share of training events of the same item that are later than an event, for those of `events` whose item has
    some, in order of items."""
    begin = log.times.min()
    span = int(log.times.max() - begin) + 1
    keys = log.items * np.int64(span) + (log.times - begin)  # by item, then time
    asked, trained = np.sort(keys[events]), np.sort(keys[train])
    counts = np.bincount(log.items[train], minlength=log.n_items + 1)
    items = asked // span
    later = np.cumsum(counts)[items] - np.searchsorted(trained, asked, side="right")
    return (later / np.maximum(1, counts[items]))[counts[items] > 0]


def _follows_at_once(log: EventLog) -> np.ndarray:
    """(N,) bool: the user's event before is of the same time."""
    return (np.diff(log.times, prepend=-1) == 0) & (np.diff(log.users, prepend=-1) == 0)


def _repeated(log: EventLog, tied: np.ndarray) -> int:
    """How many events are like an earlier one in user, item, time and action."""
    at = np.flatnonzero(tied | np.append(tied[1:], False))  # only events at the same time can be alike
    moments = np.cumsum(~tied)[at]
    alike = (moments * (log.n_items + 1) + log.items[at]) * len(log.action_names) + log.actions[at]
    return len(at) - len(np.unique(alike))


def _leaks_of_requests(log: EventLog, split: TimeSplit) -> dict[str, float]:
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
    pairs, first = np.unique(log.users * base + log.items, return_index=True)
    chosen = users * base + items
    at = np.minimum(np.searchsorted(pairs, chosen), len(pairs) - 1)
    tied = (np.diff(shown.times, prepend=-1) == 0) & (np.diff(shown.users, prepend=-1) == 0)
    train_times = np.sort(log.times[split.trains()])
    later = 1 - np.searchsorted(train_times, shown.times[asked], side="right") / max(1, len(train_times))
    return {
        "chosen test items in own history": _share((pairs[at] == chosen) & (first[at] < shown.stops[rows])),
        "chosen test items without a training event": _share(split.item_counts()[items] == 0),
        "test requests tied in time with the request before": _share(tied[asked]),
        "training events later than a test request, mean": float(later.mean()),
    }


def _share(cases: np.ndarray) -> float:
    """The mean, 0 where there is no case."""
    return float(cases.mean()) if len(cases) else 0.0
