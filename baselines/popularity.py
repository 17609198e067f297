"""Popularity: every user is offered what most training events are about.

Paper: the non-personalised reference of P. Cremonesi, Y. Koren, R. Turrin, "Performance of Recommender
Algorithms on Top-N Recommendation Tasks", RecSys 2010. Repository: none; RecBole's `Pop` is the same count.
Deviations: none. It serves search too, ignoring the query, as the floor that any search model must clear.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from synergen.contract import DataView, DotProductRecommender, Requests, Task


@dataclass(frozen=True)
class PopularitySettings:
    """Nothing to set."""


class Popularity(DotProductRecommender):
    """An item's score is its number of training events: the dot product of that count and a constant 1."""

    tasks: ClassVar[frozenset[Task]] = frozenset(Task)
    learns: ClassVar[bool] = False
    counts: Tensor

    def __init__(self, data: DataView) -> None:
        super().__init__()
        counts = torch.as_tensor(data.item_counts, dtype=torch.float32)  # exact up to 2^24 events of one item
        self.register_buffer("counts", counts[:, None])  # (V + 1, 1)

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """Queries are not read."""

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, 1): ones."""
        return self.counts.new_ones(len(requests.times), 1)

    def item_vectors(self) -> Tensor:
        """(V + 1, 1): training events of each item."""
        return self.counts
