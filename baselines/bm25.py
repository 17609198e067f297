"""BM25: items ranked by the words that they share with the query.

Paper: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", Foundations and
Trends in Information Retrieval 3(4), 2009. Repository: https://github.com/xhluca/bm25s, its Lucene variant:

    score(q, d) = Σ_w ln(1 + (V - n_w + ½) / (n_w + ½)) · f_wd / (f_wd + k1 (1 - b + b |d| / mean |d|)),

w over the words of the query, n_w items with the word, f_wd its count in item d, |d| the words of d.
Deliberate choices: words are those of bm25s (lower case, two or more letters or digits, its English stop
words removed, no stemming); the corpus is the whole catalogue, an item without text being an empty
document; a word that a query repeats counts twice. Nothing is personal: the history is ignored.
"""

import os
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from synergen.contract import DataView, Recommender, Requests, Task
from synergen.errors import UserError
from synergen.settings import refuse_below, refuse_no_share

# Where there is a JAX, bm25s starts it, and it would take three quarters of the GPU's memory for itself.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
import bm25s


@dataclass(frozen=True)
class BM25Settings:
    """k1: saturation of repeated words. b: strength of the length normalisation, 0 to 1.

    cached_queries: distinct queries whose V scores are kept, 4 bytes a score.
    """

    k1: float = 1.5
    b: float = 0.75
    cached_queries: int = 256

    def __post_init__(self) -> None:
        refuse_below(self, 0, "k1", "cached_queries")
        refuse_no_share(self, "b", whole=True)


class BM25(Recommender):
    """Lexical search over item texts.

    Raises:
        UserError: no item of the catalogue has a word to index.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.SEARCH})
    learns: ClassVar[bool] = False

    def __init__(self, data: DataView, **settings: float) -> None:
        super().__init__()
        self.settings = BM25Settings(**settings)  # type: ignore[arg-type]
        self.query_texts = data.query_texts
        documents = _words(data.item_texts[1:])
        if not any(documents):
            raise UserError("BM25 needs item texts and no item of the data has one: choose another model")
        self.index = bm25s.BM25(k1=self.settings.k1, b=self.settings.b, method="lucene")
        self.index.index(documents, show_progress=False)
        self.cache: OrderedDict[int, Tensor] = OrderedDict()

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """(B, C); 0 for every item where there is no query, or none of its words is in the catalogue."""
        queries, row = torch.unique(requests.queries.cpu(), return_inverse=True)  # (Q,), (B,)
        table = torch.stack([self._scores(query) for query in queries.tolist()])  # (Q, V + 1)
        return table[row[:, None], candidates.cpu()].to(candidates.device)  # (B, C)

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """Vectors are not read."""
        self.query_texts = texts
        self.cache.clear()

    def _scores(self, query: int) -> Tensor:
        """(V + 1,) scores of all items, from the cache of the most recently used queries."""
        if query not in self.cache:
            self.cache[query] = self._compute(self.query_texts[query])
        scores = self.cache[query]
        self.cache.move_to_end(query)
        if len(self.cache) > self.settings.cached_queries:
            self.cache.popitem(last=False)
        return scores

    def _compute(self, text: str) -> Tensor:
        scores = torch.zeros(self.index.scores["num_docs"] + 1)
        words = _words([text])[0]
        if words:
            scores[1:] = torch.from_numpy(self.index.get_scores(words))
        return scores


def _words(texts: list[str]) -> list[list[str]]:
    return bm25s.tokenize(texts, stopwords="english", return_ids=False, show_progress=False)
