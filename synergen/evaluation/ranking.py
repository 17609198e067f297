"""Ranks of held-out items, among a pool or among the whole catalogue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from synergen.contract import DotProductRecommender, Requests, Task, dot_scores
from synergen.data.batches import Question, history_pairs, questions
from synergen.data.splits import EventSplit, Part
from synergen.distributed import mine, together
from synergen.evaluation.catalogue import inner_product_ranks
from synergen.evaluation.metrics import rank_of_positive
from synergen.events import EventLog

SCORES_AT_ONCE = 1 << 24
"""Scores held at a time where a model scores the whole catalogue (64 MiB of float32)."""

Report = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


class Scorer(Protocol):
    """Anything that scores candidates for requests."""

    def score(self, requests: Requests, candidates: Tensor) -> Tensor: ...


@contextmanager
def inference(model: Scorer) -> Iterator[Callable[[Requests, Tensor], Tensor]]:
    """The model's scoring function without gradients or dropout; item vectors are computed once."""
    with _at_rest(model):
        if isinstance(model, DotProductRecommender) and not is_spread(model):
            items, bias = model.item_vectors(), model.item_bias()
            yield lambda requests, candidates: dot_scores(model.user_vectors(requests), items, bias, candidates)
        else:
            yield model.score


def pool_ranks(
    model: Scorer,
    log: EventLog,
    split: EventSplit,
    part: Part,
    task: Task,
    pool: np.ndarray,
    *,
    max_history: int,
    batch_size: int = 256,
    device: str = "cpu",
    rephrased: np.ndarray | None = None,
    report: Report | None = None,
) -> np.ndarray:
    """(Q,) float64 rank of the item of each question in its pool (Q, 1 + K), positive first.

    Args:
        rephrased: the query that is asked in place of each, by its id; the histories stay as they are.
    """
    ranks, done = np.full(len(split.questions(part, task)), np.nan), 0
    with inference(model) as score:
        for question in _own(model, questions(log, split, part, task, max_history, batch_size)):
            candidates = torch.from_numpy(pool[question.numbers]).to(device)
            requests = question.requests
            if rephrased is not None:
                requests = replace(requests, queries=torch.from_numpy(rephrased)[requests.queries])
            scores = score(requests.to(device), candidates)
            ranks[question.numbers] = rank_of_positive(
                scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device), None
            ).cpu()
            done += len(question.numbers)
            if report:
                report(done, len(ranks))
    return together(ranks)


def full_ranks(
    model: Scorer,
    log: EventLog,
    split: EventSplit,
    part: Part,
    task: Task,
    *,
    max_history: int,
    batch_size: int = 256,
    device: str = "cpu",
    among: np.ndarray | None = None,
    report: Report | None = None,
) -> np.ndarray:
    """(Q,) float64 rank of the item of each question among all items that the user had not touched before. Exact: every
    item is scored.

    Args:
        among: numbers of the questions to ask, by default all; the ranks of the others are NaN.
    """
    ranks, done = np.full(len(split.questions(part, task)), np.nan), 0
    total = len(ranks) if among is None else len(among)
    with _at_rest(model):
        if isinstance(model, DotProductRecommender):
            rank = _rank_by_products(model)
        else:
            rank = _rank_by_scores(model, log.n_items)
            batch_size = max(1, min(batch_size, SCORES_AT_ONCE // log.n_items))
        for question in _own(model, questions(log, split, part, task, max_history, batch_size, among)):
            rows, touched = history_pairs(log, question.users, question.events)
            found = rank(
                question.requests.to(device), question.targets.to(device), (rows.to(device), touched.to(device))
            )
            ranks[question.numbers] = found.cpu()
            done += len(question.numbers)
            if report:
                report(done, total)
    return together(ranks)


_Rank = Callable[[Requests, Tensor, tuple[Tensor, Tensor]], Tensor]
"""Ranks (B,) among the catalogue of the items (B,) that B requests ask for, without pairs of requests and items."""


def _rank_by_products(model: DotProductRecommender) -> _Rank:
    items, bias = model.item_vectors(), model.item_bias()
    return lambda requests, targets, excluded: inner_product_ranks(
        model.user_vectors(requests), items, bias, targets, excluded, model.first_item
    )


def _rank_by_scores(model: Scorer, n_items: int) -> _Rank:
    def rank(requests: Requests, targets: Tensor, excluded: tuple[Tensor, Tensor]) -> Tensor:
        scores = model.score(requests, torch.arange(1, n_items + 1, device=targets.device))  # (B, V)
        rows, touched = excluded
        mask = torch.zeros_like(scores, dtype=torch.bool)
        mask[rows, touched - 1] = True
        return rank_of_positive(scores, targets - 1, mask)

    return rank


def is_spread(model: object) -> bool:
    """Whether the items of the model are spread over processes, all of which must then ask the same of it."""
    return getattr(model, "first_item", None) is not None


def _own(model: Scorer, asked: Iterator[Question]) -> Iterator[Question]:
    """The questions that this process asks."""
    return asked if is_spread(model) else mine(asked)


@contextmanager
def _at_rest(model: Scorer) -> Iterator[None]:
    """Without gradients or dropout; afterwards the model trains again if it did before."""
    module = model if isinstance(model, torch.nn.Module) else None
    was_training = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if module is not None:
            module.train(was_training)
