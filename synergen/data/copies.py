"""Earlier events of the same user and item."""

import numpy as np

from synergen.events import EventLog


def earlier_copies(log: EventLog) -> tuple[np.ndarray, np.ndarray]:
    """Of each of N events, how many events of its user's earlier requests are of its item, (N,) int64, and which is the
    last of them, (N,) int64, -1 for none."""
    pairs = log.users * (log.n_items + 1) + log.items
    order, at = np.argsort(pairs, kind="stable"), np.arange(log.n_events)
    new_pair = np.diff(pairs[order], prepend=-1) != 0
    new_request = new_pair | (np.diff(log.request_starts[order], prepend=-1) != 0)
    of_pair, of_request = (np.maximum.accumulate(np.where(new, at, 0)) for new in (new_pair, new_request))
    counts, last = np.empty((2, log.n_events), np.int64)
    counts[order] = of_request - of_pair
    last[order] = np.where(of_request > of_pair, order[of_request - 1], -1)
    return counts, last
