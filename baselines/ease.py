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
from scipy.linalg import lapack
from torch import Tensor
from torch.nn import functional as F

from baselines.item_to_item import ItemToItem
from synergen.contract import DataView
from synergen.errors import UserError

_ROWS_AT_ONCE = 1024


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
        UserError: the matrix of so many items does not fit in the machine's memory.
    """

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data)
        self.settings = EASESettings(**settings)
        needed, there = 4 * (data.n_items + 1) ** 2, physical_memory()
        if needed > there:
            raise UserError(
                f"EASE inverts a matrix of {data.n_items:,} by {data.n_items:,} items, which takes "
                f"{needed / 2**30:.1f} GiB, and this machine has {there / 2**30:.1f}: use ItemKNN, which keeps "
                "neighbours only"
            )

    def fit(self, users: sparse.csr_matrix) -> None:
        gram = np.empty((users.shape[1],) * 2, np.float32, order="F")  # (V + 1, V + 1)
        of_items = users.tocsc()
        for start in range(0, len(gram), _ROWS_AT_ONCE):  # as a whole, a sparse product may be larger than the matrix
            columns = slice(start, start + _ROWS_AT_ONCE)
            gram[:, columns] = (of_items.T @ of_items[:, columns]).toarray()
        gram[np.diag_indices_from(gram)] += self.settings.regularisation
        self.matrix = torch.from_numpy(inverted(gram).T)  # symmetric: .T has its rows in one piece
        self.matrix.div_(-self.matrix.diagonal().clone())
        self.matrix.diagonal().zero_()

    def sums(self, histories: sparse.csr_matrix) -> Tensor:
        items, starts = (torch.from_numpy(part.astype(np.int64)) for part in (histories.indices, histories.indptr[:-1]))
        return F.embedding_bag(items, self.matrix, starts, mode="sum")


def inverted(matrix: np.ndarray) -> np.ndarray:
    """The inverse of a symmetric positive definite matrix of float32 in Fortran's order, in the place of the matrix.

    Raises:
        UserError: it is not positive definite, as far as float32 can tell.
    """
    factor, failed = lapack.spotrf(matrix, lower=1, overwrite_a=1)
    if failed:
        raise UserError("EASE: the matrix has no inverse in float32; choose a greater regularisation")
    inverse, _ = lapack.spotri(factor, lower=1, overwrite_c=1)  # its lower triangle
    for start in range(0, len(inverse), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        block = inverse[rows, rows]
        inverse[rows, rows] = np.tril(block) + np.tril(block, -1).T
        inverse[rows, rows.stop :] = inverse[rows.stop :, rows].T
    return inverse


def physical_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
