"""All texts of a data set to vectors on disk: resumed where it stopped, and read by everyone after that."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from synergen.errors import UserError
from synergen.files import cache_root, digest
from synergen.precision import autocast_dtype
from synergen.text import weights
from synergen.text.cache import BLOCK, cached, cached_matrix, new_matrix
from synergen.text.encode import Progress, encode_in_batches, ignore, longest_first, place_of
from synergen.text.encoder import MINILM, Encoder
from synergen.text.projection import Projection, fit
from synergen.text.store import VectorStore, text_key
from synergen.text.weights import Encode

CHUNK = 16_384
"""Texts that are encoded between two writes: what a process that is killed loses at most. A whole number of batches,
so that the batches of an interrupted encoding are those of an uninterrupted one."""

_POOLED = {"mean": "mean over tokens", "cls": "first token", "last": "last token"}


@dataclass(frozen=True)
class TextVectors:
    """What a frozen encoder makes of a data set's texts: float16, zero rows for blank texts."""

    items: np.ndarray  # (V + 1, width)
    queries: np.ndarray  # (Q + 1, width)
    projection: Projection | None = None
    """What reduced them, and reduces the texts that come later."""


def encode_catalogue(
    items: list[str],
    queries: list[str],
    encoder: Encoder | str | Mapping[str, Any] = MINILM,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | str | None = None,
    precision: str = "auto",
) -> TextVectors:
    """Vectors of all texts of a data set, read-only and memory-mapped: row i belongs to text i.

    Under `cache_dir`/text lie a folder an encoder, where every text that it has encoded is kept, and a file a list of
    texts. An encoding that was stopped goes on from its last chunk, a catalogue that has grown is encoded where it is
    new, and a list that is known is read without loading the encoder. Equal texts are encoded once. Encoders are told
    apart by their weights, pooling, `max_tokens` and precision.

    Args:
        encoder: see `Encoder.parse`. Where it names `dimensions`, items and queries are reduced by the principal
            components of the items.
        cache_dir: by default `$SYNERGEN_CACHE` or `~/.cache/synergen`.
        progress: see `Progress`; it counts items, then queries.
        device: by default the GPU where there is one.
        precision: `auto`, `fp32`, or `bf16`; see `synergen.precision`.

    Raises:
        UserError: the encoder cannot be found or loaded, the cache cannot be written (what is encoded by then is kept),
            or there are too few items for the `dimensions`.
    """
    wanted = Encoder.parse(encoder)
    cache = _Cache(wanted, (cache_dir or cache_root()) / "text", place_of(device), precision, progress or ignore)
    item_texts, query_texts = wanted.instructed(items, "item"), wanted.instructed(queries, "query")
    item_key, query_key = cache.key(item_texts), cache.key(query_texts)
    whole = TextVectors(cache.matrix(item_key, item_texts), cache.matrix(query_key, query_texts))
    if wanted.dimensions is None:
        return whole
    projection = cache.projection(item_key, whole.items, wanted.dimensions)
    return TextVectors(
        cache.reduced(digest(item_key, item_key), whole.items, projection),
        cache.reduced(digest(query_key, item_key), whole.queries, projection),
        projection,
    )


class _Cache:
    """The part of the cache that belongs to one encoder."""

    def __init__(self, encoder: Encoder, folder: Path, place: torch.device, precision: str, progress: Progress) -> None:
        self.encoder, self.folder, self.place, self.progress = encoder, folder, place, progress
        self.dtype = autocast_dtype(place, precision)
        self.source = weights.find(encoder.name)
        pooled = f"{_POOLED[encoder.pooling]}, unit length"
        self.identity = (self.source.identity, pooled, str(encoder.max_tokens), str(self.dtype))
        self.store = VectorStore(folder / digest("store", *self.identity))

    def key(self, texts: list[str]) -> str:
        """What tells a list of texts, as this encoder reads it, from all others."""
        return digest(*self.identity, *texts)

    def matrix(self, key: str, texts: list[str]) -> np.memmap:
        """(N, D) of N texts."""
        return cached_matrix(self.folder / f"{key}.npy", len(texts), partial(self._write_matrix, texts))

    def projection(self, key: str, items: np.ndarray, dimensions: int) -> Projection:
        """Fitted to the item vectors (N, D) of that key."""
        path = self.folder / f"{key}.pca-{dimensions}.safetensors"
        return cached(path, _load_projection, lambda new: save_file(fit(items, dimensions).tensors(), new))

    def reduced(self, key: str, vectors: np.ndarray, projection: Projection) -> np.memmap:
        """(N, D') of vectors (N, D), for a key of these and of the items that the projection was fitted to."""
        width = projection.basis.shape[1]

        def write(path: Path) -> None:
            out = new_matrix(path, len(vectors), width)
            for start in range(0, len(vectors), BLOCK):
                out[start : start + BLOCK] = projection(vectors[start : start + BLOCK])

        return cached_matrix(self.folder / f"{key}.pca-{width}.npy", len(vectors), write)

    @cached_property
    def _encode(self) -> Encode:
        return weights.load(self.source, self.encoder, self.place, self.dtype)

    def _write_matrix(self, texts: list[str], path: Path) -> None:
        """Encode what is missing, then gather what is stored."""
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(texts):
            if text.strip():
                rows_of.setdefault(text, []).append(row)
        self._encode_missing(list(rows_of))
        waiting = {text_key(text): rows for text, rows in rows_of.items()}
        out = new_matrix(path, len(texts), self._width())
        for keys, vectors in self.store.chunks():
            pairs = [(row, i) for i, key in enumerate(keys) for row in waiting.pop(key, ())]
            if pairs:
                rows, found = np.array(pairs).T
                out[rows] = vectors[found]
        if waiting:
            raise UserError(f"{self.store.folder}: altered by others while it was read; run this again")

    def _encode_missing(self, texts: list[str]) -> None:
        """Store the vectors of these distinct texts, a chunk at a time."""
        missing = longest_first(self.store.missing(texts))
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            before = len(texts) - len(missing) + start
            progress = partial(self._report, before, len(texts))
            self.store.add(chunk, encode_in_batches(chunk, self._encode, self.place, progress))

    def _report(self, before: int, total: int, encoded: int, _: int) -> None:
        self.progress(before + encoded, total)

    def _width(self) -> int:
        """D, of the stored vectors or, where there are none, of the encoder."""
        for _, vectors in self.store.chunks():
            return vectors.shape[1]
        return self._encode(["width"]).shape[1]


def _load_projection(path: Path) -> Projection | None:
    try:
        return Projection.of(load_file(path))
    except (OSError, SafetensorError):
        return None
