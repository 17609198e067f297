"""Other views of user sequences, for contrasts between them: parts, new orders, similar items and similar users.

Crop, mask and reorder are those of X. Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022.
"""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.contract import Histories

_ROWS = 1024
"""Items whose similarities with all others are in memory at one time."""

View = tuple[Tensor, Tensor]
"""Places (M, T) of the events of M sequences in their new order, and how many (M,) of them are left."""


def cropped(lengths: Tensor, width: int, share: float) -> View:
    """A stretch of consecutive events, this share of the sequence, one event at least."""
    first, last = _stretch(lengths, share)
    places = first[:, None] + torch.arange(width, device=lengths.device)  # (M, T)
    return places.clamp(max=width - 1), last - first


def masked(lengths: Tensor, width: int, probability: float) -> View:
    """Without the events that are hidden, but never without all: the encoder has no token to stand for them."""
    steps = torch.arange(width, device=lengths.device)
    hidden = torch.rand(len(lengths), width, device=lengths.device) < probability
    hidden |= steps >= lengths[:, None]
    return (steps + width * hidden).argsort(1), (~hidden).sum(1).clamp(min=1)


def reordered(lengths: Tensor, width: int, share: float) -> View:
    """A stretch of this share in random order."""
    first, last = (edge[:, None] for edge in _stretch(lengths, share))
    steps = torch.arange(width, device=lengths.device)
    anywhere = first + (last - first) * torch.rand(len(lengths), width, device=lengths.device)
    return torch.where((steps >= first) & (steps < last), anywhere, steps).argsort(1), lengths


def _stretch(lengths: Tensor, share: float) -> View:
    """First place, and the one after the last, of a random stretch of each sequence."""
    size = (lengths * share).ceil().long().clamp(min=1)
    first = (torch.rand(len(lengths), device=lengths.device) * (lengths - size + 1)).long()
    return first, first + size


def taken(history: Histories, places: Tensor, lengths: Tensor) -> Histories:
    """The events at these places (M, T), of which the first `lengths` (M,) count."""
    kept = torch.arange(places.shape[1], device=places.device) < lengths[:, None]  # (M, T)
    columns = {
        f.name: getattr(history, f.name).gather(1, places) * kept for f in fields(history) if f.name != "lengths"
    }
    return Histories(**columns, lengths=lengths)


def most_alike(items: Tensor, same: Tensor) -> View:
    """Sequences (M',) that share an item with another user's, and the one (M',) with the most alike set of items.

    Args:
        items: (M, T), 0 for padding.
        same: (M, M) bool: of one user.
    """
    distinct, numbers = torch.unique(F.pad(items, (1, 0)), return_inverse=True)  # padding is number 0, there or not
    sets = torch.zeros(len(items), max(1, len(distinct)), device=items.device).scatter_(1, numbers, 1.0)
    sets = F.normalize(sets[:, 1:])  # (M, distinct items)
    shared, partners = F.pad((sets @ sets.T).masked_fill(same, 0.0), (0, 1)).max(1)  # the last place: nobody
    rows = (shared > 0).nonzero().squeeze(1)
    return rows, partners[rows]


def nearest(vectors: np.ndarray, count: int) -> Tensor:
    """(V + 1, k): the k items whose text vectors (V + 1, width) have the highest cosines with each item's, V - 1 at
    most; an item without text has itself alone."""
    texts = F.normalize(torch.from_numpy(np.asarray(vectors, dtype=np.float32)))
    own = torch.arange(len(texts))
    written = texts.any(1) & (own > 0)
    found = []
    for rows in own.split(_ROWS):
        cosines = (texts[rows] @ texts.T).masked_fill(~written | (rows[:, None] == own), -torch.inf)  # (rows, V + 1)
        best, items = cosines.topk(min(count, len(texts) - 1), dim=1)
        found.append(torch.where(best.isfinite() & written[rows, None], items, rows[:, None]))
    return torch.cat(found)
