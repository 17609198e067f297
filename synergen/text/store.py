"""Vectors of single texts on disk, kept as they are computed, so that no text is encoded twice."""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np

from synergen.files import digest, locked, write_atomically

_KEY_BYTES = 16
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class VectorStore:
    """A folder of chunks, all by one encoder: each an array of text keys with their vectors (D,) float16.

    A chunk is named by the digest of its bytes, so that none is ever taken for whole that is not.
    """

    folder: Path

    def add(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        """Keep the vectors (n, D) of n texts, as one chunk.

        Raises:
            UserError: the folder cannot be written, or the disk is full; the chunks before are kept.
        """
        rows = np.empty(len(texts), [("key", f"V{_KEY_BYTES}"), ("vector", np.float16, vectors.shape[1:])])
        rows["key"] = np.frombuffer(b"".join(map(text_key, texts)), f"V{_KEY_BYTES}")
        rows["vector"] = vectors
        file = BytesIO()
        np.save(file, rows)
        chunk = file.getvalue()
        with locked(self.folder):
            for left_behind in self.folder.glob(".*.tmp"):  # by a writer that was killed
                left_behind.unlink()
            write_atomically(self.folder / f"{digest(chunk)}.npy", partial(_write, chunk))

    def missing(self, texts: Iterable[str]) -> list[str]:
        """The texts that have no vector yet, each once."""
        waiting = {text_key(text): text for text in texts}
        for keys, _ in self.chunks():
            for key in keys:
                waiting.pop(key, None)
        return list(waiting.values())

    def chunks(self) -> Iterator[tuple[list[bytes], np.ndarray]]:
        """The keys and vectors (n, D) of every chunk; a damaged one is removed."""
        for path in sorted(self.folder.glob("*.npy")):
            chunk = path.read_bytes()
            if digest(chunk) != path.stem:
                _log.warning("%s: the file is damaged; its texts will be encoded again", path)
                path.unlink(missing_ok=True)
                continue
            rows = np.load(BytesIO(chunk))
            keys = rows["key"].tobytes()
            yield [keys[i : i + _KEY_BYTES] for i in range(0, len(keys), _KEY_BYTES)], rows["vector"]


def text_key(text: str) -> bytes:
    """What tells a text from all others: 128 bits of its BLAKE2 hash."""
    return hashlib.blake2b(text.encode(), digest_size=_KEY_BYTES).digest()


def _write(chunk: bytes, path: Path) -> None:
    path.write_bytes(chunk)
