"""The event log: who did what to which item, when, and after which query."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from synergen.errors import UserError
from synergen.files import digest


class Columns:
    """Column names of interactions (`user` … `request`) and of items (`item`, `title`, `categories`)."""

    USER: Final = "user"
    ITEM: Final = "item"
    TIME: Final = "ts"
    ACTION: Final = "action"
    QUERY: Final = "query"
    REQUEST: Final = "request"
    TITLE: Final = "title"
    CATEGORIES: Final = "categories"


@dataclass(frozen=True)
class RawLog:
    """Validated tables of a data set, before filtering and numbering.

    `interactions` has user, item, ts and action, sorted by (user, time, file order), and where known query and request.
    `items` is indexed by item and has title ("" where unknown) and categories (a list of paths, root first).
    `impressions`, where the source says what each request showed: request, user, ts, query ("" for none) and items (a
    list, in the order shown), sorted by (user, time, file order).
    """

    name: str
    interactions: pd.DataFrame
    items: pd.DataFrame
    action_is_outcome: bool  # true for ratings: known only after the user has seen the item
    categories_are_flat: bool = False  # true where a path is a set of genres and not a way down a hierarchy
    dropped: dict[str, int] = field(default_factory=dict)
    impressions: pd.DataFrame | None = None


@dataclass(frozen=True)
class Impressions:
    """M requests, sorted by (user, time), and the S items at most that each showed; the requests of user u are
    offsets[u]:offsets[u + 1]."""

    offsets: np.ndarray  # (U + 1,) int64
    times: np.ndarray  # (M,) int64 Unix seconds
    queries: np.ndarray  # (M,) int32, 0 where the user typed nothing
    groups: np.ndarray  # (M,) int32: ordinal of the request within its user
    stops: np.ndarray  # (M,) int64: the user's events before `stops` belong to earlier requests
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

    With impressions, the events of one request stay together, requests in order of time.
    """

    name: str
    offsets: np.ndarray  # (U + 1,) int64
    items: np.ndarray  # (N,) int32, 1..V
    actions: np.ndarray  # (N,) int16, 1..A
    times: np.ndarray  # (N,) int64 Unix seconds
    groups: np.ndarray  # (N,) int32: ordinal of the event's request within its user
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
    has_requests: bool  # the source says which events share a request
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
        return digest(*(np.ascontiguousarray(a).tobytes() for a in arrays), *texts)


def validate(
    interactions: pd.DataFrame,
    items: pd.DataFrame | None,
    name: str,
    source: str,
    *,
    action_is_outcome: bool = False,
    categories_are_flat: bool = False,
) -> RawLog:
    """Check the two tables of a data set and put them in order.

    Args:
        interactions: columns user, item, ts and optionally action, query, request.
        items: columns item and optionally title, categories; None where nothing is known of items.
        source: the file or folder, for messages.

    Raises:
        UserError: a missing column, a null or unreadable value (with its row), an empty log.
    """
    required = (Columns.USER, Columns.ITEM, Columns.TIME)
    for column in required:
        if column not in interactions.columns:
            raise UserError(
                f"{source}: column '{column}' is missing; interactions need the columns {', '.join(required)} "
                f"and have {', '.join(map(str, interactions.columns)) or 'none'}"
            )
    if interactions.empty:
        raise UserError(f"{source}: the log holds no events; nothing can be trained or measured on it")
    frame = interactions.reset_index(drop=True)
    for column in required:
        refuse_rows(frame[column].isna(), f"column '{column}' is null", "remove or repair these rows", source)
    times = whole_seconds(frame[Columns.TIME], source)
    actions = frame[Columns.ACTION] if Columns.ACTION in frame.columns else pd.Series("event", index=frame.index)
    refuse_rows(actions.isna(), "column 'action' is null", "name the action or remove the rows", source)
    tidy = pd.DataFrame(
        {
            Columns.USER: frame[Columns.USER],
            Columns.ITEM: frame[Columns.ITEM],
            Columns.TIME: times,
            Columns.ACTION: actions.astype(str),
        }
    )
    if Columns.QUERY in frame.columns:
        tidy[Columns.QUERY] = frame[Columns.QUERY].fillna("").astype(str).str.strip()
    if Columns.REQUEST in frame.columns:
        tidy[Columns.REQUEST] = frame[Columns.REQUEST]
    before = len(tidy)
    tidy = tidy.drop_duplicates().sort_values([Columns.USER, Columns.TIME], kind="stable", ignore_index=True)
    dropped = {"duplicated events": before - len(tidy)}
    ids = pd.Index(tidy[Columns.ITEM].unique())
    return RawLog(name, tidy, item_table(ids, items, source), action_is_outcome, categories_are_flat, dropped)


def refuse_rows(bad: pd.Series, what: str, remedy: str, source: str) -> None:
    """Raise UserError naming the first row where `bad` is true."""
    if bad.any():
        row = int(np.flatnonzero(bad.to_numpy())[0])
        more = f" and {int(bad.sum()) - 1} more" if bad.sum() > 1 else ""
        raise UserError(f"{source}: row {row}{more}: {what}; {remedy}")


def whole_seconds(times: pd.Series, source: str) -> pd.Series:
    """Times as int64 Unix seconds.

    Raises:
        UserError: a value that is no whole number of seconds, with its row.
    """
    if pd.api.types.is_datetime64_any_dtype(times):
        return pd.to_datetime(times, utc=True).astype("datetime64[s, UTC]").astype("int64")
    remedy = "times are whole Unix seconds, 0 or later"
    numbers = pd.to_numeric(times, errors="coerce")
    refuse_rows(numbers.isna(), f"column '{Columns.TIME}' is not a number", remedy, source)
    refuse_rows(numbers != np.floor(numbers), f"column '{Columns.TIME}' is not a whole number", remedy, source)
    refuse_rows(numbers < 0, f"column '{Columns.TIME}' is negative", remedy, source)
    return numbers.astype("int64")


def item_table(ids: pd.Index, items: pd.DataFrame | None, source: str) -> pd.DataFrame:
    """One row an item of `ids`, whether or not the catalogue `items` describes it, with title and categories.

    Raises:
        UserError: a catalogue without item ids.
    """
    ids = ids.rename(Columns.ITEM).sort_values()
    if items is None:
        items = pd.DataFrame({Columns.ITEM: ids})
    if Columns.ITEM not in items.columns:
        raise UserError(f"{source}: the items table has no column '{Columns.ITEM}'")
    refuse_rows(items[Columns.ITEM].isna(), "item is null in the items table", "remove these rows", source)
    known = items.drop_duplicates(Columns.ITEM).set_index(Columns.ITEM)
    if not known.index.isin(ids).any():
        known.index = known.index.astype(ids.dtype) if ids.dtype != object else known.index.astype(str)
    known = known.reindex(ids)
    titles = known[Columns.TITLE] if Columns.TITLE in known.columns else pd.Series("", index=ids)
    paths = known[Columns.CATEGORIES] if Columns.CATEGORIES in known.columns else pd.Series(None, index=ids)
    return pd.DataFrame(
        {
            Columns.TITLE: titles.fillna("").astype(str).str.strip(),
            Columns.CATEGORIES: [list(map(list, p)) if isinstance(p, list | tuple | np.ndarray) else [] for p in paths],
        },
        index=ids,
    )


MIN_EVENTS = 3
"""Leave-one-out needs an event to learn from, one to validate on and one to test on."""


def number_events(raw: RawLog) -> EventLog:
    """Give users, items and actions their numbers; users with fewer than three events are dropped and counted.

    Raises:
        UserError: no user has three events.
    """
    frame = raw.interactions
    counts = frame.groupby(Columns.USER, sort=False)[Columns.USER].transform("size")
    kept = frame[counts >= MIN_EVENTS].reset_index(drop=True)
    if kept.empty:
        raise UserError(f"{raw.name}: no user has {MIN_EVENTS} events or more; leave-one-out needs that many")
    dropped = raw.dropped | {
        "users with fewer than 3 events": frame[Columns.USER].nunique() - kept[Columns.USER].nunique()
    }
    users, user_ids = pd.factorize(kept[Columns.USER], sort=True)
    items, item_ids = pd.factorize(kept[Columns.ITEM], sort=True)
    actions, action_names = pd.factorize(kept[Columns.ACTION], sort=True)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(users))]).astype(np.int64)
    has_requests = Columns.REQUEST in kept.columns
    table = raw.items.loc[item_ids]
    queries, query_texts = given_queries(kept)
    return EventLog(
        name=raw.name,
        offsets=offsets,
        items=(items + 1).astype(np.int32),
        actions=(actions + 1).astype(np.int16),
        times=kept[Columns.TIME].to_numpy(np.int64),
        groups=_request_ordinals(kept[Columns.REQUEST] if has_requests else None, offsets),
        queries=queries,
        searched=queries > 0,
        user_ids=np.asarray(user_ids),
        item_ids=np.concatenate([np.array([None], dtype=object), np.asarray(item_ids, dtype=object)]),
        titles=["", *table[Columns.TITLE]],
        categories=[[], *table[Columns.CATEGORIES]],
        action_names=["", *map(str, action_names)],
        query_texts=query_texts,
        action_is_outcome=raw.action_is_outcome,
        categories_are_flat=raw.categories_are_flat,
        has_requests=has_requests,
        dropped=dropped,
    )


def given_queries(frame: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """The query number of each row (int32, 0 for none), and the texts by number."""
    if Columns.QUERY not in frame.columns:
        return np.zeros(len(frame), np.int32), [""]
    texts = sorted(set(frame[Columns.QUERY]) - {""})
    numbers = {text: i + 1 for i, text in enumerate(texts)} | {"": 0}
    return frame[Columns.QUERY].map(numbers).to_numpy(np.int32), ["", *texts]


def _request_ordinals(requests: pd.Series | None, offsets: np.ndarray) -> np.ndarray:
    """(N,) int32: 0, 1, … within each user; neighbouring events of one request share a number."""
    n = offsets[-1]
    first = np.zeros(n, dtype=bool)
    first[offsets[:-1]] = True
    if requests is None:
        starts = np.ones(n, dtype=bool)
    else:
        codes = pd.factorize(requests)[0]
        starts = first | (np.diff(codes, prepend=-1) != 0) | (codes < 0)
    running = np.cumsum(starts) - 1
    return (running - np.repeat(running[offsets[:-1]], np.diff(offsets))).astype(np.int32)
