"""Which items stand against the one that was chosen.

All draws come from torch's generator of the device that the targets are on.
"""

import torch
from torch import Tensor


def uniform_except(positives: Tensor, n: int, n_items: int) -> Tensor:
    """n items for each positive (...), uniform over the V - 1 other items: (..., n)."""
    drawn = torch.randint(1, n_items, (*positives.shape, n), device=positives.device)
    return drawn + (drawn >= positives[..., None])


def by_popularity(positives: Tensor, n: int, cumulative: Tensor) -> Tensor:
    """n items for each positive (...), drawn by popularity: (..., n); they may include the positive.

    Args:
        cumulative: (V,) float64, cumulative probabilities of items 1..V.
    """
    drawn = torch.rand((*positives.shape, n), dtype=cumulative.dtype, device=positives.device)
    return torch.searchsorted(cumulative, drawn, right=True).clamp_(max=len(cumulative) - 1) + 1


def same_query(positives: Tensor, queries: Tensor, n: int, n_items: int) -> Tensor:
    """n items for each of N targets, drawn from what the targets with the same query chose: (N, n).

    Draws that hit the positive itself, and targets without a query, get uniform items instead.

    Args:
        positives: (N,) items chosen.
        queries: (N,) query of each target, 0 for none.
    """
    ordered, order = queries.sort(stable=True)
    first = torch.searchsorted(ordered, queries)  # (N,) start of the run of equal queries
    count = torch.searchsorted(ordered, queries, right=True) - first
    draw = (torch.rand(len(queries), n, device=queries.device, dtype=torch.float64) * count[:, None]).long()
    items = positives[order[first[:, None] + draw]]  # (N, n)
    usable = (items != positives[:, None]) & (queries > 0)[:, None]
    return torch.where(usable, items, uniform_except(positives, n, n_items))


def is_chosen(items: Tensor, rows: Tensor, targets: Tensor, target_rows: Tensor, n_items: int) -> Tensor:
    """Whether `items` (...) are targets of the sequences `rows`, which broadcast against them: (...) bool.

    Args:
        targets: (N,) items chosen.
        target_rows: (N,) the sequence that each target belongs to.
        n_items: V.
    """
    pairs = (target_rows * (n_items + 1) + targets).sort().values  # (N,)
    wanted = rows * (n_items + 1) + items
    if not len(pairs):
        return torch.zeros_like(wanted, dtype=torch.bool)
    place = torch.searchsorted(pairs, wanted).clamp_(max=len(pairs) - 1)
    return pairs[place] == wanted
