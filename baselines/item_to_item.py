"""Models that are a matrix: how much each item of a history speaks for each item of the catalogue."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from scipy import sparse
from torch import Tensor

from synergen.contract import Batch, DataView, Histories, Recommender, Requests, Task


class ItemToItem(Recommender):
    """Scores are rows of a matrix, summed over the distinct items of the history; 0 for an empty history.

    The matrix is made by `observe`, before which nothing can be scored; it is no weight, and no file keeps it.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})
    learns: ClassVar[bool] = False

    def __init__(self, data: DataView) -> None:
        super().__init__()
        self.n_items = data.n_items

    @abstractmethod
    def fit(self, users: sparse.csr_matrix) -> None:
        """Make the matrix from users (U, V + 1): 1 where the user had the item."""

    @abstractmethod
    def sums(self, histories: sparse.csr_matrix) -> Tensor:
        """(B, V + 1) float32: the rows of the matrix added up over the items of histories (B, V + 1)."""

    def observe(self, sequences: Iterable[Batch]) -> None:
        users = [item_sets(batch.events, self.n_items) for batch in sequences]
        self.fit(sparse.vstack(users, format="csr"))

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """(B, C)"""
        scores = self.sums(item_sets(requests.history, self.n_items)).to(candidates.device)
        return scores.index_select(1, candidates) if candidates.dim() == 1 else scores.gather(1, candidates)


def item_sets(histories: Histories, n_items: int) -> sparse.csr_matrix:
    """(B, V + 1) float32: 1 where the item is in the history, however often."""
    rows, steps = histories.valid.cpu().numpy().nonzero()
    items = histories.items.cpu().numpy()[rows, steps]
    sets = sparse.csr_matrix(
        (np.ones(len(rows), dtype=np.float32), (rows, items)), shape=(len(histories.items), n_items + 1)
    )
    sets.data[:] = 1.0
    return sets
