"""Parts of UniSAR: the two kinds of events of a history, attention between them, the experts on top, the contrast."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.joint_layers import MIN_TEMPERATURE, TargetAttention, masked_softmax, perceptron
from synergen.contract import Histories
from synergen.model.dropout import Dropout

PLACES = ("oldest", "newest")
"""The event from which places may be counted."""


@dataclass(frozen=True)
class Kind:
    """The events of one kind of B histories, oldest first, padded on the right with zeros to their own T."""

    items: Tensor  # (B, T) int64
    queries: Tensor  # (B, T) int64, 0 in recommendation
    places: Tensor  # (B, T) int64: each event's place among the events of its kind
    places_in_all: Tensor  # (B, T) int64: its place among those of both kinds
    valid: Tensor  # (B, T) bool

    @classmethod
    def packed(cls, history: Histories, kept: Tensor, places: Tensor, places_in_all: Tensor) -> Self:
        """Those events of a history that are `kept` (B, T) bool."""
        width = max([1, *kept.sum(1).tolist()])
        order = (~kept).long().argsort(dim=1, stable=True)[:, :width]  # (B, width): the kept ones first
        valid = kept.gather(1, order)
        columns = history.items, history.queries, places, places_in_all
        items, queries, places, places_in_all = (column.gather(1, order) * valid for column in columns)
        return cls(items, queries, places, places_in_all, valid)


def by_kind(history: Histories, most: int, from_newest: bool = False) -> tuple[Kind, Kind]:
    """The most recent recommendation events and the most recent searches of a history, `most` of each.

    Args:
        from_newest: places are counted from the newest event, 0, or else from the oldest one that is kept.
    """
    searched = history.queries > 0
    kept = [kind & (_places(kind, True) < most) for kind in (history.valid & ~searched, history.valid & searched)]
    in_all = _places(kept[0] | kept[1], from_newest)
    recommended, found = (Kind.packed(history, kind, _places(kind, from_newest), in_all) for kind in kept)
    return recommended, found


def _places(some: Tensor, from_newest: bool) -> Tensor:
    """(B, T): 0, 1, … where `some` (B, T) is true."""
    return (some.flip(1).cumsum(1).flip(1) if from_newest else some.cumsum(1)) - 1


class Stacked(nn.Linear):
    """Some linear layers of the same sizes and the same input, as one."""

    def __init__(self, before: int, after: int, count: int) -> None:
        super().__init__(before, count * after)
        self.after = after


def initialise(module: nn.Module) -> None:
    """Xavier's normal numbers for the weights of each linear layer, and zero biases."""
    if isinstance(module, nn.Linear):
        for weight in module.weight.split(module.after if isinstance(module, Stacked) else module.out_features):
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(module.bias)


class Attention(nn.Module):
    """Multi-head attention; where there is nothing to attend to, it finds zero."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, (width // heads) ** -0.5
        self.query = nn.Linear(width, width)
        self.key_value = Stacked(width, width, 2)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, others: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D): what the events x (B, T, D) find in `others` (B, S, D) where `valid` (B, S)."""
        query, key, value = (  # (B, H, T or S, D / H)
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(x) * self.scale, *self.key_value(others).chunk(2, dim=-1))
        )
        weights = masked_softmax(query @ key.transpose(-1, -2), valid[:, None, None])  # (B, H, T, S)
        found = self.dropout(weights) @ value  # (B, H, T, D / H)
        return self.out(found.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer layer, norms after the sums: some attentions, one after the other, and a network for each event."""

    def __init__(self, width: int, heads: int, dropout: float, attentions: int = 1) -> None:
        super().__init__()
        self.attentions = nn.ModuleList(Attention(width, heads, dropout) for _ in range(attentions))
        self.network = perceptron([width, width, width], dropout, last_activation=False)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(attentions + 1))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, *read: tuple[Tensor, Tensor]) -> Tensor:
        """(B, T, D).

        Args:
            x: (B, T, D).
            read: for each attention, the events (B, S, D) that it reads and which of them are valid (B, S).
        """
        for attention, norm, (others, valid) in zip(self.attentions, self.norms, read, strict=False):
            x = norm(x + self.dropout(attention(x, others, valid)))
        return self.norms[-1](x + self.dropout(self.network(x)))


class Side(nn.Module):
    """What is particular to one kind of events."""

    def __init__(self, width: int, heads: int, dropout: float, most: int, temperature: float) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.empty(most, width))
        nn.init.xavier_normal_(self.places)
        self.alone = Block(width, heads, dropout)
        self.fusion = Block(width, heads, dropout, attentions=2)
        self.pooling = TargetAttention(width, width)
        self.contrast = Contrast(width, temperature)

    def forward(self, x: Tensor, across: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
        """Events (B, T, D) after reading one another, and these after reading what the other kind did to them.

        Args:
            x: (B, T, D).
            across: (B, T, D): the events after reading those of the other kind.
        """
        placed = x + self.places[kind.places]
        alone = self.alone(placed, (placed, kind.valid))
        return alone, self.fusion(alone, (alone, kind.valid), (across, kind.valid))


class Extraction(nn.Module):
    """Progressive layered extraction of one level (H. Tang et al., RecSys 2020): for each of two tasks a gate weighs
    experts of its own and shared ones, and a network scores their mixture.

    The first layers read a concatenation, so they are sums of one linear map for each part; and as pooling and mapping
    commute, the events of a history are mapped once, whatever the candidates, and pooled then.
    """

    def __init__(self, width: int, experts: int, dropout: float) -> None:
        super().__init__()
        self.width, self.read_experts, self.parts = width, 2 * experts, [width, width, width, 2 * width]
        read = sum(self.parts)
        self.shared = Stacked(read, width, experts)
        self.own = nn.ModuleList(Stacked(read, width, experts) for _ in range(2))
        self.gates = nn.ModuleList(nn.Linear(read, self.read_experts) for _ in range(2))
        self.towers = nn.ModuleList(
            perceptron([width, 128, 64, 200, 80, 1], dropout, last_activation=False) for _ in range(2)
        )
        self.dropout = Dropout(dropout)

    def mapped(self, task: int, recommended: Tensor, searched: Tensor, request: Tensor) -> Tensor:
        """(B, T + T' + 1, F): what the first layers of a task make of each event and of the request.

        Args:
            recommended: (B, T, D), and searched (B, T', D), the events.
            request: (B, 2 D).
        """
        of_recommended, of_searched, _, of_request = self._first(task)
        bias = torch.cat([layer.bias for layer in self._layers(task)])
        asked = F.linear(request, of_request, bias)[:, None]
        return torch.cat([F.linear(recommended, of_recommended), F.linear(searched, of_searched), asked], dim=1)

    def forward(self, task: int, mapped: Tensor, weights: Tensor, items: Tensor) -> Tensor:
        """Logits (B, C) of a task.

        Args:
            mapped: (B, T + T' + 1, F), see there.
            weights: (B, C, T + T' + 1), of the events for each candidate, and 1 of the request.
            items: (B, C, D), or (C, D) for all.
        """
        total = torch.baddbmm(F.linear(items, self._first(task)[2]), weights, mapped)  # (B, C, F)
        found, gate = total.split([self.read_experts * self.width, self.read_experts], dim=-1)
        found = found.relu().unflatten(-1, (self.read_experts, self.width))  # (B, C, experts read, width)
        gate = gate[..., None, :].softmax(-1)  # (B, C, 1, experts read)
        mixture = (gate.to(found.dtype) @ self.dropout(found)).squeeze(-2)  # (B, C, width)
        return self.towers[task](mixture).squeeze(-1)

    def _layers(self, task: int) -> tuple[nn.Linear, ...]:
        return self.own[task], self.shared, self.gates[task]  # type: ignore[return-value]

    def _first(self, task: int) -> tuple[Tensor, ...]:
        """The weights (F, width of the part) of the first layers, for each part."""
        return torch.cat([layer.weight for layer in self._layers(task)]).split(self.parts, dim=1)


class Contrast(nn.Module):
    """NT-Xent with the similarity tanh(x W y) / τ: two views of a history against those of other users; τ is learnt."""

    def __init__(self, width: int, temperature: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width))
        nn.init.xavier_normal_(self.weight)
        self.temperature = nn.Parameter(torch.tensor(temperature))

    def forward(self, left: Tensor, right: Tensor, users: Tensor) -> Tensor:
        """The mean loss of N histories, 0 where there is none.

        Args:
            left: (N, D) one view of each, and right (N, D) the other.
            users: (N,) int64: whose they are; two of one user are no negatives of one another, those of strangers are.
        """
        views = torch.cat([left, right])  # (2N, D)
        logits = (views @ self.weight @ views.T).tanh().float() / self.temperature.clamp(min=MIN_TEMPERATURE)
        owners = torch.cat([users, users])
        same = (owners[:, None] == owners) & (owners > 0)
        same.fill_diagonal_(True)
        others = torch.arange(len(views), device=views.device).roll(len(left))
        same.scatter_(1, others[:, None], False)
        loss = F.cross_entropy(logits.masked_fill(same, -torch.inf), others, reduction="sum")
        return loss / max(len(views), 1)
