"""Every purchase as a feed event and as a search: the published construction, kept to measure what it leaks.

Source: the notebooks of Shi et al. 2025 (GenSAR), the only published ones of the works that make search logs of Amazon
reviews. Their times are whole days, and the searches of a day come after all of its feed events. So wherever a day has
two purchases or more, a search finds its own target among the feed events before it, and whoever repeats history
scores; only where the target is the very last feed event is it taken from the history. `draw_kinds` has no such leak.
"""

from dataclasses import replace

import numpy as np

from synergen.data.kinds import uniform_hash
from synergen.data.queries import QueryTable
from synergen.errors import UserError
from synergen.events import MIN_EVENTS, EventLog


def faithful_events(log: EventLog, table: QueryTable) -> EventLog:
    """The log with each event as a feed event and, where its item has a query, once more as a search.

    Events are sorted by user and time, feed before search, the searches of one time in an order drawn by a hash, since
    the published code shuffles them; and are requests of their own. A user searches for an item
    by the same query always, drawn by a hash of the two. Users with fewer than three events of either kind are dropped
    and counted; the catalogue stays.

    Args:
        log: purchases without queries, each a request of its own.
        table: the queries of the items of `log`.

    Raises:
        UserError: no user has three events of both kinds.
    """
    key = log.users.astype(np.uint64) << np.uint64(32) | log.items.astype(np.uint64)
    query = table.draw(log.items, uniform_hash(key, salt=3))  # (N,)
    with_query = np.flatnonzero(query)
    purchase = np.concatenate([np.arange(log.n_events), with_query])  # (N + searches,): the event that each copies
    searched = np.arange(len(purchase)) >= log.n_events
    shuffled = np.where(searched, uniform_hash(purchase, salt=4), 0.0)
    order = np.lexsort((shuffled, searched, log.times[purchase], log.users[purchase]))

    n_searches = np.bincount(log.users[with_query], minlength=log.n_users)
    stays = np.minimum(np.diff(log.offsets), n_searches) >= MIN_EVENTS  # (U,)
    if not stays.any():
        raise UserError(f"{log.name}: no user has {MIN_EVENTS} purchases whose items have queries; use variant clean")
    order = order[stays[log.users[purchase[order]]]]
    purchase, searched = purchase[order], searched[order]

    lengths = (np.diff(log.offsets) + n_searches)[stays]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    used, queries = np.unique(np.append(0, query[purchase] * searched), return_inverse=True)  # 0 stays 0
    return replace(
        log,
        offsets=offsets,
        items=log.items[purchase],
        actions=log.actions[purchase],
        times=log.times[purchase],
        groups=(np.arange(len(purchase)) - np.repeat(offsets[:-1], lengths)).astype(np.int32),
        queries=queries[1:].astype(np.int32),
        searched=searched,
        user_ids=log.user_ids[stays],
        query_texts=[table.texts[i] for i in used],
        dropped=log.dropped | {"users with fewer than 3 feed events or 3 searches": int((~stays).sum())},
    )
