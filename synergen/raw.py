"""A log as its source tells it, checked, sorted, its ids replaced by numbers: before filtering."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from numpy.typing import ArrayLike

from synergen.errors import UserError

Frame = pd.DataFrame | pl.DataFrame


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


CATEGORY_PATHS = pl.List(pl.List(pl.String))


def category_paths(paths: Sequence[Sequence[Sequence[str]]]) -> pl.Series:
    """Category paths of items as a column; by way of arrow, which takes nested lists in a sixth of the time."""
    return cast(pl.Series, pl.from_arrow(pa.array(paths, pa.list_(pa.list_(pa.large_string())))))


def listed(paths: pl.Series) -> list[list[list[str]]]:
    """The column as lists, an empty one for null; where nobody knows categories, items share one empty list."""
    if not paths.list.len().sum():
        return [[]] * len(paths)
    return [one or [] for one in paths.to_arrow().to_pylist()]


@dataclass(frozen=True)
class Coded:
    """N values as numbers into a sorted list of distinct ones, so that what is counted and sorted are whole numbers."""

    codes: np.ndarray  # (N,) int32, -1 for null
    ids: pl.Series  # distinct, ascending; there may be some that no code names

    @classmethod
    def of(cls, values: pl.Series) -> "Coded":
        """Numbers for strings, categories, whose ids are strings then, or whole numbers."""
        given = values.rename("value").to_frame()
        kind = pl.String if isinstance(values.dtype, pl.Categorical | pl.Enum) else values.dtype
        known = given.unique().drop_nulls().sort(pl.col("value").cast(kind)).with_row_index("code")
        codes = given.join(known, on="value", how="left", maintain_order="left")["code"]
        return cls(codes.cast(pl.Int32).fill_null(-1).to_numpy(), known["value"].cast(kind))

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def counts(self) -> np.ndarray:
        """How often each of `ids` occurs."""
        return np.bincount(self.codes + 1, minlength=len(self.ids) + 1)[1:]  # null, -1, is counted and left out

    def __getitem__(self, rows: np.ndarray) -> "Coded":
        return Coded(self.codes[rows], self.ids)

    def present(self) -> "Coded":
        """The same values by numbers into the ids that occur."""
        occur = self.counts > 0
        numbers = np.append(np.cumsum(occur, dtype=np.int32) - np.int32(1), np.int32(-1))  # the last for null
        return Coded(numbers[self.codes], self.ids.filter(pl.Series(occur)))

    def with_ids_of(self, other: "Coded") -> tuple["Coded", "Coded"]:
        """These values and the others' by numbers into the ids of both.

        Raises:
            TypeError: ids of another kind.
        """
        if self.ids.dtype != other.ids.dtype:
            raise TypeError(f"{other.ids.dtype} does not go with {self.ids.dtype}")
        at = self.ids.search_sorted(other.ids).to_numpy()  # where each of the other ids is, or would be
        known = (pl.concat([self.ids, other.ids[:1]]).gather(at) == other.ids).to_numpy() & (at < len(self.ids))
        if known.all():
            return self, Coded(np.append(at.astype(np.int32), np.int32(-1))[other.codes], self.ids)
        added = np.bincount(at[~known], minlength=len(self.ids) + 1)[:-1]
        numbers = np.arange(len(self.ids), dtype=np.int32) + np.cumsum(added, dtype=np.int32)
        others = np.append(numbers, np.int32(-1))[at]
        others[~known] = at[~known] + np.arange((~known).sum())
        every = pl.concat([self.ids, other.ids.filter(pl.Series(~known))])
        ids = every.gather(_inverse(np.concatenate([numbers, others[~known]]))[:-1])
        null = np.int32(-1)
        return Coded(np.append(numbers, null)[self.codes], ids), Coded(np.append(others, null)[other.codes], ids)

    def values(self) -> pl.Series:
        """The N values themselves."""
        return self.ids.gather(pl.Series(self.codes).replace(-1, None))


def _inverse(order: np.ndarray) -> np.ndarray:
    """(n + 1,) int32: where each of n numbers stands in `order`, and -1 at the end, for null."""
    places = np.full(len(order) + 1, -1, np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    return places


@dataclass(frozen=True)
class RawLog:
    """N events, sorted by (user, time, order of the source), before filtering.

    `catalogue` says what is known of items: item, title, categories (lists of paths, root first); not every item need
    be there. `impressions`, where the source says what each request showed: request, user, ts, query ("" for none) and
    items (a list, in the order shown), sorted by (user, time, file order).
    """

    name: str
    user: Coded
    item: Coded
    times: np.ndarray  # (N,) int64 Unix seconds
    action: Coded
    query: Coded | None = None  # "" where nothing was typed
    request: Coded | None = None
    catalogue: pl.DataFrame | None = None
    action_is_outcome: bool = False  # true for ratings: known only after the user has seen the item
    categories_are_flat: bool = False  # true where a path is a set of genres and not a way down a hierarchy
    dropped: dict[str, int] = field(default_factory=dict)
    vocabulary: frozenset[str] | None = None  # words that queries made from categories may hold, where that is limited
    impressions: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.times)

    def only(self, rows: np.ndarray) -> "RawLog":
        """The events that `rows`, a mask or numbers, choose."""
        columns: dict[str, Any] = {name: column[rows] for name in CODED if (column := getattr(self, name)) is not None}
        return replace(self, times=self.times[rows], **columns)

    def followed_by(self, other: "RawLog", source: str) -> "RawLog":
        """These events and the other's; of equal user and time, these are first. What both dropped is added up.

        Raises:
            UserError: columns that only one of them has, or ids of another kind; `source` names the other.
        """
        pairs: dict[str, tuple[Coded, Coded]] = {}
        for name in CODED:
            ours, others = getattr(self, name), getattr(other, name)
            if (ours is None) != (others is None):
                raise UserError(
                    f"{source}: column '{name}' is in only one of the files; give all files the same columns"
                )
            if ours is not None:
                try:
                    pairs[name] = ours.with_ids_of(others)
                except TypeError as error:
                    raise UserError(f"{source}: column '{name}' is of another kind than before: {error}") from error
        users = [one.codes for one in pairs[Columns.USER]]
        at = _places_after(users[0], self.times, users[1], other.times)
        columns: dict[str, Any] = {
            name: Coded(np.insert(ours.codes, at, others.codes), ours.ids) for name, (ours, others) in pairs.items()
        }
        dropped = {key: self.dropped.get(key, 0) + other.dropped.get(key, 0) for key in self.dropped | other.dropped}
        words = None if self.vocabulary is None else self.vocabulary | (other.vocabulary or frozenset())
        times = np.insert(self.times, at, other.times)
        return replace(self, times=times, dropped=dropped, vocabulary=words, **columns)

    def frame(self) -> pd.DataFrame:
        """The events as a table with the columns of `Columns`."""
        columns = {Columns.TIME: pl.Series(self.times)} | {
            name: column.values() for name in CODED if (column := getattr(self, name)) is not None
        }
        return pl.DataFrame(columns).to_pandas()


CODED = (Columns.USER, Columns.ITEM, Columns.ACTION, Columns.QUERY, Columns.REQUEST)
"""The coded fields of a `RawLog`, named as the columns that they hold."""


def by_user_and_time(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """(N,) the stable order by (user number, time)."""
    keys = {"user": users, "time": times}
    if times.max(initial=0) < 1 << 32:  # one key of 64 bits sorts twice as fast as two
        keys = {"both": _user_and_time(users, times)}
    return pl.DataFrame(keys).with_row_index("row").sort(*keys, maintain_order=True)["row"].to_numpy()


def _user_and_time(users: np.ndarray, times: np.ndarray) -> np.ndarray:
    return (users.astype(np.int64) << 32) + times


def _places_after(users: np.ndarray, times: np.ndarray, later_users: np.ndarray, later_times: np.ndarray) -> np.ndarray:
    """(M,) before which of N sorted events each of M later ones, sorted too, is to be inserted."""
    if max(times.max(initial=0), later_times.max(initial=0)) < 1 << 32:
        keys = _user_and_time(users, times), _user_and_time(later_users, later_times)
        return np.searchsorted(keys[0], keys[1], side="right")
    order = by_user_and_time(np.concatenate([users, later_users]), np.concatenate([times, later_times]))
    return np.cumsum(order < len(users))[order >= len(users)]


def validate(
    interactions: Frame,
    items: Frame | None,
    name: str,
    source: str,
    *,
    action_is_outcome: bool = False,
    categories_are_flat: bool = False,
    drop_duplicates: bool = True,
) -> RawLog:
    """Check the two tables of a data set, number their ids, and sort the events.

    Args:
        interactions: columns user, item, ts and optionally action, query, request.
        items: columns item and optionally title, categories; None where nothing is known of items.
        source: the file or folder, for messages.
        drop_duplicates: of events that agree in every column, keep the first.

    Raises:
        UserError: a missing column, a null or unreadable value (with its row), an empty log.
    """
    table = _polars(interactions, source)
    required = (Columns.USER, Columns.ITEM, Columns.TIME)
    for column in required:
        if column not in table.columns:
            raise UserError(
                f"{source}: column '{column}' is missing; interactions need the columns {', '.join(required)} "
                f"and have {', '.join(table.columns) or 'none'}"
            )
    if table.is_empty():
        raise UserError(f"{source}: the log holds no events; nothing can be trained or measured on it")
    for column in required:
        refuse_rows(table[column].is_null(), f"column '{column}' is null", "remove or repair these rows", source)
    actions = table[Columns.ACTION] if Columns.ACTION in table.columns else None
    if actions is not None:
        refuse_rows(actions.is_null(), "column 'action' is null", "name the action or remove the rows", source)
        if not isinstance(actions.dtype, pl.Categorical | pl.Enum):
            actions = actions.cast(pl.String)
    given = {name: _ids(table[name]) for name in (Columns.USER, Columns.ITEM)}
    given[Columns.ACTION] = pl.Series(["event"]).new_from_index(0, len(table)) if actions is None else actions
    if Columns.QUERY in table.columns:
        given[Columns.QUERY] = typed(table[Columns.QUERY])
    if Columns.REQUEST in table.columns:
        given[Columns.REQUEST] = _ids(table[Columns.REQUEST])
    columns: dict[str, Any] = {name: Coded.of(values) for name, values in given.items()}
    raw = RawLog(
        name,
        times=whole_seconds(table[Columns.TIME], source),
        catalogue=None if items is None else catalogue(items, f"{source}, items"),
        action_is_outcome=action_is_outcome,
        categories_are_flat=categories_are_flat,
        **columns,
    )
    raw = raw.only(by_user_and_time(raw.user.codes, raw.times))
    return without_duplicates(raw) if drop_duplicates else raw


def without_duplicates(raw: RawLog) -> RawLog:
    """Of events that agree in every column, the first; the others are counted."""
    columns = {name: column.codes for name in CODED if (column := getattr(raw, name)) is not None}
    table = pl.DataFrame({"time": raw.times, **columns}).with_row_index("row")
    first = table.unique(["time", *columns], keep="first", maintain_order=True)["row"].to_numpy()
    return replace(raw.only(first), dropped=raw.dropped | {"duplicated events": len(raw) - len(first)})


def refuse_rows(bad: ArrayLike | pl.Series, what: str, remedy: str, source: str) -> None:
    """Raise UserError naming the first row where `bad` is true."""
    rows = np.flatnonzero(np.asarray(bad))
    if len(rows):
        more = f" and {len(rows) - 1} more" if len(rows) > 1 else ""
        raise UserError(f"{source}: row {rows[0]}{more}: {what}; {remedy}")


LATEST_SECOND: Final = 10**11
"""The year 5138: what is later was counted in milliseconds, in which it is 1973."""


def whole_seconds(times: pl.Series | pd.Series, source: str) -> np.ndarray:
    """(N,) int64 Unix seconds.

    Raises:
        UserError: a value that is no whole number of seconds, with its row.
    """
    if isinstance(times, pd.Series):
        times = pl.from_pandas(pd.to_numeric(times, errors="coerce") if times.dtype == object else times)
    if times.dtype.is_temporal():
        return times.cast(pl.Datetime("ms")).dt.epoch("s").to_numpy()
    remedy = "times are whole Unix seconds, 0 or later"
    numbers = times if times.dtype.is_integer() else times.cast(pl.Float64, strict=False)
    refuse_rows(numbers.is_null(), f"column '{Columns.TIME}' is not a number", remedy, source)
    if not numbers.dtype.is_integer():
        refuse_rows(
            (numbers != numbers.floor()) | ~numbers.is_finite(),
            f"column '{Columns.TIME}' is not a whole number",
            remedy,
            source,
        )
    refuse_rows(numbers < 0, f"column '{Columns.TIME}' is negative", remedy, source)
    refuse_rows(numbers > LATEST_SECOND, f"column '{Columns.TIME}' is in milliseconds", "divide it by 1000", source)
    return numbers.cast(pl.Int64).to_numpy()


def typed(queries: pl.Series) -> pl.Series:
    """What users typed, "" for nothing."""
    return queries.cast(pl.String).fill_null("").str.strip_chars()


def catalogue(items: Frame, source: str) -> pl.DataFrame:
    """One row for each item that a table describes: item, title ("" where unknown), categories (lists of paths).

    Raises:
        UserError: a table without item ids.
    """
    table = _polars(items, source)
    if Columns.ITEM not in table.columns:
        raise UserError(f"{source}: the items table has no column '{Columns.ITEM}'")
    refuse_rows(table[Columns.ITEM].is_null(), "item is null in the items table", "remove these rows", source)
    titles, paths = pl.lit("").alias(Columns.TITLE), pl.lit(None, CATEGORY_PATHS).alias(Columns.CATEGORIES)
    if Columns.TITLE in table.columns:
        titles = pl.col(Columns.TITLE).cast(pl.String).fill_null("").str.strip_chars()
    if Columns.CATEGORIES in table.columns:
        paths = pl.col(Columns.CATEGORIES).cast(CATEGORY_PATHS)
    return table.select(Columns.ITEM, titles, paths.fill_null([])).unique(
        Columns.ITEM, keep="first", maintain_order=True
    )


def described(ids: pl.Series, known: pl.DataFrame | None) -> tuple[list[str], list[list[list[str]]]]:
    """Titles and category paths of items, "" and none where the catalogue does not know them."""
    if known is None:
        return [""] * len(ids), [[]] * len(ids)
    keys = known.with_columns(
        pl.col(Columns.ITEM).cast(ids.dtype, strict=False)
    )  # 7 in a log may be "7" in a catalogue
    found = pl.DataFrame({Columns.ITEM: ids}).join(
        keys.unique(Columns.ITEM, keep="first"), on=Columns.ITEM, how="left", maintain_order="left"
    )
    return found[Columns.TITLE].fill_null("").to_list(), listed(found[Columns.CATEGORIES])


def _polars(frame: Frame, source: str) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    try:
        return pl.from_pandas(frame)
    except Exception as error:  # of pyarrow, of several kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{source}: a column mixes kinds of values ({reason}); give each column one kind") from error


def _ids(values: pl.Series) -> pl.Series:
    """Ids as strings or whole numbers."""
    if values.dtype.is_float():
        whole = values.cast(pl.Int64, strict=False)
        if (whole == values).all():
            return whole
    if values.dtype.is_integer() or isinstance(values.dtype, pl.String | pl.Categorical | pl.Enum):
        return values
    return values.cast(pl.String)
