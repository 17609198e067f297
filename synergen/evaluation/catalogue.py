"""Ranks among the whole catalogue where scores are inner products, at little more than the cost of the products."""

from math import gcd

import torch
from torch import Tensor

from synergen.evaluation.metrics import refuse_nan

TILE = 4096
"""Items scored at a time: the scores of 256 requests are then 4 MiB of float32, which caches hold."""

_SLICES = 16
"""Parts of a tile that are summed apart: each thread then reads the rows that it has written."""

Pairs = tuple[Tensor, Tensor]
"""Requests (N,), numbered in their batch, and items (N,)."""


def inner_product_ranks(
    users: Tensor, items: Tensor, bias: Tensor | None, positives: Tensor, excluded: Pairs
) -> Tensor:
    """Rank of each request's positive among items 1..V, as `rank_of_positive` has it; one tile of scores is held.

    Args:
        users: (B, D), what each request looks for.
        items: (V + 1, D), row 0 is padding.
        bias: (V + 1,) added to the scores.
        positives: (B,) int64.
        excluded: items that count for nothing; pairs may be repeated, and the positive itself always counts.

    Returns:
        (B,) float64, from 1 to V.

    Raises:
        ValueError: a score is NaN, which no order holds.
    """
    rows, others = excluded
    kept = others != positives[rows]
    n_tiles = -(-(len(items) - 1) // TILE)
    of_positives = _by_tile(torch.arange(len(users), device=users.device), positives, n_tiles)
    of_excluded = _by_tile(rows[kept], others[kept], n_tiles)
    own = _own_scores(users, items, bias, positives)
    ranks, seen = _sweep(users, items, bias, own, of_positives, of_excluded)
    if not torch.equal(seen, own):  # products of other shapes may round otherwise, and the last bit decides on ties
        ranks, _ = _sweep(users, items, bias, seen, of_positives, of_excluded)
    return ranks


def _own_scores(users: Tensor, items: Tensor, bias: Tensor | None, positives: Tensor) -> Tensor:
    """(B,) the positives' scores, before any tile is computed."""
    scores = items[positives] @ users.T  # (B, B)
    if bias is not None:
        scores += bias[positives, None]
    return scores.diagonal().contiguous()  # comparisons with a strided row are several times slower


def _sweep(
    users: Tensor,
    items: Tensor,
    bias: Tensor | None,
    own: Tensor,
    of_positives: list[Pairs],
    of_excluded: list[Pairs],
) -> tuple[Tensor, Tensor]:
    """(B,) float64 ranks of scores `own` (B,), and the scores (B,) that the positives had in the tiles."""
    n_users, n_items = len(users), len(items) - 1
    size = min(TILE, n_items)  # of every tile: the last one overlaps, so that equal items have equal scores
    slices = gcd(size, _SLICES)
    scores, flags = users.new_empty(2, size, n_users)
    reached = torch.zeros(slices, n_users, dtype=torch.float64, device=users.device)
    highest = users.new_full((slices, n_users), -torch.inf)
    seen = torch.empty_like(own)

    def sliced(values: Tensor) -> Tensor:
        return values.view(slices, -1, n_users)  # (slices, size / slices, B)

    for tile, ((asked, positives), (rows, others)) in enumerate(zip(of_positives, of_excluded, strict=True)):
        begin = 1 + tile * TILE
        first = min(begin, n_items + 1 - size)
        torch.mm(items[first : first + size], users.T, out=scores)
        if bias is not None:
            scores += bias[first : first + size, None]
        highest = torch.maximum(highest, sliced(scores).amax(1))  # NaN where any is
        seen[asked] = scores[positives - first, asked]
        scores[others - first, rows] = torch.nan  # neither above a score nor equal to it
        scores[: begin - first] = torch.nan
        for compare in (torch.gt, torch.ge):
            reached += sliced(compare(scores, own, out=flags)).sum(1, dtype=torch.float32)
    refuse_nan(highest.isnan().any(0))
    return (1 + reached.sum(0)) / 2, seen  # 1 + #better + ½·#ties; the positive itself is one of `ge`


def _by_tile(rows: Tensor, items: Tensor, n_tiles: int) -> list[Pairs]:
    """The pairs of each tile."""
    tile = (items - 1) // TILE
    order = tile.argsort()
    counts = tile.bincount(minlength=n_tiles).tolist()
    return list(zip(rows[order].split(counts), items[order].split(counts), strict=True))
