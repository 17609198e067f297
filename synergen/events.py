"""The event log: who did what to which item, when, and after which query."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from synergen.errors import UserError
from synergen.files import digest
from synergen.raw import Coded, RawLog, described


@dataclass(frozen=True)
class Impressions:
    """M requests, sorted by (user, time), and the S items at most that each showed; the requests of user u are
    offsets[u]:offsets[u + 1]."""

    offsets: np.ndarray  # (U + 1,) int64
    times: np.ndarray  # (M,) int64 Unix seconds
    queries: np.ndarray  # (M,) int32, 0 where the user typed nothing
    groups: np.ndarray  # (M,) int32: ordinal of the request within its user
    stops: np.ndarray  # (M,) int64: the user's events before `stops` are history of the request
    items: np.ndarray  # (M, S) int32 in the order shown, 0 padding
    outcomes: np.ndarray  # (M, S) int16: the strongest action that the item got in this request, 0 for none
    ids: np.ndarray  # (M,) as in the source

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def users(self) -> np.ndarray:
        """(M,) int64: the user of each request."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))


@dataclass(frozen=True)
class EventLog:
    """N events of U users, sorted by (user, time, file order); the events of user u are offsets[u]:offsets[u + 1].

    With impressions, events stand in the order of the requests that had begun when they happened: a late purchase
    is no history of the requests in between.
    """

    name: str
    offsets: np.ndarray  # (U + 1,) int64
    items: np.ndarray  # (N,) int32, 1..V
    actions: np.ndarray  # (N,) int16, 1..A
    times: np.ndarray  # (N,) int64 Unix seconds
    groups: np.ndarray  # (N,) int32: ordinal of the event's request within its user, never falling
    queries: np.ndarray  # (N,) int32: the query that stands for the event, 0 where its item has none
    searched: np.ndarray  # (N,) bool: the event came from a search
    user_ids: np.ndarray  # (U,) as in the source
    item_ids: np.ndarray  # (V + 1,) as in the source; row 0 is padding
    titles: list[str]  # V + 1
    categories: list[list[list[str]]]  # V + 1
    action_names: list[str]  # A + 1
    query_texts: list[str]  # Q + 1
    action_is_outcome: bool
    categories_are_flat: bool
    dropped: dict[str, int]
    impressions: Impressions | None = None  # actions are then numbered by strength

    @property
    def n_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_items(self) -> int:
        return len(self.item_ids) - 1

    @property
    def n_events(self) -> int:
        return len(self.items)

    @cached_property
    def users(self) -> np.ndarray:
        """(N,) int64: the user of each event."""
        return np.repeat(np.arange(self.n_users), np.diff(self.offsets))

    @cached_property
    def request_starts(self) -> np.ndarray:
        """(N,) int64: the first event of each event's request, at which the history of that request ends."""
        first = np.diff(self.groups, prepend=-1) != 0
        first[self.offsets[:-1]] = True
        return np.maximum.accumulate(np.where(first, np.arange(self.n_events), 0))

    @cached_property
    def query_trail(self) -> np.ndarray:
        """(N,) int32: the query that an event shows when it is history, 0 for feed events."""
        return np.where(self.searched, self.queries, 0).astype(np.int32)

    @cached_property
    def data_hash(self) -> str:
        """SHA-256 of everything that a model or a metric can depend on."""
        arrays: tuple[np.ndarray, ...] = (
            self.offsets,
            self.items,
            self.actions,
            self.times,
            self.groups,
            self.queries,
            self.searched,
        )
        if self.impressions is not None:
            shown = self.impressions
            arrays += (shown.offsets, shown.times, shown.queries, shown.stops, shown.items, shown.outcomes)
        texts = (*self.titles, *self.query_texts, *self.action_names)
        return digest(*(np.ascontiguousarray(a).data for a in arrays), *texts)


MIN_EVENTS = 3
"""Leave-one-out needs an event to learn from, one to validate on and one to test on."""


def number_events(raw: RawLog) -> EventLog:
    """Give users, items and actions their numbers, in the order of their ids.

    Users with fewer than three events are dropped and counted.

    Raises:
        UserError: no user has three events.
    """
    counts = raw.user.counts
    rare = (counts > 0) & (counts < MIN_EVENTS)
    kept = raw.only(~rare[raw.user.codes]) if rare.any() else raw
    if not len(kept):
        raise UserError(f"{raw.name}: no user has {MIN_EVENTS} events or more; leave-one-out needs that many")
    user, item, action = kept.user.present(), kept.item.present(), kept.action.present()
    offsets = np.concatenate([[0], np.cumsum(user.counts)]).astype(np.int64)
    titles, categories = described(item.ids, raw.catalogue)
    queries, query_texts = given_queries(kept.query, len(kept))
    return EventLog(
        name=raw.name,
        offsets=offsets,
        items=item.codes + np.int32(1),
        actions=(action.codes + 1).astype(np.int16),
        times=kept.times,
        groups=_request_ordinals(None if kept.request is None else kept.request.codes, offsets),
        queries=queries,
        searched=queries > 0,
        user_ids=user.ids.to_numpy(),
        item_ids=np.array([None, *item.ids.to_list()], dtype=object),
        titles=["", *titles],
        categories=[[], *categories],
        action_names=["", *action.ids.to_list()],
        query_texts=query_texts,
        action_is_outcome=raw.action_is_outcome,
        categories_are_flat=raw.categories_are_flat,
        dropped=raw.dropped | {"users with fewer than 3 events": int(rare.sum())},
    )


def given_queries(query: Coded | None, n: int) -> tuple[np.ndarray, list[str]]:
    """The query number of each of n events (int32, 0 for none), and the texts by number."""
    if query is None:
        return np.zeros(n, np.int32), [""]
    present = query.present()
    texts = present.ids.to_list()
    if texts and texts[0] == "":
        return present.codes, texts
    return present.codes + np.int32(1), ["", *texts]


def _request_ordinals(codes: np.ndarray | None, offsets: np.ndarray) -> np.ndarray:
    """(N,) int32: 0, 1, … within each user; neighbouring events of one request share a number. A code below 0 is
    that of an event whose request is not known."""
    n = offsets[-1]
    first = np.zeros(n, dtype=bool)
    first[offsets[:-1]] = True
    starts = np.ones(n, dtype=bool) if codes is None else first | (np.diff(codes, prepend=-1) != 0) | (codes < 0)
    running = np.cumsum(starts) - 1
    return (running - np.repeat(running[offsets[:-1]], np.diff(offsets))).astype(np.int32)
