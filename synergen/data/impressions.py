"""Logs that say what each request showed: their validation and numbering."""

from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl

from synergen.errors import UserError
from synergen.events import EventLog, Impressions, given_queries
from synergen.raw import Coded, Columns, RawLog, described, refuse_rows, typed, whole_seconds

SHOWN = "items"
"""Column of an impressions table that lists what a request showed, in its order."""


def with_impressions(raw: RawLog, impressions: pd.DataFrame, source: str) -> RawLog:
    """A validated log together with what its requests showed. The query of an event is that of its request.

    Args:
        impressions: columns request, user, ts, items (a list) and optionally query.
        source: the file or folder, for messages.

    Raises:
        UserError: a missing column, an unreadable value, a request told twice, or an event whose request did not show
            its item.
    """
    needed = (Columns.REQUEST, Columns.USER, Columns.TIME, SHOWN)
    for column in needed:
        if column not in impressions.columns:
            raise UserError(f"{source}: column '{column}' is missing; impressions need {', '.join(needed)}")
    if raw.request is None:
        raise UserError(f"{source}: the interactions have no column 'request', so no event belongs to an impression")
    frame = impressions.reset_index(drop=True)
    for column in needed:
        refuse_rows(frame[column].isna(), f"column '{column}' is null", "remove or repair these rows", source)
    refuse_rows(frame[Columns.REQUEST].duplicated(), "its request is told twice", "keep one row a request", source)
    queries = typed(pl.from_pandas(frame[Columns.QUERY])).to_list() if Columns.QUERY in frame else ""
    tidy = pd.DataFrame(
        {
            Columns.REQUEST: frame[Columns.REQUEST],
            Columns.USER: frame[Columns.USER],
            Columns.TIME: whole_seconds(frame[Columns.TIME], source),
            Columns.QUERY: queries,
            SHOWN: frame[SHOWN],
        }
    ).sort_values([Columns.USER, Columns.TIME], kind="stable", ignore_index=True)
    told = pd.Index(tidy[Columns.REQUEST]).get_indexer(pd.Index(raw.request.ids.to_list()))
    request_of_event = np.append(told, -1)[raw.request.codes]
    lost = request_of_event < 0
    refuse_rows(lost, "its request has no impressions", "add them or remove the event", f"{source}, interactions")
    texts = Coded.of(pl.Series(tidy[Columns.QUERY].to_list(), dtype=pl.String))
    return replace(raw, query=texts[request_of_event], impressions=tidy)


def number_requests(raw: RawLog) -> EventLog:
    """Give users, items, actions and requests of a log with impressions their numbers.

    All items of the log are in the catalogue, clicked or not. Actions are numbered by strength: the rarer, the
    stronger. The query of an event is that of its request; what it got counts there, too, but as history an event
    stands with the last request that had begun when it happened. Users without any event are dropped and counted.

    Raises:
        UserError: an event of an item that its request did not show, or of another user's request.
    """
    assert raw.impressions is not None
    events, shown = raw.frame(), raw.impressions
    item_ids = pd.Index(np.concatenate([raw.item.ids.to_numpy(), *shown[SHOWN]])).unique().sort_values()
    active = shown[Columns.USER].isin(events[Columns.USER].unique())
    dropped = raw.dropped | {"users with no event": int(shown.loc[~active, Columns.USER].nunique())}
    shown = shown[active].reset_index(drop=True)
    users, user_ids = pd.factorize(shown[Columns.USER], sort=True)
    request_of_event = pd.Index(shown[Columns.REQUEST]).get_indexer(pd.Index(events[Columns.REQUEST]))
    other = users[request_of_event] != pd.Index(user_ids).get_indexer(pd.Index(events[Columns.USER]))
    refuse_rows(other, "its request belongs to another user", "repair the request", raw.name)
    times, at = (table[Columns.TIME].to_numpy(np.int64) for table in (shown, events))
    begun = _begun(users, times, request_of_event, at)
    order = np.argsort(begun, kind="stable")  # users, and within them times, are in order by then
    events, request_of_event, begun = events.iloc[order].reset_index(drop=True), request_of_event[order], begun[order]
    offsets = _offsets(users, len(user_ids))
    event_offsets = np.searchsorted(begun, offsets)

    slates = _slates(shown[SHOWN], item_ids)
    items = item_ids.get_indexer(pd.Index(events[Columns.ITEM])) + 1
    counts = events[Columns.ACTION].value_counts()
    names = sorted(map(str, counts.index), key=lambda name: (-counts[name], name))
    actions = pd.Index(names).get_indexer(pd.Index(events[Columns.ACTION])) + 1
    queries, query_texts = given_queries(Coded.of(pl.Series(shown[Columns.QUERY].to_list())), len(shown))
    titles, categories = described(pl.Series(item_ids.to_list()), raw.catalogue)
    return EventLog(
        name=raw.name,
        offsets=event_offsets.astype(np.int64),
        items=items.astype(np.int32),
        actions=actions.astype(np.int16),
        times=at[order],
        groups=(begun - offsets[users[begun]]).astype(np.int32),
        queries=queries[request_of_event],
        searched=queries[request_of_event] > 0,
        user_ids=np.asarray(user_ids),
        item_ids=np.concatenate([np.array([None], dtype=object), np.asarray(item_ids, dtype=object)]),
        titles=["", *titles],
        categories=[[], *categories],
        action_names=["", *names],
        query_texts=query_texts,
        action_is_outcome=raw.action_is_outcome,
        categories_are_flat=raw.categories_are_flat,
        dropped=dropped,
        impressions=Impressions(
            offsets=offsets,
            times=times,
            queries=queries,
            groups=(np.arange(len(shown)) - offsets[users]).astype(np.int32),
            stops=np.searchsorted(begun, np.arange(len(shown))).astype(np.int64),
            items=slates,
            outcomes=_outcomes(slates, request_of_event, items, actions, raw.name),
            ids=shown[Columns.REQUEST].to_numpy(),
        ),
    )


def _begun(users: np.ndarray, times: np.ndarray, own: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(N,) int64: the last request that its user had begun at the time `at` (N,) of an event, at least its `own` (N,).

    Args:
        users, times: (M,) of the requests, which are sorted by them.
    """
    first = min(times.min(initial=0), at.min(initial=0))
    span = max(times.max(initial=0), at.max(initial=0)) - first + 1
    last = np.searchsorted(users * span + times - first, users[own] * span + at - first, side="right") - 1
    return np.maximum(own, last)


def _offsets(sorted_codes: np.ndarray, n: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(np.bincount(sorted_codes, minlength=n))]).astype(np.int64)


def _slates(lists: pd.Series, item_ids: pd.Index) -> np.ndarray:
    """(M, S) int32 item numbers, padded with zeros."""
    lengths = lists.map(len).to_numpy()
    slates = np.zeros((len(lists), max(1, int(lengths.max(initial=0)))), np.int32)
    slates[np.arange(slates.shape[1]) < lengths[:, None]] = (
        item_ids.get_indexer(pd.Index(np.concatenate(list(lists)))) + 1
    )
    return slates


def _outcomes(
    slates: np.ndarray, requests: np.ndarray, items: np.ndarray, actions: np.ndarray, name: str
) -> np.ndarray:
    """(M, S) int16: the strongest action that each shown item got."""
    outcomes = np.zeros(slates.shape, np.int16)
    at = slates[requests] == items[:, None]  # (N, S)
    refuse_rows(~at.any(1), "its request did not show its item", "add the item to the impression", name)
    np.maximum.at(outcomes, (requests, at.argmax(1)), actions.astype(np.int16))
    return outcomes
