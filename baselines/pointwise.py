"""The loss of models that score a request and an item at a time: the item that was chosen, and a few that were not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.errors import UserError
from synergen.settings import refuse_below, refuse_unlisted

LOSSES = ("bce", "softmax", "pairwise")
SAMPLINGS = ("uniform", "popular")


@dataclass(frozen=True)
class PointwiseSettings:
    """Models inherit these settings and may have other defaults.

    loss: bce (binary cross-entropy of all 1 + K), softmax (over the 1 + K) or pairwise (-ln σ(s⁺ - s⁻)).
    negatives: K, drawn anew for each request.
    sampling: uniform over the catalogue, or popular: in proportion to training events.
    requests_per_sequence: random targets of either kind that are trained on of each sequence and epoch; 0 for all.
    """

    loss: str = "bce"
    negatives: int = 4
    sampling: str = "uniform"
    requests_per_sequence: int = 0

    def __post_init__(self) -> None:
        refuse_unlisted(self, "loss", LOSSES)
        refuse_unlisted(self, "sampling", SAMPLINGS)
        refuse_below(self, 1, "negatives")
        refuse_below(self, 0, "requests_per_sequence")


def trained_against(settings: Mapping[str, Any]) -> str:
    """In words, for the reader of a table; `settings` as a record keeps those of a `PointwiseSettings`."""
    kind = "" if settings["sampling"] == "uniform" else f" {settings['sampling']}"
    return f"{settings['negatives']:,}{kind} a position"


class Negatives:
    """Draws K items beside each chosen one, never the chosen one itself.

    Raises:
        UserError: a catalogue of one item, which has no negatives.
    """

    def __init__(self, settings: PointwiseSettings, item_counts: np.ndarray) -> None:
        self.count, self.n_items = settings.negatives, len(item_counts) - 1
        if self.n_items < 2:
            raise UserError("a catalogue of one item has no negatives to train against")
        self.upto: Tensor | None = None
        if settings.sampling == "popular":  # one more of each, so that any item can be drawn
            self.upto = torch.from_numpy(np.cumsum(item_counts[1:] + 1.0))

    def __call__(self, targets: Tensor) -> Tensor:
        """(N, 1 + K): the targets (N,), then their negatives."""
        shape = (len(targets), self.count)
        if self.upto is None:
            drawn = torch.randint(1, self.n_items, shape, device=targets.device)
            drawn += drawn >= targets[:, None]
            return torch.cat([targets[:, None], drawn], dim=1)
        upto = self.upto.to(targets.device)
        width = torch.diff(upto, prepend=upto.new_zeros(1))[targets - 1, None]  # (N, 1) float64
        end = upto[targets - 1, None]
        point = torch.rand(shape, device=targets.device, dtype=torch.float64) * (upto[-1] - width)
        point = torch.where(point >= end - width, point + width, point)  # skips the target's own stretch
        drawn = torch.searchsorted(upto, point, right=True).clamp(max=self.n_items - 1) + 1
        return torch.cat([targets[:, None], drawn], dim=1)


def pointwise(loss: str, scores: Tensor) -> Tensor:
    """The mean loss of N requests, 0 where there is none.

    Args:
        scores: (N, 1 + K) logits, the chosen item's first.
    """
    scores, count = scores.float(), max(len(scores), 1)
    positive, negative = scores[:, :1], scores[:, 1:]
    match loss:
        case "bce":
            total = F.softplus(-positive).sum() + F.softplus(negative).sum()
            return total / (count * scores.shape[1])
        case "softmax":
            return (scores.logsumexp(1) - positive[:, 0]).sum() / count
    return F.softplus(negative - positive).sum() / (count * negative.shape[1])
