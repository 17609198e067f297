"""Query texts as numbers of words, for models that learn a vector of each word."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from synergen.data.queries import words_of

MAX_WORDS = 24
"""Words of a text that are read: the first ones."""


class Vocabulary:
    """Numbers 1..W of the words of some texts, in alphabetical order."""

    def __init__(self, texts: Sequence[str]) -> None:
        distinct = sorted(set(chain.from_iterable(map(words_of, texts))))
        self.number = {word: i for i, word in enumerate(distinct, start=1)}

    def __len__(self) -> int:
        return len(self.number)

    def table(self, texts: Sequence[str]) -> Tensor:
        """(N, L) int64: the known words of N texts, padded with zeros; L is at least 1."""
        rows = [[self.number[w] for w in words_of(text) if w in self.number][:MAX_WORDS] for text in texts]
        longest = max([1, *map(len, rows)])
        padded = [row + [0] * (longest - len(row)) for row in rows]
        return torch.tensor(padded, dtype=torch.int64).reshape(len(texts), longest)


class QueryWords(nn.Module):
    """Queries as the mean of their words' trained vectors; a query without known words is the zero vector.

    Args:
        words: a table of word vectors (W + 1, D) that others may share, row 0 for padding.
    """

    def __init__(self, query_texts: Sequence[str], vocabulary: Vocabulary, words: nn.Embedding) -> None:
        super().__init__()
        self.vocabulary, self.words = vocabulary, words
        self.register_buffer("numbers", vocabulary.table(query_texts), persistent=False)

    numbers: Tensor  # (Q + 1, L) int64

    def forward(self, queries: Tensor) -> Tensor:
        """Vectors (..., D) of query ids (...)."""
        numbers = self.numbers[queries]  # (..., L)
        count = (numbers > 0).sum(-1, keepdim=True).clamp(min=1)
        return self.words(numbers).sum(-2) / count

    def hold(self, texts: Sequence[str]) -> None:
        """Queries are these texts (Q' + 1) from now on."""
        self.numbers = self.vocabulary.table(texts).to(self.numbers.device)
