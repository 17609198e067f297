"""Ranks of whole models against a loop that ranks one user at a time, as the protocol says in words."""

import numpy as np
import pytest
import torch
from torch import Tensor

from synergen.contract import DotProductRecommender, PairRecommender, Recommender, Requests, Task
from synergen.data.candidates import pools
from synergen.data.splits import LeaveOneOut, Part
from synergen.evaluation import catalogue
from synergen.evaluation.audit import PopularRanker, SeenRanker, leak_shares
from synergen.evaluation.ranking import full_ranks, pool_ranks
from synergen.events import number_events
from synergen.raw import validate


class Coarse(Recommender):
    """Scores that tie often, from the last item and the query alone."""

    tasks = frozenset(Task)

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        last = requests.history.items.gather(1, (requests.history.lengths - 1).clamp(min=0)[:, None])  # (B, 1)
        shared = candidates if candidates.dim() == 2 else candidates.expand(len(last), -1)
        return ((shared * 7 + last * 3 + requests.queries[:, None]) % 11).float()


class Vectors(DotProductRecommender):
    """The same through inner products, with dropout that must be off."""

    tasks = frozenset(Task)

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(n_items + 1, 8, padding_idx=0)
        self.dropout = torch.nn.Dropout(0.5)

    def user_vectors(self, requests: Requests) -> Tensor:
        return self.dropout(self.table(requests.history.items).sum(1))

    def item_vectors(self) -> Tensor:
        return self.table.weight


class Few(Vectors):
    """Two small whole numbers an item, whose products are exact and tie often, and a bias."""

    def __init__(self, n_items: int) -> None:
        super().__init__(n_items)
        self.table.weight.data.zero_()[1:, :2] = torch.randint(-2, 3, (n_items, 2)).float()

    def item_bias(self) -> Tensor:
        return torch.arange(len(self.table.weight)).remainder(3).float()


class Scores(Recommender):
    """The scores of a model, without its vectors."""

    tasks = frozenset(Task)

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        return self.model.score(requests, candidates)


class Pairs(PairRecommender):
    """The scores of `Coarse`, by chunks; notes how many candidates it is asked to compare."""

    tasks = frozenset(Task)
    pair_width = 1 << 12

    def __init__(self) -> None:
        super().__init__()
        self.compared: list[int] = []

    def read(self, requests: Requests) -> Requests:
        return requests

    def compare(self, read: Requests, candidates: Tensor) -> Tensor:
        self.compared.append(candidates.shape[-1])
        return Coarse().score(read, candidates)


def plain_full_ranks(toy, part, task) -> np.ndarray:
    log, ranks = toy.log, np.full(toy.log.n_users, np.nan)
    for user in range(log.n_users):
        target = toy.split.targets(part)[user]
        if task is Task.SEARCH and log.queries[target] == 0:
            continue
        before = log.items[log.offsets[user] : target].tolist()
        query = log.queries[target] if task is Task.SEARCH else 0
        scores = {c: (c * 7 + before[-1] * 3 + query) % 11 for c in range(1, log.n_items + 1)}
        own = log.items[target]
        rivals = [scores[c] for c in scores if c != own and c not in before]
        ranks[user] = 1 + sum(s > scores[own] for s in rivals) + sum(s == scores[own] for s in rivals) / 2
    return ranks


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("task", list(Task))
def test_full_ranks_are_those_of_the_plain_loop(toy, part, task):
    ranks = full_ranks(Coarse(), toy.log, toy.split, part, task, max_history=50)
    np.testing.assert_array_equal(ranks, plain_full_ranks(toy, part, task))


@pytest.mark.parametrize("task", list(Task))
@pytest.mark.parametrize("batch_size", [4, 256])
@pytest.mark.parametrize("tile", [16, 4096])
def test_full_ranks_by_vectors_are_those_by_scores(toy, task, batch_size, tile, monkeypatch):
    """Reference: the same model seen as one that only scores, which the plain loop is compared with above."""
    monkeypatch.setattr(catalogue, "TILE", tile)
    model, rest = Few(toy.log.n_items), (toy.log, toy.split, Part.TEST, task)
    ranks = full_ranks(model, *rest, max_history=50, batch_size=batch_size)
    np.testing.assert_array_equal(ranks, full_ranks(Scores(model), *rest, max_history=50))
    assert (ranks % 1 == 0.5).any()  # there are ties


def test_a_model_that_compares_pairs_does_so_in_chunks(toy):
    """30 requests of 4,096 numbers a pair: 2^22 of them are 34 candidates, of the toy's catalogue."""
    model, rest = Pairs(), (toy.log, toy.split, Part.TEST, Task.RECOMMENDATION)
    ranks = full_ranks(model, *rest, max_history=50)
    np.testing.assert_array_equal(ranks, full_ranks(Coarse(), *rest, max_history=50))
    assert max(model.compared) == (1 << 22) // (30 << 12)
    assert sum(model.compared) == toy.log.n_items
    pool = pools(toy.log, toy.split, Part.TEST, Task.RECOMMENDATION, seed=1)
    np.testing.assert_array_equal(
        pool_ranks(model, *rest, pool, max_history=50), pool_ranks(Coarse(), *rest, pool, max_history=50)
    )


def test_some_questions_have_the_ranks_that_they_have_among_all(toy):
    rest = (toy.log, toy.split, Part.TEST, Task.RECOMMENDATION)
    everyone, seen = full_ranks(Coarse(), *rest, max_history=50), []
    among = np.array([3, 11, 29])
    some = full_ranks(
        Coarse(), *rest, max_history=50, among=among, report=lambda done, total: seen.append((done, total))
    )
    assert np.flatnonzero(np.isfinite(some)).tolist() == among.tolist()
    np.testing.assert_array_equal(some[among], everyone[among])
    assert seen[-1] == (3, 3)


def test_other_queries_are_asked_and_histories_stay(toy):
    """Reference: `Coarse` adds the query's number to what it ranks by."""
    rest = (toy.log, toy.split, Part.TEST, Task.SEARCH)
    pool = pools(*rest, seed=1)
    rephrased = np.random.default_rng(0).permutation(len(toy.log.query_texts))
    ranks = pool_ranks(Coarse(), *rest, pool, max_history=50, rephrased=rephrased)
    for number, event in enumerate(toy.split.questions(Part.TEST, Task.SEARCH)):
        last, query = toy.log.items[event - 1], rephrased[toy.log.queries[event]]
        scores = [(c * 7 + last * 3 + query) % 11 for c in pool[number]]
        assert ranks[number] == 1 + sum(s > scores[0] for s in scores[1:]) + sum(s == scores[0] for s in scores[1:]) / 2


def test_pool_ranks_count_the_pool_only(toy):
    pool = pools(toy.log, toy.split, Part.TEST, Task.RECOMMENDATION, seed=1)
    ranks = pool_ranks(Coarse(), toy.log, toy.split, Part.TEST, Task.RECOMMENDATION, pool, max_history=50)
    for user in range(toy.log.n_users):
        last = toy.log.items[toy.log.offsets[user + 1] - 2]
        scores = [(c * 7 + last * 3) % 11 for c in pool[user]]
        expected = 1 + sum(s > scores[0] for s in scores[1:]) + sum(s == scores[0] for s in scores[1:]) / 2
        assert ranks[user] == expected


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_ranks_do_not_depend_on_the_batch_size_and_dropout_is_off(toy, batch_size):
    model = Vectors(toy.log.n_items)
    pool = pools(toy.log, toy.split, Part.TEST, Task.RECOMMENDATION, seed=1)
    rest = (toy.log, toy.split, Part.TEST, Task.RECOMMENDATION)
    np.testing.assert_array_equal(
        full_ranks(model, *rest, max_history=50, batch_size=batch_size),
        full_ranks(model, *rest, max_history=50, batch_size=64),
    )
    np.testing.assert_array_equal(
        pool_ranks(model, *rest, pool, max_history=50, batch_size=batch_size),
        pool_ranks(model, *rest, pool, max_history=50, batch_size=64),
    )
    assert model.training  # as it was found


@pytest.mark.parametrize("by_vectors", [True, False])
def test_the_progress_of_ranking_ends_at_all_requests(toy, by_vectors):
    """One report a batch; all requests are the users whose test event has a query."""
    model, seen = Vectors(toy.log.n_items) if by_vectors else Coarse(), []
    full_ranks(
        model, toy.log, toy.split, Part.TEST, Task.SEARCH, max_history=50, batch_size=4,
        report=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1][0] == seen[-1][1] == int((toy.log.queries[toy.split.targets(Part.TEST)] > 0).sum())


def leaky_log():
    """User a meets its test item 1 again at the same time, b meets it earlier, c never does."""
    import pandas as pd

    rows = [("a", 2, 1), ("a", 3, 2), ("a", 1, 9), ("a", 1, 9.0), ("b", 1, 1), ("b", 2, 2), ("b", 3, 3), ("b", 1, 4)]
    rows += [("c", 2, 1), ("c", 3, 2), ("c", 1, 20)]
    frame = pd.DataFrame(rows, columns=["user", "item", "ts"])
    frame["action"] = ["x", "x", "x", "y", "x", "x", "x", "x", "x", "x", "x"]  # so that a's pair is no duplicate
    frame["query"] = "q"
    return number_events(validate(frame, None, "leaky", "leaky"))


def test_leak_shares_by_hand():
    log = leaky_log()
    shares = leak_shares(log, LeaveOneOut(log))
    assert shares["test targets in own history"] == pytest.approx(2 / 3)  # a and b
    assert shares["search targets in own history at the same time"] == pytest.approx(1 / 3)  # a
    assert shares["test targets tied in time with the event before"] == pytest.approx(1 / 3)  # a
    # training times are 1, 2 (a), 1, 2 (b), 1 (c); none is later than a test event at 9, 4 or 20
    assert shares["training events later than a test event, mean"] == 0


def test_trivial_rankers():
    log = leaky_log()
    split = LeaveOneOut(log)
    seen = full_ranks(SeenRanker(3), log, split, Part.TEST, Task.RECOMMENDATION, max_history=50)
    # full ranking removes what was seen; of 3 items a keeps only its target, b too, c keeps its target alone
    assert seen.tolist() == [1.0, 1.0, 1.0]
    pool = np.array([[1, 2], [1, 2], [1, 3]])
    ranks = pool_ranks(SeenRanker(3), log, split, Part.TEST, Task.RECOMMENDATION, pool, max_history=50)
    assert ranks.tolist() == [1.5, 1.5, 2.0]  # a and b saw both, c saw only the negative
    counts = split.item_counts()
    assert counts.tolist() == [0, 1, 3, 1]
    popular = pool_ranks(PopularRanker(counts), log, split, Part.TEST, Task.RECOMMENDATION, pool, max_history=50)
    assert popular.tolist() == [2.0, 2.0, 1.5]
