"""From ids to tokens: item and query vectors, and the MLP that fuses them with the action.

Paper section 3.2.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.model.dropout import Dropout
from synergen.model.words import TextWords
from synergen.sharded_table import ShardedTable

INITIAL_STD = 0.02

_COLUMNS, _ROWS = 64, 1 << 16
"""Of text vectors that are in memory as float32 at one time: of large catalogues all of them would not fit."""


class Standardiser:
    """Gives text vectors (N, text width) zero mean and `scale` standard deviation in each dimension, as float16, by the
    statistics of the texts that it is made from.

    All-zero rows have no text: they count for nothing and stay zero.
    """

    def __init__(self, vectors: np.ndarray, scale: float) -> None:
        self.scale = scale
        self.mean, self.std = torch.zeros(vectors.shape[1]), torch.ones(vectors.shape[1])
        written = vectors.any(axis=1)  # (N,)
        for start in range(0, vectors.shape[1], _COLUMNS) if written.any() else ():
            part = slice(start, start + _COLUMNS)
            texts = _float(vectors[:, part][written])  # (texts, columns)
            self.mean[part] = texts.mean(dim=0)
            std = texts.std(dim=0, correction=0)
            self.std[part] = torch.where(std > 1e-6, std, 1.0)  # a dimension that never varies says nothing

    def __call__(self, vectors: np.ndarray) -> Tensor:
        standard = torch.empty(vectors.shape, dtype=torch.float16)
        for start in range(0, len(vectors), _ROWS):
            rows = _float(vectors[start : start + _ROWS])
            written = rows.any(dim=1)
            rows[written] = (rows[written] - self.mean) / self.std * self.scale
            standard[start : start + _ROWS] = rows
        return standard


def _float(vectors: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(vectors, dtype=np.float32, order="C"))


class TextTable(nn.Module):
    """Frozen text vectors behind a trained projection to D, and what a trained encoder of `words` adds; rows without
    text give the zero vector.

    The vectors are no part of the state dict: whoever builds the model supplies them again.
    """

    def __init__(self, vectors: np.ndarray, width: int, scale: float, words: TextWords | None = None) -> None:
        super().__init__()
        self.words = words
        self.standardise = Standardiser(vectors, scale)
        self.register_buffer("vectors", self.standardise(vectors), persistent=False)
        self.project = nn.Linear(vectors.shape[1], width, bias=False)
        # Projected rows start as large as id vectors do.
        self.initial_std = INITIAL_STD / (scale * math.sqrt(vectors.shape[1]))

    vectors: Tensor  # (N, text width) float16

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of `ids` (...), or (N, D) of all."""
        rows = self.vectors if ids is None else F.embedding(ids, self.vectors)
        projected = self.project(rows.to(self.project.weight.dtype))
        return projected if self.words is None else projected + self.words(ids)

    def hold(self, vectors: np.ndarray, texts: list[str]) -> None:
        """Hold other texts from now on, with vectors (N, text width), standardised as the first ones were."""
        self.vectors = self.standardise(vectors).to(self.vectors.device)
        if self.words is not None:
            self.words.numbers = self.words.words.table(texts).to(self.vectors.device)


class ItemTable(nn.Module):
    """Item vectors: the sum of a trained id vector and projected text, or either. Row 0, padding, is zero.

    A sum of projections is the paper's concatenation followed by a linear layer.

    Args:
        n_items: V.
        width: D.
        inputs: which parts there are.
        text: the items' texts (V + 1), needed unless `inputs` is "id".
        sharded: spread the id vectors over the processes.
    """

    def __init__(
        self,
        n_items: int,
        width: int,
        inputs: Literal["id", "text", "both"],
        text: TextTable | None,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.id: nn.Embedding | None = None
        self.spread: ShardedTable | None = None
        """Id vectors, in place of `id`."""
        self.text: TextTable | None = None
        if sharded:
            self.spread = ShardedTable(n_items + 1, width, INITIAL_STD)
        elif inputs != "text":
            self.id = nn.Embedding(n_items + 1, width, padding_idx=0)
        if inputs != "id":
            assert text is not None
            self.text = text

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of `ids` (...), or the catalogue's (V + 1, D): of one that is spread, the rows that are
        here."""
        if self.spread is not None and ids is None:
            own = self.spread.own
            return self._with_text(own, self.spread.first + torch.arange(len(own), device=own.device))
        table = self.id or self.spread
        if table is None:
            assert self.text is not None
            return self.text(ids)
        return self._with_text(self.id.weight if ids is None and self.id is not None else table(ids), ids)

    def _with_text(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        return vectors if self.text is None else self.text(ids) + vectors

    @property
    def first(self) -> int | None:
        """The item of the first row that this process has, None where it has all."""
        return None if self.spread is None else self.spread.first

    def gather(self) -> None:
        """Bring rows that are spread over the processes together in the first one, in its main memory."""
        rows = None if self.spread is None else self.spread.gathered()
        if rows is not None:
            self.spread, self.id = None, nn.Embedding.from_pretrained(rows, freeze=False, padding_idx=0)

    def hold(self, vectors: np.ndarray, texts: list[str]) -> None:
        """Hold more items from now on: the present ones first, then new ones, whose id vectors are zero."""
        assert self.text is not None
        self.text.hold(vectors, texts)
        if self.id is not None:
            trained = self.id.weight.detach()
            fresh = trained.new_zeros(len(texts) - len(trained), trained.shape[1])
            self.id = nn.Embedding.from_pretrained(torch.cat([trained, fresh]), padding_idx=0)


class Fusion(nn.Module):
    """fuse[query; item; action]: an MLP over the concatenation, beside a path that hands the item on unchanged, and the
    query too where it is asked for.

    Inputs are scaled by √D, since item vectors start as small as good output vectors do. The item's path takes it
    through the residual stream to the output: a context token starts from "similar to the last item" and need not
    learn to copy, and a ranking token knows its candidate.

    The first layer of an MLP over a concatenation is a sum of one linear map for each part, so that a request is
    mapped once for all of its candidates.
    """

    def __init__(self, width: int, n_actions: int, dropout: float, query_residual: bool = False) -> None:
        super().__init__()
        self.query_residual = query_residual
        self.scale = math.sqrt(width)
        self.mask = nn.Parameter(torch.randn(width) * INITIAL_STD)
        self.action = nn.Embedding(n_actions + 1, width)  # row 0: any action
        self.from_item = nn.Linear(width, width)
        self.from_action = nn.Linear(width, width, bias=False)
        self.from_query = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, items: Tensor, actions: Tensor, queries: Tensor | None = None) -> Tensor:
        """Tokens (..., D).

        Args:
            items: (..., D) item vectors.
            actions: (...) int64, 0 for any; broadcasts against `items`.
            queries: query vectors (..., D), broadcasts too; none stands for zeros.
        """
        items = items * self.scale
        rest = self.from_action(self.action(actions) * self.scale)
        if queries is not None:
            queries = queries * self.scale
            rest = rest + self.from_query(queries)
        tokens = items + self.out(F.gelu(self.from_item(items) + rest))
        if queries is not None and self.query_residual:
            tokens = tokens + queries
        return self.dropout(tokens)
