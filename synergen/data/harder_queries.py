"""Queries as people also type them: with words missing, misspelt, replaced by like words, or no query at all.

What becomes of a query depends on its text alone, so every model is asked the same.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from krovetzstemmer import Stemmer

from synergen.data.queries import words_of

DROPPED, MISSPELT, SYNONYMS, NONE = "words dropped", "misspelt", "synonyms", "no query"
KINDS = (DROPPED, MISSPELT, SYNONYMS, NONE)

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SHORTEST = 4
"""Letters of the shortest word that is misspelt."""
_FREQUENT = 5
"""Texts that a word must be in to replace another."""


@dataclass(frozen=True)
class HarderQueries:
    """Q queries and further versions of each."""

    texts: list[str]  # (Q' + 1): the Q + 1 as they were, then new ones
    numbers: Mapping[str, np.ndarray]  # by kind, (Q + 1,) int64: the query that stands for each


def harder_queries(texts: Sequence[str], like: Mapping[str, str]) -> HarderQueries:
    """All kinds of harder queries.

    Args:
        texts: (Q + 1) of the queries, the first of them "".
        like: the word that replaces a word, as `like_words` finds it; other words stay.
    """
    found, numbers = list(texts), {}
    place = {text: number for number, text in reversed(list(enumerate(texts)))}
    for kind in KINDS:
        versions = [_version(kind, text, like) for text in texts]
        for text in versions:
            if place.setdefault(text, len(found)) == len(found):
                found.append(text)
        numbers[kind] = np.array([place[text] for text in versions], dtype=np.int64)
    return HarderQueries(found, numbers)


def like_words(
    words: Sequence[str], vectors: np.ndarray, known: Sequence[str], known_vectors: np.ndarray
) -> dict[str, str]:
    """For each of N words, the known word whose vector has the highest cosine with its own and that has another stem.

    Args:
        vectors: (N, width) of the words by a text encoder, known_vectors (K, width) of the known ones.
    """
    stem = Stemmer()
    stems = np.array([stem.stem(word) for word in known])
    units, known_units = _unit(vectors), _unit(known_vectors)
    found = {}
    for word, unit in zip(words, units, strict=True):
        cosines = np.where(stems == stem.stem(word), -np.inf, known_units @ unit)
        if len(cosines) and np.isfinite(best := cosines.max()) and best > 0:
            found[word] = known[int(cosines.argmax())]
    return found


def frequent_words(texts: Sequence[str]) -> list[str]:
    """Words that enough of the texts hold, in alphabetical order."""
    counts = Counter(word for text in texts for word in set(words_of(text)))
    return sorted(word for word, count in counts.items() if count >= _FREQUENT)


def _unit(vectors: np.ndarray) -> np.ndarray:
    long = vectors.astype(np.float32)
    return long / np.maximum(np.linalg.norm(long, axis=1, keepdims=True), 1e-12)


def _version(kind: str, text: str, like: Mapping[str, str]) -> str:
    words, rng = text.split(), np.random.default_rng(crc32(f"{kind} {text}".encode()))
    match kind:
        case "words dropped":
            return " ".join(_some(words, rng))
        case "misspelt":
            return " ".join(_misspelt(word, rng) for word in words)
        case "synonyms":
            return " ".join(like.get(word, word) for word in words)
    return ""


def _some(words: list[str], rng: np.random.Generator) -> list[str]:
    """Each word with probability ½; at least one stays and, of several, at least one goes."""
    if len(words) < 2:
        return words
    kept = rng.random(len(words)) < 0.5
    if kept.all() or not kept.any():
        kept = ~kept
        kept[rng.integers(len(words))] ^= True
    return [word for word, keep in zip(words, kept, strict=True) if keep]


def _misspelt(word: str, rng: np.random.Generator) -> str:
    """One letter after the first is left out, replaced, or has changed places with the next."""
    if len(word) < _SHORTEST:
        return word
    at, slip = int(rng.integers(1, len(word) - 1)), rng.integers(3)
    if slip == 0:
        return word[:at] + word[at + 1 :]
    if slip == 1 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    other = _LETTERS.replace(word[at], "")
    return word[:at] + other[rng.integers(len(other))] + word[at + 1 :]
