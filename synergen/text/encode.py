"""Texts to vectors with a frozen language model, in memory."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from synergen.precision import autocast_dtype
from synergen.text import weights
from synergen.text.encoder import MINILM, Encoder, TextKind
from synergen.text.weights import Encode

Progress = Callable[[int, int], None]
"""Called with (encoded, all) distinct texts, before the first batch and after each."""


def encode_texts(
    texts: list[str],
    encoder: Encoder | str | Mapping[str, Any] = MINILM,
    kind: TextKind = "item",
    *,
    device: torch.device | str | None = None,
    precision: str = "auto",
) -> np.ndarray:
    """Vectors (N, D) float16 of N texts, of unit length and before any reduction; zero rows for blank texts.

    This is for texts that come one by one: nothing is stored, but the encoder stays in memory for the next call.

    Args:
        encoder: see `Encoder.parse`.
        kind: whose instruction the texts get.
        device: by default the GPU where there is one.
        precision: `auto`, `fp32`, or `bf16`; see `synergen.precision`.

    Raises:
        UserError: the encoder cannot be found or loaded.
    """
    wanted, place = Encoder.parse(encoder), place_of(device)
    encode = _resident(weights.find(wanted.name), wanted, place, autocast_dtype(place, precision))
    given = wanted.instructed(texts, kind)
    distinct = longest_first({text for text in given if text.strip()})
    vectors = encode_in_batches(distinct, encode, place, ignore)
    row = {text: i for i, text in enumerate(distinct)}
    blank = np.zeros((1, vectors.shape[1]), np.float16)
    return np.concatenate([vectors, blank])[[row.get(text, -1) for text in given]]


_resident = lru_cache(maxsize=1)(weights.load)


def place_of(device: torch.device | str | None) -> torch.device:
    """`device`, or the GPU where there is one."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def longest_first(texts: Iterable[str]) -> list[str]:
    """The order to encode in: texts of similar length share a batch, and memory runs out at once or never."""
    return sorted(texts, key=lambda text: (-len(text), text))


def encode_in_batches(texts: list[str], encode: Encode, place: torch.device, progress: Progress) -> np.ndarray:
    """(N, D) float16 of N texts that are not blank."""
    if not texts:
        return np.zeros((0, encode(["width"]).shape[1]), np.float16)
    size = 32 if place.type == "cpu" else 256  # on a CPU more are slower
    progress(0, len(texts))
    batches = []
    for start in range(0, len(texts), size):
        batches.append(encode(texts[start : start + size]).cpu().numpy().astype(np.float16))
        progress(min(start + size, len(texts)), len(texts))
    return np.concatenate(batches)


def ignore(done: int, total: int) -> None:
    """A progress that nobody watches."""
