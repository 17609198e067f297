"""The Siamese encoder of UnifiedSSR, and the sessions that its training tells apart.

Paper and repository: see `baselines.unified_ssr`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.model.dropout import Dropout

SESSIONS = ("none", "faithful", "soft")
N_SESSIONS = 2

_ATTENTION_DROPOUT = 0.1
_NEVER = -1e9
"""The logit of what is not seen: finite, as a slot of the repository's may see nothing."""


class Encoder(nn.Module):
    """Layers that read a stream and, across, a second one; the same weights serve whichever stream comes first.

    Args:
        faithful: as the repository has it: every slot attends to every other, and each layer reads the input of the
            first, so that only the last one has effect.
    """

    def __init__(self, width: int, heads: int, ffn_width: int, layers: int, dropout: float, faithful: bool) -> None:
        super().__init__()
        self.faithful = faithful
        self.layers = nn.ModuleList(_Layer(width, heads, ffn_width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, stream: Tensor, other: Tensor, valid: Tensor) -> Tensor:
        """States (B, T, D) of `stream` (B, T, D) beside `other` (B, T, D).

        Args:
            valid: (B, T) bool: slots that others may attend to. Causal attention needs no look at them, as padding is
                on the right.
        """
        steps = stream.shape[1]
        future = torch.ones(steps, steps, dtype=torch.bool, device=stream.device).triu(1)
        hidden = ~valid[:, None] if self.faithful else future[None]  # (B or 1, 1 or T, T)
        bias = _NEVER * hidden[:, None].float()
        for layer in self.layers[-1:] if self.faithful else self.layers:
            stream = layer(stream, other, bias)
        return self.norm(stream)


class _Layer(nn.Module):
    """Attention to the own stream, to the other, and a network, each on normalised input beside a residual."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.to_own, self.to_other = _Attention(width, heads), _Attention(width, heads)
        self.ffn = nn.Sequential(nn.Linear(width, ffn_width), nn.ReLU(), Dropout(dropout), nn.Linear(ffn_width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-6) for _ in range(3))
        self.dropout = Dropout(dropout)

    def forward(self, stream: Tensor, other: Tensor, bias: Tensor) -> Tensor:
        own = self.norms[0](stream)
        stream = stream + self.dropout(self.to_own(own, own, bias))
        stream = stream + self.dropout(self.to_other(self.norms[1](stream), other, bias))
        return stream + self.dropout(self.ffn(self.norms[2](stream)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.dropout = Dropout(_ATTENTION_DROPOUT)

    def forward(self, reader: Tensor, read: Tensor, bias: Tensor) -> Tensor:
        """(B, T, D): what the slots of `reader` find in those of `read`, with bias (B or 1, 1, T or 1, T) on logits."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, D / H)
            for layer, x in ((self.query, reader), (self.key, read), (self.value, read))
        )
        logits = query / math.sqrt(query.shape[-1]) @ key.transpose(-2, -1) + bias  # (B, H, T, T)
        found = self.dropout(logits.softmax(-1)) @ value
        return self.out(found.transpose(1, 2).flatten(2))


class Sessions(nn.Module):
    """Two windows over the states that are trained of each sequence. Their means are to differ from one window to the
    next, and the streams of a search are to agree on them.

    The repository's windows know no gradient, so that they stay where they begin, and it doubles the states inside
    them. Soft ones have edges a state wide, and add nothing to the states: a mean would show each one the later ones.
    """

    def __init__(self, width: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.offsets = nn.Linear(width, 2, bias=False)
        self.width_bias = nn.Parameter(torch.tensor(math.log(5 / 3) / 2))

    def forward(self, streams: list[Tensor], trained: Tensor) -> tuple[list[Tensor], Tensor]:
        """The streams (B, T, D), doubled where they are, and what training is to lower.

        Args:
            trained: (B, T) bool.
        """
        members = [self.members(stream, trained) for stream in streams]  # (B, S, T)
        means = [_mean(member, stream) for member, stream in zip(members, streams, strict=True)]  # (B, S, D)
        total = torch.stack([_correlation(mean[:, 1:], mean[:, :-1], absolute=True) for mean in means]).sum()
        if len(means) == 2:
            total = total - _correlation(means[0], means[1])
        if self.kind == "faithful":
            streams = [x * (1 + inside.amax(1)[..., None]) for x, inside in zip(streams, members, strict=True)]
        return streams, total

    def members(self, states: Tensor, trained: Tensor) -> Tensor:
        """(B, S, T) from 0 to 1: how much each trained state is inside each window."""
        count = trained.sum(1)[:, None, None]  # (B, 1, 1)
        place = (trained.cumsum(1) - 1)[:, None]  # (B, 1, T)
        number = torch.arange(N_SESSIONS, device=states.device)[:, None]  # (S, 1)
        begin, end = number * count // N_SESSIONS, -(-(number + 1) * count // N_SESSIONS)  # (B, S, 1)
        part = (begin <= place) & (place < end) & trained[:, None]  # (B, S, T)
        shift, width = self.offsets(F.relu(_mean(part.to(states.dtype), states))).float().unbind(-1)  # (B, S) each
        centre = (number[:, 0] + 0.5 + shift.tanh()) / N_SESSIONS
        half = F.relu((width + self.width_bias).tanh()) / N_SESSIONS
        left, right = ((centre + side * half).clamp(0, 1)[..., None] * count for side in (-1, 1))  # (B, S, 1)
        if self.kind == "faithful":
            return ((left <= place) & (place <= right) & trained[:, None]).to(states.dtype)
        return torch.sigmoid(place - left) * torch.sigmoid(right - place) * trained[:, None]


def _mean(weights: Tensor, states: Tensor) -> Tensor:
    """(B, S, D): means of states (B, T, D) by weights (B, S, T); zero where there is no weight."""
    return weights.to(states.dtype) @ states / weights.sum(-1, keepdim=True).clamp(min=1e-6)


def _correlation(left: Tensor, right: Tensor, absolute: bool = False) -> Tensor:
    """The mean cosine of pairs (B, S, D), those of zero vectors left out."""
    cosines = F.cosine_similarity(left.float(), right.float(), dim=-1)
    return (cosines.abs() if absolute else cosines).sum() / (cosines != 0).sum().clamp(min=1)
