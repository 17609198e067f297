import numpy as np
import pandas as pd
import pytest

from synergen.data.kinds import uniform_hash
from synergen.data.queries import QueryTable, title_queries
from synergen.data.twice import faithful_events
from synergen.errors import UserError
from synergen.events import EventLog, number_events
from synergen.raw import validate

DAY = 86_400


def log_of(*events: tuple[str, str, int]) -> EventLog:
    """An event log of (user, item, day)."""
    frame = pd.DataFrame(events, columns=["user", "item", "ts"])
    return number_events(validate(frame.assign(ts=frame["ts"] * DAY), None, "toy", "toy"))


# Users a and b buy; w has no query.
LOG = log_of(
    *(("a", "y", 1), ("a", "x", 1), ("a", "z", 2), ("a", "w", 3), ("a", "x", 3)),
    *(("b", "x", 1), ("b", "y", 2), ("b", "w", 2)),
)
W, X, Y, Z = 1, 2, 3, 4  # the items' numbers, in the order of their names
ONE_EACH = QueryTable(["", "q", "r", "s"], np.array([0, 0, 0, 1, 2, 3]), np.array([3, 1, 3], np.int32), "by hand")


def test_feed_events_of_a_day_come_before_its_searches() -> None:
    twice = faithful_events(LOG, ONE_EACH)
    # day 1: y, x, then their searches; day 2: z and its search; day 3: w, which has no query, x and the search for x
    assert twice.items.tolist() == [Y, X, Y, X, Z, Z, W, X, X]
    assert twice.searched.tolist() == [False, False, True, True, False, True, False, False, True]
    assert (twice.times // DAY).tolist() == [1, 1, 1, 1, 2, 2, 3, 3, 3]
    # s, which x and z have, and q, which y has; r is no item's and forgotten
    assert twice.query_texts == ["", "q", "s"]
    assert twice.queries.tolist() == [0, 0, 1, 2, 0, 2, 0, 0, 2]
    assert twice.groups.tolist() == list(range(9))


def test_users_with_too_few_searches_are_dropped_and_counted() -> None:
    twice = faithful_events(LOG, ONE_EACH)
    # b buys w, x and y, and w has no query: three feed events, two searches
    assert twice.user_ids.tolist() == ["a"]
    assert twice.offsets.tolist() == [0, 9]
    assert twice.dropped["users with fewer than 3 feed events or 3 searches"] == 1
    assert twice.n_items == 4  # the catalogue stays


def test_nobody_left_is_an_error() -> None:
    nothing = QueryTable([""], np.zeros(6, np.int64), np.zeros(0, np.int32), "none")
    with pytest.raises(UserError, match="no user has 3 purchases whose items have queries"):
        faithful_events(LOG, nothing)


def test_a_user_searches_for_an_item_by_one_query() -> None:
    titles = ["", *(f"red wool thing {i % 7}" for i in range(1, 31))]
    events = [(f"u{user}", f"{1000 + (user + step) % 30}", step // 3) for user in range(200) for step in range(40)]
    log = log_of(*events)
    table = title_queries(titles, min_items=1)
    twice = faithful_events(log, table)
    searches = pd.DataFrame({"user": twice.users, "item": twice.items, "query": twice.queries})[twice.searched]
    assert (searches.groupby(["user", "item"])["query"].nunique() == 1).all()  # 10 items are bought twice
    assert searches.groupby("item")["query"].nunique().min() > 1  # other users draw other queries


def plain_reference(log: EventLog, queries: np.ndarray) -> list[tuple[int, int, int, bool, int]]:
    """(user, time, item, searched, query) of the events, user by user and event by event."""
    result = []
    for user in range(log.n_users):
        own = range(log.offsets[user], log.offsets[user + 1])
        feed = [(int(log.times[n]), False, place, int(log.items[n]), 0) for place, n in enumerate(own)]
        search = [
            (int(log.times[n]), True, float(uniform_hash(np.array([n]), salt=4)[0]), int(log.items[n]), int(queries[n]))
            for n in own
            if queries[n]
        ]
        if len(feed) >= 3 and len(search) >= 3:
            result += [(user, time, item, kind, query) for time, kind, _, item, query in sorted(feed + search)]
    return result


@pytest.mark.parametrize("seed", range(5))
def test_the_arrays_equal_a_plain_reference(seed) -> None:
    rng = np.random.default_rng(seed)
    days = {f"u{user:02}": np.sort(rng.integers(0, 5, rng.integers(3, 9))) for user in range(30)}
    log = log_of(*((user, f"{rng.integers(100, 120)}", day) for user, own in days.items() for day in own))
    has = rng.random(log.n_items + 1) < 0.6
    has[0] = False
    numbers = np.where(has, np.arange(log.n_items + 1), 0)
    texts = ["", *(f"query {n:02}" for n in range(1, log.n_items + 1))]
    table = QueryTable(texts, np.concatenate([[0], np.cumsum(has)]), numbers[has].astype(np.int32), "by hand")
    twice = faithful_events(log, table)
    expected = plain_reference(log, numbers[log.items])
    stays = sorted({user for user, *_ in expected})
    assert [log.user_ids[user] for user in stays] == twice.user_ids.tolist()
    found = zip(
        np.array(stays)[twice.users].tolist(),
        twice.times.tolist(),
        twice.items.tolist(),
        twice.searched.tolist(),
        [table.texts.index(twice.query_texts[query]) for query in twice.queries],
        strict=True,
    )
    assert list(found) == expected
    assert twice.groups.tolist() == [n for length in np.diff(twice.offsets) for n in range(length)]


def test_the_leak_that_it_makes() -> None:
    """The published code takes a search's target from the feed events before it only where it is the last of them."""
    twice = faithful_events(LOG, ONE_EACH)
    last_feed = {n: [m for m in range(n) if not twice.searched[m]][-1] for n in np.flatnonzero(twice.searched)}
    stays = [bool(twice.items[last] != twice.items[n]) for n, last in last_feed.items()]
    # y of day 1 stands before x in the feed and stays there; x of day 1, z and x of day 3 are the last
    assert stays == [True, False, False, False]
