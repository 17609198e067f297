"""Reciprocal rank fusion of lexical and dense search.

Paper: G. Cormack, C. Clarke, S. Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
Methods", SIGIR 2009: an item's score is the sum of 1 / (k + its rank) over the rankings, here those of BM25 and Dense.
Repository: none. Deliberate choices: ranks are among the whole catalogue, so that a candidate's score does not depend
on the other candidates; items of equal score share their mean rank, so that a ranking which says nothing adds the same
to all, and text vectors of zero or unknown words leave the decision to the other ranking.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from baselines.bm25 import BM25
from baselines.dense import Dense
from synergen.contract import DataView, Recommender, Requests, Task
from synergen.settings import refuse_below

_GRID = 1e-5
"""Scores closer than that are equal: items of the same text differ by the rounding of their sums."""


@dataclass(frozen=True)
class RRFSettings:
    """k: how little the first ranks stand out."""

    k: int = 60

    def __post_init__(self) -> None:
        refuse_below(self, 0, "k")


class RRF(Recommender):
    """BM25 and Dense, each with its defaults.

    Raises:
        UserError: the items have no words to index, or the data no text vectors.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.SEARCH})
    learns: ClassVar[bool] = False

    def __init__(self, data: DataView, **settings: int) -> None:
        super().__init__()
        self.settings = RRFSettings(**settings)
        self.bm25, self.dense = BM25(data), Dense(data)
        self.register_buffer("catalogue", torch.arange(data.n_items + 1), persistent=False)

    catalogue: Tensor  # (V + 1,)

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        return True

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """(B, C); the same for all items where there is no query."""
        candidates = candidates.expand(len(requests.times), -1)  # (B, C)
        scores = (ranker.score(requests, self.catalogue) for ranker in (self.bm25, self.dense))  # (B, V + 1) each
        return sum((1 / (self.settings.k + mean_ranks(s, candidates)) for s in scores), torch.zeros(()))

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """See the contract.

        Raises:
            UserError: there are no vectors.
        """
        for ranker in (self.bm25, self.dense):
            ranker.hold_queries(texts, vectors)


def mean_ranks(scores: Tensor, candidates: Tensor) -> Tensor:
    """Ranks (B, C) of the candidates (B, C) among all items, the best is 1; equal items share their mean rank.

    Args:
        scores: (B, V + 1), column 0 is padding.
    """
    steps = (scores / _GRID).round()
    own = steps.gather(1, candidates)
    # NumPy sorts rows some ten times as fast as torch.
    ordered = torch.from_numpy(np.sort(steps[:, 1:].cpu().numpy(), axis=1)).to(scores.device)
    lower, not_higher = (torch.searchsorted(ordered, own, right=right) for right in (False, True))
    return ordered.shape[1] + 0.5 - (lower + not_higher) / 2
