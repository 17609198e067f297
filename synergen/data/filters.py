"""Which users and items are frequent enough to stay."""

from dataclasses import replace
from enum import StrEnum

from synergen.errors import UserError
from synergen.events import Columns, RawLog


class Filter(StrEnum):
    """`one-pass`: items and users are counted once on the raw table, and both conditions are applied together, as the
    published Amazon Books sets were made (users may then have fewer events than asked). `k-core`: repeated until every
    user and every item has the count."""

    NONE = "none"
    ONE_PASS = "one-pass"
    K_CORE = "k-core"


def apply_filter(raw: RawLog, rule: Filter, min_count: int = 5) -> RawLog:
    """Keep users and items with at least `min_count` events by `rule`; what is dropped is counted.

    Raises:
        UserError: nothing is left, or a log with impressions, which would lose a part of its slates.
    """
    if rule is Filter.NONE:
        return raw
    if raw.impressions is not None:
        raise UserError(f"{raw.name}: the {rule} filter would tear holes into what requests showed; use none")
    frame = raw.interactions
    while True:
        items = frame.groupby(Columns.ITEM)[Columns.ITEM].transform("size")
        users = frame.groupby(Columns.USER)[Columns.USER].transform("size")
        kept = frame[(items >= min_count) & (users >= min_count)]
        settled = len(kept) == len(frame)
        frame = kept
        if settled or rule is Filter.ONE_PASS:
            break
    if frame.empty:
        raise UserError(f"{raw.name}: no event is left by the {rule} filter of {min_count}; ask for a lower count")
    label = f"events dropped by the {rule} filter of {min_count}"
    dropped = raw.dropped | {label: len(raw.interactions) - len(frame)}
    return replace(raw, interactions=frame.reset_index(drop=True), dropped=dropped)
