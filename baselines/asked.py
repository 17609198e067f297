"""Training targets as the requests that they were: one row a target, with the history that it may read.

Models that read a history from both ends cannot take all targets of a sequence in one pass, as their later events
would show the earlier targets.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from synergen.contract import Batch, Histories, Requests, Task


@dataclass(frozen=True)
class Asked:
    """N requests of either task."""

    history: Histories  # (N, T)
    times: Tensor  # (N,) int64
    queries: Tensor  # (N,) int64: 0 in recommendation
    users: Tensor  # (N,) int64: 0 for a stranger

    @property
    def searches(self) -> Tensor:
        """(N,) bool"""
        return self.queries > 0

    @classmethod
    def of(cls, requests: Requests) -> "Asked":
        """The requests of a test, queries only where they are searches."""
        queries = requests.queries if requests.task is Task.SEARCH else torch.zeros_like(requests.queries)
        return cls(requests.history, requests.times, queries, known_users(requests.users, queries))


def cut(batch: Batch, most: int = 0, recommend_searched: bool = False) -> tuple[Asked, Tensor]:
    """The targets of a batch as N requests, recommendations first, each of which has the events of earlier groups as
    history, and the items (N,) that they chose.

    Args:
        most, recommend_searched: see `kinds`.
    """
    events = batch.events
    wanted = torch.stack(kinds(batch.targets & events.valid, events.queries > 0, most, recommend_searched))  # (2, B, T)
    searches, rows, at = wanted.nonzero(as_tuple=True)  # (N,) each
    groups = events.groups[rows]  # (N, T)
    earlier = events.valid[rows] & (groups < groups.gather(1, at[:, None]))  # (N, T)
    lengths = earlier.sum(1)  # groups never fall
    width = max(1, int(lengths.max())) if len(lengths) else 1
    earlier = earlier[:, :width]
    names = (field.name for field in fields(events) if field.name != "lengths")
    columns = {name: getattr(events, name)[rows, :width] * earlier for name in names}
    users = known_users(batch.users, events.lengths)[rows]
    asked = Asked(
        Histories(**columns, lengths=lengths), events.times[rows, at], events.queries[rows, at] * searches, users
    )
    return asked, events.items[rows, at]


def kinds(targets: Tensor, searched: Tensor, most: int = 0, recommend_searched: bool = False) -> tuple[Tensor, Tensor]:
    """(B, T) bool each: the targets (B, T) to be recommended and those to be searched for.

    Args:
        searched: (B, T) bool, what a search led to.
        most: random targets of either kind that are taken of a sequence, so that long sequences cost no more than
            twice that many requests; 0 for all. Which ones they are is torch's random state.
        recommend_searched: whether what a search led to is also to be recommended, as if nobody had searched.
    """
    both = targets if recommend_searched else targets & ~searched, targets & searched
    return both if most == 0 else (_some(both[0], most), _some(both[1], most))


def _some(targets: Tensor, most: int) -> Tensor:
    order = torch.rand(targets.shape, device=targets.device).masked_fill(~targets, 2.0).argsort(1)  # targets first
    return targets & torch.zeros_like(targets).scatter(1, order[:, :most], True)


def known_users(users: Tensor | None, like: Tensor) -> Tensor:
    """(B,) who asks, strangers where nothing is said; `like` (B,) has the shape and the device."""
    return torch.zeros_like(like) if users is None else users
