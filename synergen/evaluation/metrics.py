"""Ranks of the one relevant item of each user, and the metrics that follow from them.

rank = 1 + #better + ½·#ties, so ranks are multiples of ½ and constant scores give the middle rank, not the first.
NaN stands for a user who was not asked.
"""

import re
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from synergen.errors import UserError, unknown_name


def rank_of_positive(scores: Tensor, positives: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Rank of each row's positive among the other columns, expected over random orders of the ties.

    Args:
        scores: (B, C), higher is better.
        positives: (B,) int64, the column of the positive.
        excluded: (B, C) bool, columns that count for nothing; the positive itself always counts.

    Returns:
        (B,) float64, from 1 to C.

    Raises:
        ValueError: a score is NaN, which no order holds.
    """
    refuse_nan(scores.isnan().any(dim=1))
    own = scores.gather(1, positives[:, None])  # (B, 1)
    others = torch.ones_like(scores, dtype=torch.bool) if excluded is None else ~excluded  # (B, C)
    others.scatter_(1, positives[:, None], False)
    better = ((scores > own) & others).sum(dim=1)
    ties = ((scores == own) & others).sum(dim=1)
    return 1 + better.double() + ties.double() / 2


def refuse_nan(undefined: Tensor) -> None:
    """Of B requests, `undefined` (B,) bool have a score that is NaN.

    Raises:
        ValueError: there is one.
    """
    if undefined.any():
        raise ValueError(
            f"the model scored NaN in {int(undefined.sum())} of {len(undefined)} requests; training has diverged or "
            "the model divides by zero"
        )


def metric_values(ranks: np.ndarray, name: str) -> np.ndarray:
    """One metric of every user, as a fraction; NaN where the rank is.

    Args:
        ranks: (U,) from 1 up, or NaN.
        name: R@k (recall: rank ≤ k), N@k (NDCG: 1 / log2(rank + 1) where rank ≤ k) or MRR (1 / rank).

    Raises:
        UserError: no such metric.
        ValueError: a rank below 1.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    if (ranks < 1).any():
        raise ValueError(f"a rank is {np.nanmin(ranks)}; ranks start at 1")
    if name == "MRR":
        return 1 / ranks
    parts = re.fullmatch(r"([RN])@([1-9][0-9]*)", name)
    if parts is None:
        raise unknown_name("metric", name, ("R@k", "N@k", "MRR"))
    gain = np.ones_like(ranks) if parts[1] == "R" else 1 / np.log2(ranks + 1)
    return np.where(np.isnan(ranks), np.nan, gain * (ranks <= int(parts[2])))


def metrics(ranks: np.ndarray, names: Iterable[str]) -> dict[str, float]:
    """Means over the users who were asked.

    Raises:
        UserError: no such metric, or nobody was asked.
    """
    if np.isnan(ranks).all():
        raise UserError(
            "no user was asked, so there is nothing to average: the held-out events hold no request of this task; "
            "use a data set that has some, or leave the task out"
        )
    return {name: float(np.nanmean(metric_values(ranks, name))) for name in names}
