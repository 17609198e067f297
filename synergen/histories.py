"""Histories as people write them: lists of events, or tables with the columns of a data set folder."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import torch

from synergen.contract import Histories
from synergen.errors import UserError, unknown_name
from synergen.raw import Columns, whole_seconds


@dataclass(frozen=True)
class Event:
    """Something that a user did."""

    item: Any
    """As in the source of the data set."""
    time: int | datetime
    """Unix seconds, or a datetime, UTC where it names no zone."""
    action: str | None = None
    """The most frequent action of the training log where it is not given."""
    query: str | None = None
    """What the user typed: for the reader's eyes, as SynerGen reads only the items and actions of a history."""


EventLike = Event | Mapping[str, Any] | tuple[Any, ...]
"""An event, a mapping with the keys of its fields (or `ts` for the time), or a tuple of its fields in order."""
History = Sequence[EventLike] | pd.DataFrame
"""Events, oldest first, or a table with columns item, ts and optionally action and query."""


@dataclass(frozen=True)
class Past:
    """The known events of a history as numbers, oldest first."""

    items: tuple[int, ...] = ()
    actions: tuple[int, ...] = ()
    times: tuple[int, ...] = ()
    end: int | None = None
    """Time of the last event, known or not; None where there is no event."""
    skipped: int = 0
    """Events of unknown items."""

    def __len__(self) -> int:
        return len(self.items)


class Numbering:
    """The numbers of a model's items and actions."""

    def __init__(self, item_ids: Iterable[Any], actions: Sequence[str], usual_action: int) -> None:
        self.actions = actions
        self._usual_action = usual_action
        self._numbers = {str(item): number for number, item in enumerate(item_ids) if number}

    def item(self, item: Any) -> int | None:
        """The number of an item, None where the catalogue lacks it; 12 and "12" are the same."""
        return self._numbers.get(str(item))

    def action(self, name: str | None) -> int:
        """The number of an action, of the usual one where none is named.

        Raises:
            UserError: an unknown name.
        """
        if name is None:
            return self._usual_action
        if name not in self.actions[1:]:
            raise unknown_name("action", str(name), self.actions[1:])
        return self.actions.index(name)

    def extend(self, past: Past, history: History) -> Past:
        """`past` with the events of `history` after it; events of unknown items are left out and counted.

        Raises:
            UserError: an event that cannot be read, that is earlier than the one before it, or of an unknown action.
        """
        items, actions, times = list(past.items), list(past.actions), list(past.times)
        end, skipped = past.end, past.skipped
        for position, event in enumerate(_events(history), start=len(past) + past.skipped):
            time = seconds(event.time, f"event {position}")
            if end is not None and time < end:
                raise UserError(
                    f"event {position} of the history is at {time}, before the event that precedes it ({end}); sort "
                    "the events by time, oldest first"
                )
            end = time
            action, number = self.action(event.action), self.item(event.item)
            if number is None:
                skipped += 1
                continue
            items.append(number)
            actions.append(action)
            times.append(time)
        return Past(tuple(items), tuple(actions), tuple(times), end, skipped)


def is_batch(histories: Any) -> bool:
    """Whether this is a list of histories and not one history; an empty list is an empty history."""
    return isinstance(histories, list) and bool(histories) and isinstance(histories[0], list | pd.DataFrame)


def as_tensors(pasts: Sequence[Past], longest: int) -> Histories:
    """The last `longest` events of B histories, padded, each a request of its own."""
    items = padded([past.items[-longest:] for past in pasts])
    return Histories(
        items=items,
        actions=padded([past.actions[-longest:] for past in pasts]),
        times=padded([past.times[-longest:] for past in pasts]),
        queries=torch.zeros_like(items),
        groups=torch.arange(items.shape[1]).expand_as(items),
        lengths=torch.tensor([min(len(past), longest) for past in pasts]),
    )


def padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, N) int64: rows padded on the right with zeros to the longest, at least one wide."""
    width = max(1, *map(len, rows))
    return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])


def seconds(time: Any, what: str) -> int:
    """Unix seconds of a whole number or a datetime.

    Raises:
        UserError: `what` has a time that is neither.
    """
    if isinstance(time, datetime):
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    try:
        whole = int(time)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what}: time {time!r} is neither whole Unix seconds nor a datetime") from error
    if whole != time or whole < 0:
        raise UserError(f"{what}: time {time!r} is no whole number of Unix seconds, 0 or later")
    return whole


def _events(history: History) -> list[Event]:
    if isinstance(history, pd.DataFrame):
        return _rows(history)
    return [_event(event, position) for position, event in enumerate(history)]


def _event(event: EventLike, position: int) -> Event:
    if isinstance(event, Event):
        return event
    names = [field.name for field in fields(Event)]
    if isinstance(event, Mapping):
        values = {"time" if key == Columns.TIME else key: value for key, value in event.items()}
    elif isinstance(event, tuple):
        values = dict(zip(names, event, strict=False))
    else:
        raise UserError(f"event {position} of the history is {event!r}; write Event(item, time), a dict or a tuple")
    if not {"item", "time"} <= set(values) <= set(names) or len(event) > len(names):
        raise UserError(
            f"event {position} of the history is {event!r}; it needs item and time and may have action, query"
        )
    return Event(**values)


def _rows(table: pd.DataFrame) -> list[Event]:
    for column in (Columns.ITEM, Columns.TIME):
        if column not in table.columns:
            raise UserError(f"the history has no column '{column}'; it needs item and ts and may have action, query")
    times = whole_seconds(table[Columns.TIME], "the history")
    columns = [table[c] if c in table.columns else [None] * len(table) for c in (Columns.ACTION, Columns.QUERY)]
    return [
        Event(item, int(time), *(None if pd.isna(value) else str(value) for value in rest))
        for item, time, *rest in zip(table[Columns.ITEM], times, *columns, strict=True)
    ]
