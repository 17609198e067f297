"""What the audit says of a log, by hand and against plain loops, and the trivial rankers."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from benchmarks.evaluator import PoolEvaluator, audit
from synergen.contract import Histories, Requests, Task
from synergen.data.dataset import Dataset
from synergen.data.splits import DAY, EventSplit, LeaveOneOut, Part, PerTask, parse_split
from synergen.evaluation.audit import SeenRanker, leak_shares
from synergen.events import EventLog, number_events
from synergen.raw import validate


def log_of(*rows: tuple[str, int, int, str]) -> EventLog:
    """A log of (user, item, Unix seconds, query)."""
    frame = pd.DataFrame(rows, columns=["user", "item", "ts", "query"])
    return number_events(validate(frame, None, "hand", "hand"))


def test_leaks_of_leave_one_out_by_hand():
    """The test events are (a, 1, day 2), (b, 1, day 4) and (c, 2, day 10), all with queries; training are the first two
    of each user, on days 0 1, 3 4 and 9 9."""
    log = log_of(
        *[("a", 2, 0, "q"), ("a", 3, DAY, "q"), ("a", 1, 2 * DAY, "q"), ("a", 1, 2 * DAY + 60, "q")],
        *[("b", 1, 3 * DAY, "q"), ("b", 2, 4 * DAY, "q"), ("b", 3, 4 * DAY, "q"), ("b", 1, 4 * DAY, "q")],
        *[("c", 3, 9 * DAY, "q"), ("c", 1, 9 * DAY, "q"), ("c", 1, 9 * DAY, "r"), ("c", 2, 10 * DAY, "q")],
    )
    assert leak_shares(log, LeaveOneOut(log)) == {
        "test targets in own history": pytest.approx(2 / 3),  # a and b
        "search targets in own history at the same time": 0,
        "search targets in own history on the same day (UTC)": pytest.approx(1 / 3),  # a
        "test targets tied in time with the event before": pytest.approx(1 / 3),  # b
        "training events later than a test event, mean": pytest.approx((4 / 6 + 2 / 6 + 0) / 3),
        "test events with a later training event": pytest.approx(2 / 3),
        # item 1 is trained on on days 3 and 9, item 2 on days 0 and 4
        "training events of its item later than a test event, mean": pytest.approx((1 + 1 / 2 + 0) / 3),
        "events that repeat another of their user, item, time and action": pytest.approx(
            1 / 12
        ),  # c, but for the query
        "events tied in time with the event before": pytest.approx(4 / 9),  # 3 of b's day 4 in a row, and of c's day 9
    }


def test_the_published_construction_leaks_search_targets():
    """On the last day a buys 4 and 5, of which 4 has a query: the feed event before the search is of 5, so the copy of
    4 stays. b buys 4 alone, and the copy is left out."""
    days = [(item, day * DAY) for day, item in enumerate((1, 2, 3))]
    both = [(user, item, ts, query) for user in "ab" for item, ts in days for query in ("", f"q{item}")]
    last = [("a", 4, 9 * DAY, ""), ("a", 5, 9 * DAY, ""), ("a", 4, 9 * DAY, "q4")]
    log = log_of(*both, *last, ("b", 4, 9 * DAY, ""), ("b", 4, 9 * DAY, "q4"))
    split = PerTask(log)
    shares = leak_shares(log, split)
    assert shares["search targets in own history on the same day (UTC)"] == 0.5
    assert shares["test targets in own history"] == 0.25  # that search, of two searches and two feed events

    evaluator = PoolEvaluator(Dataset(log, split, ""), split, 1, 0, 50, "cpu")
    lines = audit(Dataset(log, split, ""), evaluator, {"candidates": "full"})
    assert {name for name in lines if "ranker" in name} == {
        f"R@10 ({task}) of the ranker '{name}' (full)"
        for task in Task
        for name in ("was it seen before", "most popular")
    }


def plain_shares(log: EventLog, split: EventSplit) -> dict[str, float]:
    """One test event after another, as the words of each line say."""
    trained = [e for user in range(log.n_users) for e in range(log.offsets[user], split.train_ends()[user])]
    searches = set(split.questions(Part.TEST, Task.SEARCH).tolist())
    found: dict[str, list[float]] = {name: [] for name in leak_shares(log, split) if not name.startswith("events")}
    for event in split.held_out(Part.TEST):
        time = log.times[event]
        (left_out,) = split.left_out(np.array([event]))
        own = range(log.offsets[log.users[event]], event)
        before = [e for e in own if log.groups[e] < log.groups[event] and e != left_out]
        copies = [log.times[e] for e in before if log.items[e] == log.items[event]]
        found["test targets in own history"].append(bool(copies))
        if event in searches:
            found["search targets in own history at the same time"].append(time in copies)
            same_day = [t // DAY == time // DAY for t in copies]
            found["search targets in own history on the same day (UTC)"].append(any(same_day))
        tied = event > log.offsets[log.users[event]] and log.times[event - 1] == time
        found["test targets tied in time with the event before"].append(tied)
        later = [log.times[e] > time for e in trained]
        found["training events later than a test event, mean"].append(np.mean(later))
        found["test events with a later training event"].append(any(later))
        of_item = [log.times[e] > time for e in trained if log.items[e] == log.items[event]]
        if of_item:
            found["training events of its item later than a test event, mean"].append(np.mean(of_item))
    rows = list(zip(log.users, log.items, log.times, log.actions, strict=True))
    repeats = [row in rows[:at] for at, row in enumerate(rows)]
    ties = [a[0] == b[0] and a[2] == b[2] for a, b in zip(rows[1:], rows, strict=False)]
    return {name: float(np.mean(values)) for name, values in found.items()} | {
        "events that repeat another of their user, item, time and action": float(np.mean(repeats)),
        "events tied in time with the event before": sum(ties) / (log.n_events - log.n_users),
    }


@pytest.mark.parametrize("by_day", [False, True])
@pytest.mark.parametrize("name", ["leave-one-out", "last-3", "point-15+1d", "per-task"])
def test_shares_are_those_of_the_plain_loop(name, by_day):
    """30 users, 12 items, 6-hour steps: repeats, ties and copies of all kinds occur. A user's events of one day are of
    one request, or each event is of its own."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "user": rng.integers(0, 30, 400),
            "item": rng.integers(0, 12, 400),
            "ts": rng.integers(0, 80, 400) * DAY // 4,
            "query": rng.choice(["", "q", "r"], 400),
            "action": rng.choice(["x", "y"], 400, p=[0.9, 0.1]),
        }
    )
    if by_day:
        frame["request"] = frame["ts"] // DAY
    log = number_events(validate(frame, None, "random", "random"))
    split = parse_split(name, log)
    shares = leak_shares(log, split)
    assert shares == pytest.approx(plain_shares(log, split))
    future = [value for line, value in shares.items() if "later" in line]
    assert (max(future) == 0) == (name == "point-15+1d")  # one point of time for all lets nothing of the future in


def requests_of(*histories: list[int]) -> Requests:
    """Requests with these items as history, and nothing else."""
    items = torch.nn.utils.rnn.pad_sequence([torch.tensor(h, dtype=torch.long) for h in histories], batch_first=True)
    nothing, zero = torch.zeros_like(items), torch.zeros(len(histories), dtype=torch.long)
    history = Histories(items, nothing, nothing, nothing, nothing, torch.tensor([len(h) for h in histories]))
    return Requests(Task.RECOMMENDATION, history, zero, zero, zero)


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        (torch.tensor([1, 2, 3, 4]), [[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]),
        (torch.tensor([4, 0]), [[1, 0], [0, 0], [0, 0]]),  # padding was never seen
        (torch.tensor([[4, 3], [1, 0], [2, 1]]), [[1, 0], [1, 0], [0, 0]]),
    ],
)
def test_the_ranker_by_history_scores_what_is_in_it(candidates: Tensor, expected: list[list[int]]):
    """Histories are 2 4 4, 1, and none."""
    assert SeenRanker(4).score(requests_of([2, 4, 4], [1], []), candidates).tolist() == expected
