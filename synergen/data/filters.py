"""Which users and items are frequent enough to stay."""

from dataclasses import replace
from enum import StrEnum

import numpy as np

from synergen.errors import UserError
from synergen.raw import RawLog


class Filter(StrEnum):
    """`one-pass`: items and users are counted once on the raw table, and both conditions are applied together, as the
    published Amazon Books sets were made (users may then have fewer events than asked). `one-pass-then-users`: after
    that, users are counted once more, and items no longer. `k-core`: repeated until every user and every item has the
    count."""

    NONE = "none"
    ONE_PASS = "one-pass"
    ONE_PASS_THEN_USERS = "one-pass-then-users"
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
    kept = raw.only(_frequent(raw, min_count, items_too=True))
    dropped = dict(raw.dropped)
    if rule is Filter.ONE_PASS_THEN_USERS:
        after_items = np.count_nonzero(kept.item.counts())
        kept = kept.only(_frequent(kept, min_count, items_too=False))
        lost = after_items - np.count_nonzero(kept.item.counts())
        dropped[f"items left without events when users with fewer than {min_count} went"] = int(lost)
    before = len(raw)
    while rule is Filter.K_CORE and len(kept) < before:
        before, kept = len(kept), kept.only(_frequent(kept, min_count, items_too=True))
    if not len(kept):
        raise UserError(f"{raw.name}: no event is left by the {rule} filter of {min_count}; ask for a lower count")
    dropped[f"events dropped by the {rule} filter of {min_count}"] = len(raw) - len(kept)
    return replace(kept, dropped=dropped)


def _frequent(raw: RawLog, min_count: int, items_too: bool) -> np.ndarray:
    """(N,) bool: the event's user, and its item, have the count."""
    users = (raw.user.counts() >= min_count)[raw.user.codes]
    return users & (raw.item.counts() >= min_count)[raw.item.codes] if items_too else users
