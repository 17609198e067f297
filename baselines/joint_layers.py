"""What models of search, alone or beside recommendation, have in common: tables and positions, candidate-aware pooling
of a history, the network on top, and the alignment of queries with the items that they led to.

Papers: Z. Si et al., SESRec, SIGIR 2023; T. Shi et al., UniSAR, SIGIR 2024, whose repositories share these modules.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from synergen.model.dropout import Dropout

MIN_TEMPERATURE = 0.01
"""A learnt temperature may not fall to 0 or below, which the official codes allow."""


def padded_table(rows: int, width: int, deviation: float) -> nn.Embedding:
    """Normal vectors of 1..rows; that of 0, padding, is zero."""
    table = nn.Embedding(rows + 1, width, padding_idx=0)
    nn.init.normal_(table.weight, std=deviation)
    nn.init.zeros_(table.weight[0])
    return table


class UserTable(nn.Embedding):
    """Vectors of users 1..n_users; that of a stranger, 0, is zero, and so is everybody's unless they are `learnt`."""

    def __init__(self, n_users: int, width: int, learnt: bool) -> None:
        super().__init__((n_users if learnt else 0) + 1, width, padding_idx=0)
        self.learnt = learnt

    def forward(self, users: Tensor) -> Tensor:
        return super().forward(users if self.learnt else torch.zeros_like(users))


def sinusoids(steps: int, width: int) -> Tensor:
    """(steps, width): the positions of Vaswani et al., "Attention Is All You Need", 2017, section 3.5."""
    angles = torch.arange(steps)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class TargetAttention(nn.Module):
    """Pools a history for each candidate: weights are the softmax of (h W) · c over its valid events."""

    def __init__(self, history_width: int, item_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(history_width, item_width))
        nn.init.xavier_normal_(self.weight)

    def forward(self, history: Tensor, valid: Tensor, candidates: Tensor) -> Tensor:
        """Vectors (B, C, D); zero where nothing is valid.

        Args:
            history: (B, T, D).
            valid: (B, T) bool.
            candidates: (B, C, item width), or (C, item width) for all.
        """
        return self.weights(history, valid, candidates) @ history

    def weights(self, history: Tensor, valid: Tensor, candidates: Tensor) -> Tensor:
        """(B, C, T), what each event counts for each candidate."""
        logits = candidates @ self.weight.T @ history.transpose(1, 2)  # (B, C, T)
        return masked_softmax(logits, valid[:, None])


def masked_softmax(logits: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension where `mask` is true; all zero where it is nowhere. As float32, in which it is
    five times as fast on a processor as in bf16."""
    logits = logits.float().masked_fill(~mask, torch.finfo(torch.float32).min)
    return logits.softmax(-1) * mask


def perceptron(sizes: list[int], dropout: float, last_activation: bool) -> nn.Sequential:
    """Linear layers with ReLU and dropout between them, and after the last one where `last_activation` says so."""
    layers: list[nn.Module] = []
    for at, (before, after) in enumerate(pairwise(sizes), start=1):
        layers.append(nn.Linear(before, after))
        if last_activation or at < len(sizes) - 1:
            layers += [nn.ReLU(), Dropout(dropout)]
    return nn.Sequential(*layers)


class QueryItemAlignment(nn.Module):
    """Contrasts queries with the items that they led to, in both directions: tanh(q W i) / τ against random items for
    the query and against random queries for the item; τ is learnt."""

    def __init__(self, query_width: int, item_width: int, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(query_width, item_width))
        nn.init.xavier_normal_(self.weight)
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, queries: Tensor, items: Tensor, other_items: Tensor, other_queries: Tensor) -> Tensor:
        """The mean loss of M pairs, 0 where there is none.

        Args:
            queries: (M, query width), and items (M, item width) that they led to.
            other_items: (K, item width) random ones, and other_queries (K, query width).
        """
        mapped = queries @ self.weight  # (M, item width)
        same = (mapped * items).sum(-1, keepdim=True)  # (M, 1)
        for_query = torch.cat([same, mapped @ other_items.T], dim=1)  # (M, 1 + K)
        for_item = torch.cat([same, items @ (other_queries @ self.weight).T], dim=1)
        temperature = self.temperature.clamp(min=MIN_TEMPERATURE)
        total = queries.new_zeros(())
        for logits in (for_query, for_item):
            scaled = logits.tanh().float() / temperature
            total = total + (scaled.logsumexp(1) - scaled[:, 0]).sum() / 2
        return total / max(len(queries), 1)
