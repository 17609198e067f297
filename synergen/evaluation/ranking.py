"""Per-user ranks of held-out items, among a pool or among the whole catalogue."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from synergen.contract import DotProductRecommender, Requests, Task, dot_scores
from synergen.data.batches import asked_users, history_pairs, questions
from synergen.data.splits import LeaveOneOut, Part
from synergen.evaluation.metrics import rank_of_positive
from synergen.events import EventLog

SCORES_AT_ONCE = 1 << 24
"""Scores held at a time in full ranking (64 MiB of float32)."""

Report = Callable[[int, int], None]
"""Called with (requests done, requests in all)."""


class Scorer(Protocol):
    """Anything that scores candidates for requests."""

    def score(self, requests: Requests, candidates: Tensor) -> Tensor: ...


@contextmanager
def inference(model: Scorer) -> Iterator[Callable[[Requests, Tensor], Tensor]]:
    """The model's scoring function without gradients or dropout; item vectors are computed once."""
    module = model if isinstance(model, torch.nn.Module) else None
    was_training = module is not None and module.training
    if module is not None:
        module.eval()
    try:
        with torch.inference_mode():
            if isinstance(model, DotProductRecommender):
                items, bias = model.item_vectors(), model.item_bias()
                yield lambda requests, candidates: dot_scores(model.user_vectors(requests), items, bias, candidates)
            else:
                yield model.score
    finally:
        if module is not None:
            module.train(was_training)


def pool_ranks(
    model: Scorer,
    log: EventLog,
    split: LeaveOneOut,
    part: Part,
    task: Task,
    pool: np.ndarray,
    *,
    max_history: int,
    batch_size: int = 256,
    device: str = "cpu",
    report: Report | None = None,
) -> np.ndarray:
    """(U,) float64 rank of each user's held-out item in its pool (U, 1 + K), positive first; NaN where not asked."""
    ranks = np.full(log.n_users, np.nan)
    asked, done = len(asked_users(log, split, part, task)), 0
    with inference(model) as score:
        for question in questions(log, split, part, task, max_history, batch_size):
            candidates = torch.from_numpy(pool[question.users]).to(device)
            scores = score(question.requests.to(device), candidates)
            ranks[question.users] = rank_of_positive(
                scores, torch.zeros(len(scores), dtype=torch.long, device=scores.device), None
            ).cpu()
            done += len(question.users)
            if report:
                report(done, asked)
    return ranks


def full_ranks(
    model: Scorer,
    log: EventLog,
    split: LeaveOneOut,
    part: Part,
    task: Task,
    *,
    max_history: int,
    batch_size: int = 256,
    device: str = "cpu",
    report: Report | None = None,
) -> np.ndarray:
    """(U,) float64 rank of each user's held-out item among all items that the user had not touched before; NaN where
    not asked. Exact: every item is scored."""
    ranks = np.full(log.n_users, np.nan)
    targets = split.targets(part)
    everything = torch.arange(1, log.n_items + 1, device=device)
    batch_size = max(1, min(batch_size, SCORES_AT_ONCE // log.n_items))
    asked, done = len(asked_users(log, split, part, task)), 0
    with inference(model) as score:
        for question in questions(log, split, part, task, max_history, batch_size):
            scores = score(question.requests.to(device), everything)
            positives = question.targets.to(device) - 1
            rows, items = (t.to(device) for t in history_pairs(log, question.users, targets[question.users]))
            excluded = torch.zeros_like(scores, dtype=torch.bool)
            excluded[rows, items - 1] = True
            excluded[torch.arange(len(positives), device=device), positives] = False
            ranks[question.users] = rank_of_positive(scores, positives, excluded).cpu()
            done += len(question.users)
            if report:
                report(done, asked)
    return ranks
