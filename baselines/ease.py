"""EASE: the linear model of all items on all items, in closed form.

Paper: H. Steck, "Embarrassingly Shallow Autoencoders for Sparse Data", WWW 2019, equation 8. Repository:
https://github.com/RUCAIBox/RecBole 1.2.1, whose matrix this is where no user has an item twice. Deviation: such an
item counts once, as in the paper; RecBole counts its events.
"""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional as F

from baselines.item_to_item import ItemToItem
from synergen.contract import DataView
from synergen.errors import UserError

_MATRICES = 3
"""(V + 1, V + 1) held at a time: the Gram matrix, its Cholesky factor, and the inverse."""


@dataclass(frozen=True)
class EASESettings:
    """regularisation: λ of the squared norm of the matrix. Default: RecBole's."""

    regularisation: float = 250.0

    def __post_init__(self) -> None:
        if self.regularisation <= 0:
            raise UserError(f"impossible settings {self}: regularisation is greater than 0")


class EASE(ItemToItem):
    """B = I - P / diag(P), with P the inverse of XᵀX + λI, for users X: the B of least ‖X - XB‖² + λ‖B‖² that has a
    diagonal of zeros.

    Raises:
        UserError: the matrices of so many items do not fit in the machine's memory.
    """

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data)
        self.settings = EASESettings(**settings)
        needed, there = 4 * _MATRICES * (data.n_items + 1) ** 2, physical_memory()
        if needed > there:
            raise UserError(
                f"EASE inverts a matrix of {data.n_items:,} by {data.n_items:,} items, which takes "
                f"{needed / 2**30:.1f} GiB, and this machine has {there / 2**30:.1f}: use ItemKNN, which keeps "
                "neighbours only"
            )

    def fit(self, users: sparse.csr_matrix) -> None:
        gram = torch.from_numpy((users.T @ users).toarray())  # (V + 1, V + 1)
        gram.diagonal().add_(self.settings.regularisation)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
        self.matrix = inverse.div_(-inverse.diagonal().clone())
        self.matrix.diagonal().zero_()

    def sums(self, histories: sparse.csr_matrix) -> Tensor:
        items, starts = (torch.from_numpy(part.astype(np.int64)) for part in (histories.indices, histories.indptr[:-1]))
        return F.embedding_bag(items, self.matrix, starts, mode="sum")


def physical_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
