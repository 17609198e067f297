"""SASRec as the repository of HSTU has it, the Transformer that HSTU is compared with.

Paper: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018. Repository:
https://github.com/meta-recsys/generative-recommenders (research/modeling/sequential/sasrec.py).

It departs from the paper in its loss, a sampled softmax over cosines, and has no normalisation after the last block;
the residual of attention starts at the normalised input, as in the paper. Deviations: those of `baselines.hstu`; and
the convolutions of width 1 are written as the linear layers that they are.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.hstu import NextItemModel, NextItemSettings, truncated_normal_
from synergen.contract import DataView
from synergen.settings import refuse_below, refuse_no_multiple


@dataclass(frozen=True)
class MetaSASRecSettings(NextItemSettings):
    """ffn_width: of the hidden layer of a block's feed-forward network."""

    ffn_width: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "ffn_width")
        refuse_no_multiple(self, "width", "heads")


class MetaSASRec(NextItemModel):
    """Self-attention blocks; times are not read."""

    settings: MetaSASRecSettings

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data, MetaSASRecSettings(**settings))
        truncated_normal_(self.positions, 1 / math.sqrt(self.settings.width))
        self.blocks = nn.ModuleList(_Block(self.settings) for _ in range(self.settings.layers))

    def states(self, x: Tensor, times: Tensor, next_times: Tensor) -> Tensor:
        steps = x.shape[1]
        future = torch.ones(steps, steps, dtype=torch.bool, device=x.device).triu(1)  # (T, T)
        for block in self.blocks:
            x = block(x, future)
        return x


class _Block(nn.Module):
    """y = LN(LN(x) + attention(LN(x), x, x)), then y + FFN(y)."""

    def __init__(self, settings: MetaSASRecSettings) -> None:
        super().__init__()
        width, inner, dropout = settings.width, settings.ffn_width, settings.dropout
        self.attention = nn.MultiheadAttention(width, settings.heads, dropout, batch_first=True)
        self.ffn = nn.Sequential(
            nn.Linear(width, inner), nn.ReLU(), nn.Dropout(dropout), nn.Linear(inner, width), nn.Dropout(dropout)
        )
        for weights in self.parameters():
            if weights.dim() > 1:
                nn.init.xavier_normal_(weights)

    def forward(self, x: Tensor, future: Tensor) -> Tensor:
        query = _normalised(x)
        read, _ = self.attention(query, x, x, attn_mask=future, need_weights=False)
        y = _normalised(query + read)
        return y + self.ffn(y)


def _normalised(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-8)
