"""Ranks of the items that were chosen in requests, among what the request showed or among the whole catalogue.

Several items of a request may be chosen, and a user has several requests: every chosen item keeps its rank, a metric
has one value a request, and intervals take the requests of a user together.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from synergen.contract import Task
from synergen.data.slates import SlateQuestion, slate_question, slate_questions
from synergen.data.splits import Part, TimeSplit
from synergen.distributed import gathered, mine
from synergen.errors import UserError, unknown_name
from synergen.evaluation.metrics import rank_of_positive
from synergen.evaluation.ranking import SCORES_AT_ONCE, Report

BATCH_SIZE = 256

SlateScores = Callable[[SlateQuestion], Tensor]
"""Scores, higher is better, (B, S) of the slates of B requests or (B, V) of all items."""


@dataclass(frozen=True)
class SlateRanks:
    """Ranks of N chosen items, sorted by request."""

    requests: np.ndarray  # (N,) numbers among the log's impressions, or positions of the events asked about
    users: np.ndarray  # (N,)
    ranks: np.ndarray  # (N,) float64 from 1 up, multiples of ½

    def values(self, name: str) -> np.ndarray:
        """One metric of each of E requests, as a fraction.

        Args:
            name: NDCG (Σ 1 / log2(1 + rank) over what it is where the chosen items come first), N@k (the same of ranks
                ≤ k), MRR (1 / the best rank) or R@k (how many of the chosen have a rank ≤ k, over the most that could).

        Raises:
            UserError: no such metric.
        """
        first, counts = self._requests()
        if name == "MRR":
            return 1 / np.minimum.reduceat(self.ranks, first)
        parts = re.fullmatch("(R|N)@([1-9][0-9]*)|NDCG", name)
        if parts is None:
            raise unknown_name("metric", name, ("NDCG", "N@k", "MRR", "R@k"))
        depth = int(parts[2] or sys.maxsize)
        within, most = self.ranks <= depth, np.minimum(depth, counts)
        if parts[1] == "R":
            return np.add.reduceat(within.astype(np.float64), first) / most
        ideal = np.cumsum(1 / np.log2(1 + np.arange(1, most.max() + 1)))
        return np.add.reduceat(within / np.log2(1 + self.ranks), first) / ideal[most - 1]

    def clusters(self) -> np.ndarray:
        """(E,) the user of each request."""
        return self.users[self._requests()[0]]

    def of(self, requests: np.ndarray) -> "SlateRanks":
        """Those of some requests (M,) only."""
        kept = np.isin(self.requests, requests)
        return SlateRanks(self.requests[kept], self.users[kept], self.ranks[kept])

    def metrics(self, names: Iterable[str]) -> dict[str, float]:
        """Means over the requests.

        Raises:
            UserError: no such metric, or nothing was asked.
        """
        if not len(self.ranks):
            raise UserError("no request of this part has a choice, so there is nothing to average; use a longer log")
        return {name: float(self.values(name).mean()) for name in names}

    def _requests(self) -> tuple[np.ndarray, np.ndarray]:
        """(E,) where each request begins, and how many items were chosen in it."""
        first = np.flatnonzero(np.diff(self.requests, prepend=-1))
        return first, np.diff(first, append=len(self.requests))


def slate_ranks(
    score: SlateScores,
    split: TimeSplit,
    part: Part,
    task: Task,
    action: int,
    *,
    max_history: int,
    report: Report | None,
    spread: bool = False,
) -> SlateRanks:
    """Each item that got `action` or a stronger one, among all that its request showed. Several processes share the
    requests, unless the items are `spread` over them: then all must ask everything."""

    def ranks(question: SlateQuestion) -> tuple[Tensor, Tensor]:
        rows, columns = question.chosen.nonzero(as_tuple=True)
        scores = score(question).cpu()
        return rows, rank_of_positive(scores[rows], columns, (question.slates == 0)[rows])

    questions = slate_questions(split, part, task, action, max_history, BATCH_SIZE)
    return _collect(ranks, questions, split, len(split.requests(part, task is Task.SEARCH, action)), report, spread)


def catalogue_ranks(
    score: SlateScores,
    split: TimeSplit,
    part: Part,
    task: Task,
    action: int,
    *,
    max_history: int,
    report: Report | None,
    spread: bool = False,
) -> SlateRanks:
    """Each item that got `action` or a stronger one, among all items. Exact; nothing is removed, as people choose again
    what they chose before. `spread` as in `slate_ranks`."""

    def ranks(question: SlateQuestion) -> tuple[Tensor, Tensor]:
        rows, columns = question.chosen.nonzero(as_tuple=True)
        scores = score(question)  # (B, V)
        positives = question.slates[rows, columns] - 1
        rows_at = rows.to(scores.device)
        return rows, rank_of_positive(scores[rows_at], positives.to(scores.device)).cpu()

    slots = split.impressions.items.shape[1]  # at most so many rows of scores are held for each request
    batch_size = max(1, min(BATCH_SIZE, SCORES_AT_ONCE // (split.log.n_items * slots)))
    questions = slate_questions(split, part, task, action, max_history, batch_size)
    return _collect(ranks, questions, split, len(split.requests(part, task is Task.SEARCH, action)), report, spread)


@dataclass(frozen=True)
class ShownItems:
    """Everything that the requests of a part showed, N items, whether or not anything was chosen."""

    at: np.ndarray  # (N,) the request of each, among the log's impressions
    slots: np.ndarray  # (N,) its place in the slate
    scores: np.ndarray  # (N,) float64
    chosen: np.ndarray  # (N,) bool: got the action wanted, or a stronger one


def shown_items(
    score: SlateScores,
    split: TimeSplit,
    part: Part,
    task: Task,
    action: int,
    *,
    max_history: int,
    report: Report | None,
) -> ShownItems:
    """Scores of all items of all requests of a part and task: what calibration is measured on."""
    asked = split.requests(part, task is Task.SEARCH, 0)
    found: list[tuple[np.ndarray, ...]] = []
    for begin in range(0, len(asked), BATCH_SIZE):
        at = asked[begin : begin + BATCH_SIZE]
        question = slate_question(split, at, task, action, max_history)
        rows, slots = (question.slates > 0).nonzero(as_tuple=True)
        scores = score(question).cpu()[rows, slots].double()
        found.append((at[rows.numpy()], slots.numpy(), scores.numpy(), question.chosen[rows, slots].numpy()))
        if report:
            report(begin + len(at), len(asked))
    return ShownItems(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _collect(
    ranks: Callable[[SlateQuestion], tuple[Tensor, Tensor]],
    questions: Iterator[SlateQuestion],
    split: TimeSplit,
    asked: int,
    report: Report | None,
    spread: bool,
) -> SlateRanks:
    requests, values = [np.empty(0, np.int64)], [np.empty(0)]
    done = 0
    for question in questions if spread else mine(questions):
        rows, found = ranks(question)
        requests.append(question.at[rows.numpy()])
        values.append(found.numpy())
        done += len(question.at)
        if report:
            report(done, asked)
    own = np.concatenate(requests), np.concatenate(values)
    every, ranked = own if spread else map(np.concatenate, zip(*gathered(own), strict=True))
    order = np.argsort(every, kind="stable")
    every = every[order]
    return SlateRanks(every, split.impressions.users[every], ranked[order])
