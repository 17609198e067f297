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
    users, items, dropped = raw.user.codes, raw.item.codes, dict(raw.dropped)
    frequent = (raw.user.counts >= min_count)[users]
    frequent &= (raw.item.counts >= min_count)[items]
    rows = np.flatnonzero(frequent)
    if rule is Filter.ONE_PASS_THEN_USERS:
        occurred = np.count_nonzero(np.bincount(items[rows]))
        rows = _frequent(rows, users, min_count)
        label = f"items left without events when users with fewer than {min_count} went"
        dropped[label] = int(occurred - np.count_nonzero(np.bincount(items[rows])))
    before = len(raw)
    while rule is Filter.K_CORE and len(rows) < before:
        before, rows = len(rows), _frequent(_frequent(rows, users, min_count), items, min_count)
    if not len(rows):
        raise UserError(f"{raw.name}: no event is left by the {rule} filter of {min_count}; ask for a lower count")
    dropped[f"events dropped by the {rule} filter of {min_count}"] = len(raw) - len(rows)
    return replace(raw.only(rows), dropped=dropped)


def _frequent(rows: np.ndarray, codes: np.ndarray, min_count: int) -> np.ndarray:
    """Those of `rows` whose code occurs often enough among them."""
    own = codes[rows]
    return rows[(np.bincount(own) >= min_count)[own]]
