"""Search or feed: which event came from a query, where the source does not say.

One purchase is one event. Each past event is of one kind, drawn once by a hash of (user, position): search, and then it
carries its query, or feed. So a search example never finds its own target in its history as a recommendation event,
the leak of the published constructions. Held-out events are asked both ways.
"""

from dataclasses import replace

import numpy as np

from synergen.data.queries import QueryTable
from synergen.events import EventLog


def uniform_hash(values: np.ndarray, salt: int) -> np.ndarray:
    """Doubles in [0, 1) that depend on nothing but each value and the salt (the SplitMix64 finaliser)."""
    z = values.astype(np.uint64) + np.uint64((salt * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2**53


def draw_kinds(log: EventLog, table: QueryTable, search_share: float) -> EventLog:
    """Give every event a query of its item and make `search_share` of the events searches.

    An event whose item has no query is feed.
    """
    position = np.arange(log.n_events) - log.offsets[log.users]
    key = log.users.astype(np.uint64) << np.uint64(32) | position.astype(np.uint64)
    drawn = np.concatenate([[0], table.draw(log.items, uniform_hash(key, salt=1))])
    used, queries = np.unique(drawn, return_inverse=True)  # 0 stays 0; queries that no event draws are forgotten
    queries = queries[1:].astype(np.int32)
    searched = (uniform_hash(key, salt=2) < search_share) & (queries > 0)
    return replace(log, queries=queries, searched=searched, query_texts=[table.texts[i] for i in used])
