"""What a sequence model learns to tell the next item from: every other item, or a sample of them.

Papers: A. Klenitskiy, A. Vasilev, "Turning Dross Into Gold Loss: is BERT4Rec really better than SASRec?", RecSys
2023 (softmax over all items or over many negatives); A. Petrov, C. Macdonald, "gSASRec: Reducing Overconfidence in
Sequential Recommendation Trained with Negative Sampling", RecSys 2023 (gBCE); J. Zhai et al., "Actions Speak Louder
than Words", ICML 2024 (cosine similarity, negatives of each position).

Deviation: all logits of gBCE are raised by the same constant, which moves where training starts and no ranking.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.errors import UserError
from synergen.model.losses import full_softmax, infonce
from synergen.settings import LATER, refuse_below, refuse_no_share, refuse_unlisted

Items = Callable[[Tensor | None], Tensor]
"""Item vectors (..., D) of ids (...), or those of the whole catalogue (V + 1, D) where none are given."""

LOSSES = ("softmax", "sampled", "gbce")
SIMILARITIES = ("dot", "cosine")

_SMALLEST_NORM = 1e-6
_NEVER = -1e30
"""The logit of what does not count: finite, so that a position with nothing else has no gradient instead of nan."""
_ITEMS_PER_NEGATIVE = 80
"""Where there are fewer, scoring the whole catalogue is faster than fetching what each position's negatives are."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """The loss at a supervised position. Models inherit these settings and may have other defaults.

    loss: softmax (cross-entropy over all items), sampled (over the positive and `negatives` uniform items) or gbce
        (generalised binary cross-entropy against `negatives` uniform items of each position).
    negatives: K.
    shared_negatives: sampled: K items for a whole batch; otherwise K items for each position.
    similarity: dot or cosine.
    temperature: the similarity is divided by it.
    calibration: gbce: t, from 0 (binary cross-entropy) to 1 (probabilities as if nothing had been sampled).
    """

    loss: str = field(default="softmax", metadata=LATER)
    negatives: int = field(default=512, metadata=LATER)
    shared_negatives: bool = field(default=True, metadata=LATER)
    similarity: str = field(default="dot", metadata=LATER)
    temperature: float = field(default=1.0, metadata=LATER)
    calibration: float = field(default=0.75, metadata=LATER)

    def __post_init__(self) -> None:
        refuse_unlisted(self, "loss", LOSSES)
        refuse_unlisted(self, "similarity", SIMILARITIES)
        refuse_below(self, 1, "negatives")
        refuse_no_share(self, "calibration", whole=True)
        if not self.temperature > 0:
            raise UserError(f"{type(self).__name__}: temperature is {self.temperature!r}; it must be more than 0")


def trained_against(settings: Mapping[str, Any]) -> str:
    """In words, the items that a positive stands against, for the reader of a table.

    Args:
        settings: those of a model that inherits `ObjectiveSettings`, as a record keeps them.
    """
    known = {**_DEFAULTS, **settings}
    match known["loss"]:
        case "softmax":
            return "all items"
        case "gbce":
            return f"{known['negatives']:,} a position, gBCE t = {known['calibration']:g}"
    return f"{known['negatives']:,} a {'batch' if known['shared_negatives'] else 'position'}"


_DEFAULTS = {name: one.default for name, one in ObjectiveSettings.__dataclass_fields__.items()}


def objective(settings: ObjectiveSettings, states: Tensor, targets: Tensor, items: Items, n_items: int) -> Tensor:
    """The mean loss of N supervised positions; 0 where there is none.

    Args:
        states: (N, D), what each position predicts.
        targets: (N,) the item that came, 1..V.
        items: looked up row by row where negatives are sampled, so that a step touches no other rows.
        n_items: V.
    """
    if settings.similarity == "cosine":
        items, states = _normalised(items), unit(states)
    if settings.loss == "softmax":
        return full_softmax(states, items(None), targets, settings.temperature)
    if settings.loss == "sampled" and settings.shared_negatives:
        drawn = torch.randint(1, n_items + 1, (settings.negatives,), device=targets.device)  # (K,)
        hit = targets[:, None] == drawn  # (N, K)
        return infonce(states, items(targets), items(drawn), settings.temperature, banned=hit)
    drawn = torch.randint(1, n_items + 1, (len(targets), settings.negatives), device=targets.device)  # (N, K)
    queries = states / settings.temperature
    positive = (queries * items(targets)).sum(-1).float()  # (N,)
    negative = _scores(queries, drawn, items, n_items).float().masked_fill(targets[:, None] == drawn, _NEVER)  # (N, K)
    if settings.loss == "sampled":
        return F.softplus(negative.logsumexp(-1) - positive).sum() / max(len(positive), 1)
    power = positive_power(settings.negatives, n_items, settings.calibration)
    # Where a model that tells no items apart is at rest. From 0 all logits would have to fall first, and vectors that
    # are read as well as scored can only do that by growing alike.
    start = math.log(power / settings.negatives)
    return gbce(start + positive, start + negative, power)


def _scores(queries: Tensor, drawn: Tensor, items: Items, n_items: int) -> Tensor:
    """(N, K) inner products of queries (N, D) with the items drawn for each, (N, K)."""
    if n_items < _ITEMS_PER_NEGATIVE * drawn.shape[1]:
        return (queries @ items(None).T).gather(1, drawn)
    return (items(drawn) @ queries[..., None]).squeeze(-1)


def positive_power(negatives: int, n_items: int, calibration: float) -> float:
    """β = α (t (1 - 1/α) + 1/α), where α = K / (V - 1) is the share of the other items that is sampled (gSASRec)."""
    rate = min(1.0, negatives / max(1, n_items - 1))
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def gbce(positive: Tensor, negative: Tensor, power: float) -> Tensor:
    """Generalised binary cross-entropy (gSASRec): -[β ln σ(s⁺) + Σ ln(1 - σ(s⁻))] / (K + 1), mean over N.

    Args:
        positive: (N,) logits.
        negative: (N, K) logits; a very low one counts for nothing.
        power: β.
    """
    total = power * F.softplus(-positive) + F.softplus(negative).sum(-1)  # (N,)
    return total.sum() / (negative.shape[1] + 1) / max(len(positive), 1)


def compared(settings: ObjectiveSettings, vectors: Tensor) -> Tensor:
    """Vectors (..., D) as the similarity of the settings takes them: of length 1 under the cosine."""
    return unit(vectors) if settings.similarity == "cosine" else vectors


def unit(vectors: Tensor) -> Tensor:
    """Vectors (..., D) of length 1, as float32; next to nothing stays next to nothing."""
    return F.normalize(vectors.float(), dim=-1, eps=_SMALLEST_NORM)


def _normalised(items: Items) -> Items:
    return lambda ids: unit(items(ids))
