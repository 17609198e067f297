"""Ranks of chosen items against plain loops over requests, and their metrics by hand."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from synergen.contract import Task
from synergen.data.slates import SlateQuestion
from synergen.data.splits import Part, TimeSplit
from synergen.errors import UserError
from synergen.evaluation import slates
from synergen.evaluation.audit import leak_shares
from synergen.evaluation.slates import SlateRanks, catalogue_ranks, shown_items, slate_ranks


@dataclass(frozen=True)
class Coarse:
    """Few different scores, so that ties abound; they depend on the request and the item alone."""

    n_items: int

    def of(self, request: int, item: int) -> float:
        return float((7 * item + 3 * request) % 4)

    def slate(self, question: SlateQuestion) -> torch.Tensor:
        return (7 * question.slates + 3 * torch.from_numpy(question.at)[:, None]).remainder(4).float()

    def catalogue(self, question: SlateQuestion) -> torch.Tensor:
        items = torch.arange(1, self.n_items + 1)
        return (7 * items + 3 * torch.from_numpy(question.at)[:, None]).remainder(4).float()


def plain_ranks(
    split: TimeSplit, task: Task, action: int, candidates: list[int] | None
) -> list[tuple[int, int, float]]:
    """(request, user, rank) of every chosen test item, by loops."""
    shown, parts = split.impressions, split.part_of_request()
    scorer, found = Coarse(split.log.n_items), []
    for request in range(len(shown)):
        if parts[request] != 2 or (shown.queries[request] > 0) != (task is Task.SEARCH):
            continue
        among = candidates or [int(item) for item in shown.items[request] if item]
        for item, outcome in zip(shown.items[request], shown.outcomes[request], strict=True):
            if outcome >= action:
                own = scorer.of(request, item)
                others = [scorer.of(request, other) for other in among if other != item]
                rank = 1 + sum(score > own for score in others) + sum(score == own for score in others) / 2
                found.append((request, int(shown.users[request]), rank))
    return found


def rows(ranks: SlateRanks) -> list[tuple[int, int, float]]:
    return list(zip(ranks.requests.tolist(), ranks.users.tolist(), ranks.ranks.tolist(), strict=True))


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("action", [1, 2])
def test_ranks_in_slates_are_those_of_the_plain_loop(split, task, action):
    seen = []
    found = slate_ranks(
        Coarse(split.log.n_items).slate, split, Part.TEST, task, action, max_history=5,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert rows(found) == plain_ranks(split, task, action, None)
    assert len(found.ranks) > 0
    assert seen[-1] == (len(set(found.requests)),) * 2


@pytest.mark.parametrize("scores_at_once", [1, 1 << 24])
def test_ranks_in_the_catalogue_are_those_of_the_plain_loop(split, scores_at_once, monkeypatch):
    monkeypatch.setattr(slates, "SCORES_AT_ONCE", scores_at_once)
    scorer = Coarse(split.log.n_items)
    found = catalogue_ranks(scorer.catalogue, split, Part.TEST, Task.SEARCH, 1, max_history=5, report=None)
    assert rows(found) == plain_ranks(split, Task.SEARCH, 1, list(range(1, split.log.n_items + 1)))


def test_everything_shown_is_scored_chosen_or_not(split):
    scorer, shown = Coarse(split.log.n_items), split.impressions
    found = shown_items(scorer.slate, split, Part.TEST, Task.SEARCH, 1, max_history=5, report=None)
    asked = np.flatnonzero((split.part_of_request() == 2) & (shown.queries > 0))
    assert sorted(zip(found.at, found.slots, strict=True)) == [
        (request, slot) for request in asked for slot in range((shown.items[request] > 0).sum())
    ]
    assert not shown.outcomes[asked].any(1).all()  # there are requests without a choice
    for at, slot, score, chosen in zip(found.at, found.slots, found.scores, found.chosen, strict=True):
        assert score == scorer.of(at, shown.items[at, slot])
        assert chosen == (shown.outcomes[at, slot] > 0)


RANKS = SlateRanks(np.array([2, 2, 5, 8]), np.array([0, 0, 0, 3]), np.array([1.0, 3.0, 2.5, 1.0]))
"""Request 2 has ranks 1 and 3, request 5 has rank 2½, both of user 0; request 8 of user 3 has rank 1."""


def test_metrics_by_hand():
    # 1 / log2(1 + rank): 1, ½ for ranks 1 and 3; the ideal of two is 1 + 1 / log2 3
    assert RANKS.values("NDCG") == pytest.approx([1.5 / (1 + 1 / np.log2(3)), 1 / np.log2(3.5), 1.0])
    assert RANKS.values("N@1").tolist() == [1.0, 0.0, 1.0]
    assert RANKS.values("N@2") == pytest.approx([1 / (1 + 1 / np.log2(3)), 0.0, 1.0])  # of the ranks 1 and 3 one counts
    assert RANKS.values("MRR") == pytest.approx([1.0, 0.4, 1.0])
    assert RANKS.values("R@1").tolist() == [1.0, 0.0, 1.0]  # of two chosen, one at most can be first
    assert RANKS.values("R@2").tolist() == [0.5, 0.0, 1.0]
    assert RANKS.values("R@3").tolist() == [1.0, 1.0, 1.0]
    assert RANKS.clusters().tolist() == [0, 0, 3]
    assert RANKS.metrics(["MRR"]) == {"MRR": pytest.approx(0.8)}


def test_unknown_metrics_and_empty_parts_are_refused():
    with pytest.raises(UserError, match="unknown metric 'P@5'"):
        RANKS.values("P@5")
    with pytest.raises(UserError, match="no request of this part has a choice"):
        SlateRanks(np.empty(0, int), np.empty(0, int), np.empty(0)).metrics(["MRR"])


def test_leak_shares_are_those_of_the_plain_loop(split):
    log, shown, parts = split.log, split.impressions, split.part_of_request()
    trained = {int(log.items[e]) for u in range(log.n_users) for e in range(log.offsets[u], split.train_ends()[u])}
    repeated, untrained = [], []
    for request in np.flatnonzero(parts == 2):
        past = set(log.items[log.offsets[shown.users[request]] : shown.stops[request]])
        for item in shown.items[request][shown.outcomes[request] > 0]:
            repeated.append(item in past)
            untrained.append(int(item) not in trained)
    shares = leak_shares(log, split)
    assert shares["chosen test items in own history"] == pytest.approx(np.mean(repeated))
    assert 0 < np.mean(repeated) < 1
    assert shares["chosen test items without a training event"] == pytest.approx(np.mean(untrained))
    assert shares["training events later than a test request, mean"] == 0  # one point of time for all users
    assert shares["test requests tied in time with the request before"] == 0  # times of the toy are seconds in a month
