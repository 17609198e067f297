"""What a batch teaches SynerGen: requests, what was chosen in them, and candidates that are ranked."""

from dataclasses import dataclass

import torch
from torch import Tensor

from synergen.contract import Batch, Histories, Slates
from synergen.model.negatives import uniform_except


@dataclass(frozen=True)
class Asked:
    """E requests of each of B histories."""

    times: Tensor  # (B, E) int64
    queries: Tensor  # (B, E) int64
    actions: Tensor  # (B, E) int64
    visible: Tensor  # (B, E, T) bool: the events of earlier request groups


@dataclass(frozen=True)
class Examples:
    """What E requests of each of B sequences can teach: N choices, and C candidates that were ranked."""

    asked: Asked
    real: Tensor  # (B, E) bool, false on padding
    rows: Tensor  # (N,) the sequence of each choice
    places: Tensor  # (N,) its request, of E
    items: Tensor  # (N,) what was chosen
    candidates: Tensor  # (B, E, C)
    chosen: Tensor  # (B, E, C) bool
    shown: Tensor | None = None  # (B, E, C) bool, where the candidates are what the user saw

    @property
    def queries(self) -> Tensor:
        """(N,) the query of each choice."""
        return self.asked.queries[self.rows, self.places]


def examples_of(batch: Batch, negatives: int, n_items: int) -> Examples:
    """The requests of a batch: those of its slates where it has any; otherwise every target event is one of its own,
    whose item is ranked beside `negatives` others of the n_items."""
    if batch.slates is None:
        return _from_targets(batch, negatives, n_items)
    return _from_slates(batch.events, batch.slates)


def _from_targets(batch: Batch, negatives: int, n_items: int) -> Examples:
    """Every target event as a request that asked for it; task tokens are made for targets alone."""
    events = batch.events
    is_target = batch.targets & events.valid  # (B, T)
    place, real = _target_places(is_target)  # (B, E), (B, E)

    def at_target(column: Tensor) -> Tensor:
        return column.gather(1, place)  # (B, E)

    earlier = events.groups[:, None, :] < at_target(events.groups)[:, :, None]  # (B, E, T)
    asked = Asked(
        at_target(events.times),
        at_target(events.queries),
        at_target(batch.wanted),
        earlier & events.valid[:, None, :],
    )
    positives = at_target(events.items)
    candidates = positives[..., None]  # (B, E, 1)
    if negatives:
        drawn = uniform_except(positives, negatives, n_items)
        candidates = torch.cat([candidates, drawn], dim=-1)  # (B, E, C)
    chosen = torch.zeros_like(candidates, dtype=torch.bool)
    chosen[..., 0] = True
    rows, places = real.nonzero(as_tuple=True)
    return Examples(asked, real, rows, places, positives[real], candidates, chosen)


def _from_slates(events: Histories, slates: Slates) -> Examples:
    """Every request and what was chosen from its slate, all of which is ranked."""
    earlier = events.groups[:, None, :] < slates.groups[:, :, None]  # (B, E, T)
    asked = Asked(slates.times, slates.queries, slates.wanted, earlier & events.valid[:, None, :])
    shown, chosen = slates.shown, slates.chosen
    rows, places, slots = chosen.nonzero(as_tuple=True)
    items = slates.items[rows, places, slots]
    return Examples(asked, shown.any(-1), rows, places, items, slates.items, chosen, shown)


def _target_places(is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Where the targets of each row are, (B, E) int64 in their order, E the most that a row has; and which of these
    places hold one, (B, E) bool."""
    counts = is_target.sum(1, keepdim=True)  # (B, 1)
    most = max(1, int(counts.max()))
    place = (~is_target).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]  # (B, E)
    return place, torch.arange(most, device=place.device) < counts
