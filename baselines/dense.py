"""Dense search: items by the cosine of their text vector with that of the query.

Paper: V. Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering", EMNLP 2020, whose two encoders
are here one frozen sentence encoder, that of the table's protocol. Repository: none; it is an exact nearest neighbour.
Deliberate choices: an item without text, and a query without text, have the zero vector, so that their cosine is 0 with
everything. Nothing is personal: the history is ignored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.contract import DataView, DotProductRecommender, Requests, Task
from synergen.errors import UserError


@dataclass(frozen=True)
class DenseSettings:
    """Nothing to set."""


class Dense(DotProductRecommender):
    """Nearest neighbours of the query among the items' texts.

    Raises:
        UserError: the data have no text vectors.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.SEARCH})
    learns: ClassVar[bool] = False

    def __init__(self, data: DataView) -> None:
        super().__init__()
        self.register_buffer("items", _unit(data.item_vectors), persistent=False)
        self.register_buffer("queries", _unit(data.query_vectors), persistent=False)

    items: Tensor  # (V + 1, text width)
    queries: Tensor  # (Q + 1, text width)

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        return True

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, text width): the query's vector, of length 1 or zero."""
        return self.queries[requests.queries]

    def item_vectors(self) -> Tensor:
        """(V + 1, text width): of length 1, or zero for an item without text."""
        return self.items

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """See the contract.

        Raises:
            UserError: there are no vectors.
        """
        self.queries = _unit(vectors).to(self.queries.device)


def _unit(vectors: np.ndarray | None) -> Tensor:
    """float32 rows of length 1; rows of zeros stay so."""
    if vectors is None:
        raise UserError(
            "Dense compares the text vectors of queries and items and some are missing: encode the texts, or take BM25"
        )
    return F.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=-1)
