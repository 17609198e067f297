"""ItemKNN: what was chosen by the users who chose the items of the history.

Papers: B. Sarwar et al., "Item-Based Collaborative Filtering Recommendation Algorithms", WWW 2001; F. Aiolli,
"Efficient Top-N Recommendation for Very Large Scale Binary Rated Datasets", RecSys 2013. Repository:
https://github.com/RUCAIBox/RecBole 1.2.1, whose matrix this is where no user has an item twice. Deviation: such an
item counts once; RecBole counts its events.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from baselines.item_to_item import ItemToItem
from synergen.contract import DataView
from synergen.settings import refuse_below

_PAIRS_AT_ONCE = 1 << 24
"""Similarities held at a time (64 MiB), of which the nearest neighbours are kept."""

_NEXT_TO_NOTHING = 1e-6
"""RecBole's, added to the denominator: items without events have no norm."""


@dataclass(frozen=True)
class ItemKNNSettings:
    """neighbours: how many items may speak for a candidate, the nearest ones. shrinkage: added to the denominator of
    the cosine, so that similarities of few users count less. Defaults: RecBole's."""

    neighbours: int = 100
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        refuse_below(self, 1, "neighbours")
        refuse_below(self, 0, "shrinkage")


class ItemKNN(ItemToItem):
    """Cosines of the sets of users of two items, sim(i, j) = |U_i ∩ U_j| / (√|U_i| √|U_j| + shrinkage); each candidate
    j keeps its nearest neighbours i."""

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data)
        self.settings = ItemKNNSettings(**settings)

    def fit(self, users: sparse.csr_matrix) -> None:
        norms = np.sqrt(users.sum(0)).A1  # (V + 1,)
        by_item, width = users.T.tocsr(), users.shape[1]
        size, k = max(1, _PAIRS_AT_ONCE // width), min(self.settings.neighbours, width)
        nearest = []
        for first in range(0, width, size):
            block = np.arange(first, min(first + size, width))  # candidates
            cosines = (by_item[block] @ users).toarray()  # (block, V + 1)
            cosines /= norms[block, None] * norms + (self.settings.shrinkage + _NEXT_TO_NOTHING)
            cosines[block - first, block] = 0.0
            values, items = (found.numpy().ravel() for found in torch.from_numpy(cosines).topk(k, sorted=False))
            rows = np.repeat(block - first, k)
            nearest.append(sparse.csr_matrix((values, (rows, items)), shape=cosines.shape))
        self.matrix = sparse.vstack(nearest).T.tocsr()  # (V + 1, V + 1): from an item of the history to a candidate
        self.matrix.eliminate_zeros()

    def sums(self, histories: sparse.csr_matrix) -> Tensor:
        return torch.from_numpy((histories @ self.matrix).toarray())
