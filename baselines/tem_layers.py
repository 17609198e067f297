"""What TEM, ZAM and AEM make of a query and the items before it.

Source: models/transformer.py, neural.py and text_encoder.py of the repository that `baselines.tem` names.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.joint_layers import masked_softmax, sinusoids
from baselines.query_words import QueryWords, Vocabulary
from synergen.model.dropout import Dropout

_EPS = 1e-6


class QueryEncoder(nn.Module):
    """q = tanh(W mean + b) of the vectors of a query's words; tanh(b) for a query without known words."""

    def __init__(self, texts: Sequence[str], vocabulary: Vocabulary, words: nn.Embedding, dropout: float) -> None:
        super().__init__()
        self.mean = QueryWords(texts, vocabulary, words)
        self.dropout = Dropout(dropout)
        self.project = xavier_linear(words.embedding_dim, words.embedding_dim)

    def forward(self, queries: Tensor) -> Tensor:
        """Vectors (..., D) of query ids (...)."""
        return torch.tanh(self.project(self.dropout(self.mean(queries))))


class Attention(nn.Module):
    """Multi-head attention over a memory that all requests of a row share, beside one vector that is a request's own.

    Sharing the memory is what makes one pass over a sequence serve all of its requests.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (xavier_linear(width, width) for _ in range(4))
        self.dropout = Dropout(dropout)

    def forward(self, requests: Tensor, memory: Tensor, may_read: Tensor, own: Tensor | None = None) -> Tensor:
        """(B, R, D); the bias of the output alone where nothing may be read.

        Args:
            requests: (B, R, D).
            memory: (B, T, D).
            may_read: (B, R or 1, T) bool, of the memory.
            own: (B, R, D), what each request may read besides.
        """
        query = self._split(self.query(requests)) / math.sqrt(requests.shape[-1] // self.heads)  # (B, H, R, d)
        key, value = self._split(self.key(memory)), self._split(self.value(memory))  # (B, H, T, d)
        logits, mask = query @ key.transpose(2, 3), may_read[:, None]  # (B, H, R, T), (B, 1, R, T)
        if own is None:
            read = self.dropout(masked_softmax(logits, mask)) @ value  # (B, H, R, d)
        else:
            own_key, own_value = self._split(self.key(own)), self._split(self.value(own))  # (B, H, R, d)
            logits = torch.cat([(query * own_key).sum(-1, keepdim=True), logits], dim=-1)  # (B, H, R, 1 + T)
            weights = self.dropout(masked_softmax(logits, F.pad(mask, (1, 0), value=True)))
            read = weights[..., :1] * own_value + weights[..., 1:] @ value
        return self.out(read.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, n, d)


class Block(nn.Module):
    """Attention and a feed-forward network, normalised before each but for the attention of the first block."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.norm = nn.Identity() if first else nn.LayerNorm(width, eps=_EPS)
        self.attention = Attention(width, heads, dropout)
        self.ffn_norm = nn.LayerNorm(width, eps=_EPS)
        self.inner, self.outer = xavier_linear(width, ffn_width), xavier_linear(ffn_width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, may_read: Tensor, itself: bool = False) -> Tensor:
        """(B, R, D); arguments as of `Attention`, where `itself` says that each of x is in its own memory, too."""
        normed = self.norm(x)
        read = self.attention(normed, self.norm(memory), may_read, normed if itself else None)
        x = x + self.dropout(read)
        inner = self.dropout(F.gelu(self.inner(self.ffn_norm(x)), approximate="tanh"))
        return x + self.dropout(self.outer(inner))


class Encoder(nn.Module):
    """A transformer over [query, items] that is read at the query: its top block computes that place alone.

    Args:
        length: items at most.
        scale: of the sinusoids.
        noisy_gains: the gains of the layer norms begin as normal numbers instead of 1.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        ffn_width: int,
        dropout: float,
        length: int,
        scale: float,
        noisy_gains: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, ffn_width, dropout, first=i == 0) for i in range(layers))
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.register_buffer("positions", scale * sinusoids(length + 1, width), persistent=False)
        if noisy_gains:
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    nn.init.normal_(module.weight)

    positions: Tensor  # (1 + length, D): that of the query, then those of the items, oldest first

    def forward(self, queries: Tensor, items: Tensor, may_read: Tensor) -> Tensor:
        """(B, R, D), where R is 1 unless there is a single block: in others the items read the query.

        Args:
            queries: (B, R, D).
            items: (B, T, D), oldest first.
            may_read: (B, R, T) bool: the items before each query.
        """
        queries, items = queries + self.positions[0], items + self.positions[1 : items.shape[1] + 1]
        for block in self.blocks[:-1]:
            tokens = torch.cat([queries, items], dim=1)  # (B, 1 + T, D)
            tokens = block(tokens, tokens, F.pad(may_read, (1, 0), value=True))
            queries, items = tokens[:, :1], tokens[:, 1:]
        return self.norm(self.blocks[-1](queries, items, may_read, itself=True))


def xavier_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear map that begins as Xavier's normal numbers, without bias."""
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_normal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
