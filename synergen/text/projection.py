"""Text vectors in fewer dimensions, by principal components of the items' texts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from synergen.errors import UserError
from synergen.text.cache import BLOCK


@dataclass(frozen=True)
class Projection:
    """The affine map from D to D' dimensions that keeps the most of the items' variance."""

    mean: np.ndarray  # (D,) float32, of the items
    basis: np.ndarray  # (D, D') float32, orthonormal columns, the largest variance first
    explained: float
    """Share of the items' variance that is kept."""

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """(N, D') float16 of vectors (N, D). All-zero rows have no text and stay zero."""
        rows = vectors.astype(np.float32)
        return ((rows - self.mean) @ self.basis * rows.any(axis=1, keepdims=True)).astype(np.float16)

    def tensors(self) -> dict[str, np.ndarray]:
        """What a file holds of it."""
        return {
            "projection.mean": self.mean,
            "projection.basis": self.basis,
            "projection.explained": np.array(self.explained),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, np.ndarray]) -> "Projection | None":
        """The projection among a file's tensors, if there is one."""
        if "projection.mean" not in tensors:
            return None
        explained = float(tensors["projection.explained"])
        return cls(tensors["projection.mean"], tensors["projection.basis"], explained)


def fit(items: np.ndarray, dimensions: int) -> Projection:
    """The projection of the principal components of item vectors (N, D), rows without text left out.

    The covariance is exact, summed in float64 a block of rows at a time, and each component points to where its largest
    coordinate is positive: the same items give the same projection.

    Raises:
        UserError: there are no more items with text, or no more dimensions, than `dimensions`.
    """
    mean, n_texts = np.zeros(items.shape[1]), 0
    for rows in _blocks(items):
        mean += rows.sum(axis=0)
        n_texts += len(rows)
    if dimensions >= min(n_texts, items.shape[1]):
        raise UserError(
            f"dimensions is {dimensions}; it must be less than the encoder's {items.shape[1]} and than the {n_texts} "
            "items with text, or be left out"
        )
    mean /= n_texts
    scatter = np.zeros((len(mean), len(mean)))
    for rows in _blocks(items):
        rows -= mean
        scatter += rows.T @ rows
    variances, components = np.linalg.eigh(scatter)  # ascending
    basis = components[:, ::-1][:, :dimensions]  # (D, D')
    largest = np.abs(basis).argmax(axis=0)
    basis = basis * np.sign(basis[largest, np.arange(dimensions)])
    total = variances.sum()
    explained = float(variances[-dimensions:].sum() / total) if total else 1.0
    return Projection(mean.astype(np.float32), basis.astype(np.float32), explained)


def _blocks(items: np.ndarray) -> Iterator[np.ndarray]:
    """Float64 rows (up to BLOCK, D) of the items that have text."""
    for start in range(0, len(items), BLOCK):
        rows = items[start : start + BLOCK].astype(np.float64)
        yield rows[rows.any(axis=1)]
