"""Maximum inner product search over a catalogue, by FAISS: exact, or approximate for large catalogues."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import faiss
import numpy as np
import torch

from synergen.errors import UserError, unknown_name
from synergen.files import write_atomically

Kind = Literal["flat", "ivf", "hnsw"]
"""Exact; inverted lists, of which the nearest are searched; or a navigable graph."""

_LIST_SIZE = 39  # vectors a list that k-means asks for
_PROBED_SHARE = 1 / 8  # of the inverted lists
_NEIGHBOURS, _CONSTRUCTION, _SEARCH = 32, 200, 256  # of the graph
_WIDE = 1 / 16  # share of the catalogue from which on an approximate search is no quicker than the exact one


@dataclass(frozen=True)
class ItemIndex:
    """Items 1..V by their vectors."""

    faiss_index: Any
    kind: Kind = "flat"

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Inner products (B, k) float32, best first, and the item ids (B, k) int64 of queries (B, D) float32; k ≤ V.

        Approximate kinds search exactly where k is a large share of the catalogue, or where they found too little.
        """
        faiss.omp_set_num_threads(torch.get_num_threads())
        queries = np.ascontiguousarray(queries, np.float32)
        if k > _WIDE * self.faiss_index.ntotal:
            scores, rows = self._search_exactly(queries, k)
        else:
            scores, rows = self.faiss_index.search(queries, k)
            short = (rows < 0).any(axis=1)
            if short.any():
                scores[short], rows[short] = self._search_exactly(queries[short], k)
        return scores, rows + 1

    def _search_exactly(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        match self.kind:
            case "ivf":
                every_list = faiss.SearchParametersIVF()
                every_list.nprobe = self.faiss_index.nlist
                return self.faiss_index.search(queries, k, params=every_list)
            case "hnsw":
                return self.faiss_index.storage.search(queries, k)
        return self.faiss_index.search(queries, k)

    def save(self, path: Path) -> None:
        """Write the index atomically."""
        write_atomically(path, lambda temporary: faiss.write_index(self.faiss_index, str(temporary)))


def build_index(vectors: np.ndarray, kind: Kind = "flat") -> ItemIndex:
    """An index of item vectors (V + 1, D), of which row 0 is padding.

    Raises:
        UserError: an unknown kind.
    """
    rows = np.ascontiguousarray(vectors[1:], np.float32)
    count, width = rows.shape
    index: Any
    match kind:
        case "flat":
            index = faiss.IndexFlatIP(width)
        case "ivf":
            lists = max(1, min(round(4 * math.sqrt(count)), count // _LIST_SIZE))
            index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = math.ceil(_PROBED_SHARE * lists)
            index.train(rows)
        case "hnsw":
            index = faiss.IndexHNSWFlat(width, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = _CONSTRUCTION, _SEARCH
        case _:
            raise unknown_name("index", kind, get_args(Kind))
    index.add(rows)
    return ItemIndex(index, kind)


def load_index(path: Path, kind: Kind, count: int) -> ItemIndex:
    """Read an index that `ItemIndex.save` wrote, of `count` items.

    Raises:
        UserError: the file is damaged or is an index of another catalogue.
    """
    try:
        index = faiss.read_index(str(path))
    except RuntimeError as error:
        raise UserError(f"{path}: this is no whole FAISS index; delete the file, and it is built again") from error
    if index.ntotal != count:
        raise UserError(f"{path}: it holds {index.ntotal} items and the model {count}; delete the file")
    return ItemIndex(index, kind)
