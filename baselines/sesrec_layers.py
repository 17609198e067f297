"""Parts of SESRec: the encoder of a history, what two histories agree on, and its contrast.

Paper and repository: see `baselines.sesrec`.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.joint_layers import masked_softmax
from baselines.unisar_layers import Attention, Kind
from synergen.model.dropout import Dropout


class Encoder(nn.Module):
    """Transformer layers with norms after the sums, over the valid events (B, T) of histories (B, T, D)."""

    def __init__(self, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(width, heads, dropout) for _ in range(layers))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, valid)
        return x


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(width, heads, dropout=0.0)
        self.network = nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-8) for _ in range(2))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        x = self.norms[0](x + self.dropout(self.attention(x, x, valid)))
        return self.norms[1](x + self.dropout(self.network(x)))


class CoAttention(nn.Module):
    """How much each of two histories agrees with the events of the other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.between = nn.Parameter(torch.empty(width, width))
        self.of_first, self.of_second = nn.Parameter(torch.empty(1, width)), nn.Parameter(torch.empty(1, width))
        for weight in (self.between, self.of_first, self.of_second):
            nn.init.xavier_normal_(weight)

    def forward(
        self, first: Tensor, second: Tensor, valid: Tensor, second_valid: Tensor, padding: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Weights (B, T) and (B, S) of the valid events of `first` (B, T, D) and `second` (B, S, D).

        Args:
            valid: (B, T) and second_valid: (B, S).
            padding: what is not valid gets no weight, but has its say about the other history.
        """
        alike = torch.tanh(first @ self.between @ second.transpose(1, 2))  # (B, T, S)
        own, other = first @ self.of_first[0], second @ self.of_second[0]  # (B, T), (B, S)
        if not padding:
            own, other = own * valid, other * second_valid
        return (
            masked_softmax((alike @ other[..., None])[..., 0], valid),
            masked_softmax((own[:, None] @ alike)[:, 0], second_valid),
        )


@dataclass(frozen=True)
class Side:
    """One of the two histories of B requests, encoded, and its events by whether the other history agrees with them."""

    states: Tensor  # (B, T, D)
    valid: Tensor  # (B, T) bool
    weights: Tensor  # (B, T): how much the other history agrees
    alike: Tensor  # (B, T) bool
    unlike: Tensor  # (B, T) bool

    @classmethod
    def of(cls, states: Tensor, valid: Tensor, weights: Tensor) -> Self:
        """A history whose events have weights (B, T): those of no less than the average are alike, the rest unlike. If
        that leaves one of the two without an event, it has all of them."""
        average = weights * valid.sum(1, keepdim=True) > 1 - 1e-5  # of equal weights none is below it by rounding
        alike, unlike = valid & average, valid & ~average
        return cls(states, valid, weights, *(torch.where(x.any(1, keepdim=True), x, valid) for x in (alike, unlike)))

    def contrast(self, margin: float) -> Tensor:
        """(B,): the mean by the weights is to be nearer to that of the alike events than to that of the unlike ones."""
        states = self.states.float()
        anchor, alike, unlike = (
            (shares.float()[:, None] @ states)[:, 0]  # (B, D)
            for shares in (self.weights, _shares(self.alike), _shares(self.unlike))
        )
        return F.triplet_margin_loss(anchor, alike, unlike, margin=margin, reduction="none")


def _shares(mask: Tensor) -> Tensor:
    """(B, T) the weights of a mean over what `mask` (B, T) names."""
    return mask / mask.sum(1, keepdim=True).clamp(min=1)


def widened(kind: Kind, width: int) -> Kind:
    """Histories padded to T = width events."""
    more = (0, width - kind.items.shape[1])
    return Kind(*(F.pad(getattr(kind, field.name), more) for field in fields(kind)))
