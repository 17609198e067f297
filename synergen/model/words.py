"""A small text encoder that learns with the model: the words of a text, averaged, through an MLP.

It is what "unfrozen" stands for in the ablation without collaborative embeddings (paper section 4.5, Q2), at a size
that a processor can train.
"""

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_WORDS = 24
"""Words of a text that are read: the first ones."""


class Words(nn.Module):
    """Trained vectors of the words that at least two of the texts hold; shared by items and queries."""

    def __init__(self, texts: Sequence[str], width: int) -> None:
        super().__init__()
        counts = Counter(word for text in texts for word in set(_words(text)))
        self.number = {word: i for i, word in enumerate(sorted(w for w, n in counts.items() if n > 1), start=1)}
        self.vectors = nn.EmbeddingBag(len(self.number) + 1, width, mode="mean", padding_idx=0)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def table(self, texts: Sequence[str]) -> Tensor:
        """(N, W) int32 word numbers of N texts, padded with zeros."""
        numbers = [[self.number[w] for w in _words(text) if w in self.number][:MAX_WORDS] for text in texts]
        longest = max(1, *map(len, numbers))
        return torch.tensor([row + [0] * (longest - len(row)) for row in numbers], dtype=torch.int32)

    def forward(self, words: Tensor) -> Tensor:
        """Vectors (N, D) of texts given as word numbers (N, W); a text without known words has the zero vector."""
        mean = self.vectors(words)  # (N, D)
        return (mean + self.mlp(mean)) * (words > 0).any(-1, keepdim=True)


class TextWords(nn.Module):
    """The words of N texts behind their shared encoder."""

    def __init__(self, texts: Sequence[str], words: Words) -> None:
        super().__init__()
        self.words = words
        self.register_buffer("numbers", words.table(texts), persistent=False)

    numbers: Tensor  # (N, W) int32

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of `ids` (...), or (N, D) of all."""
        if ids is None:
            return self.words(self.numbers)
        distinct, place = ids.unique(return_inverse=True)
        return F.embedding(place, self.words(self.numbers[distinct]))


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())
