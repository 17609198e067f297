"""Times of raw files as Unix seconds."""

from typing import Final

import polars as pl

from synergen.raw import LATEST_SECOND, Columns

LATEST_TIME: Final = 10**14
"""No time is larger, in seconds or in milliseconds."""


def with_whole_seconds(table: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Events with times in Unix seconds, and what was odd: milliseconds are converted, what is before 1970 left out."""
    in_milliseconds, early = pl.col(Columns.TIME) > LATEST_SECOND, pl.col(Columns.TIME) < 0
    milliseconds, before_1970 = table.select(in_milliseconds.sum().alias("1"), early.sum().alias("2")).row(0)
    if milliseconds:
        seconds = pl.when(in_milliseconds).then(pl.col(Columns.TIME) // 1000).otherwise(pl.col(Columns.TIME))
        table = table.with_columns(seconds)
    if before_1970:
        table = table.filter(~early)
    notes = {
        "events whose time was in milliseconds": milliseconds,
        "events left out: their time is before 1970": before_1970,
    }
    return table, {note: count for note, count in notes.items() if count}
