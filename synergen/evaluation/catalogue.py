"""Ranks among the whole catalogue where scores are inner products, at little more than the cost of the products."""

from math import gcd

import torch
from torch import Tensor

from synergen.evaluation.metrics import refuse_nan

TILE = 4096
"""Items scored at a time: the scores of 256 requests are then 4 MiB of float32, which caches hold."""

_SLICES = 16
"""Parts of a tile that are summed apart, so that each thread reads the rows that it has written."""


def inner_product_ranks(
    users: Tensor, items: Tensor, bias: Tensor | None, positives: Tensor, excluded: tuple[Tensor, Tensor]
) -> Tensor:
    """Rank of each request's positive among items 1..V, as `rank_of_positive` has it; two tiles of scores are held.

    Args:
        users: (B, D), what each request looks for.
        items: (V + 1, D), row 0 is padding.
        bias: (V + 1,) added to the scores.
        positives: (B,) int64 item ids.
        excluded: requests (N,) and items (N,) of pairs that count for nothing; they may be repeated, and a positive
            always counts.

    Returns:
        (B,) float64, from 1 to V.

    Raises:
        ValueError: a score is NaN, which no order holds.
    """
    rows, touched = excluded
    counted = touched == positives[rows]
    of_positives = _by_tile(torch.arange(len(users), device=users.device), positives, len(items) - 1)
    of_excluded = _by_tile(rows[~counted], touched[~counted], len(items) - 1)
    own = (items[positives] @ users.T).diagonal().clone()  # (B,)
    if bias is not None:
        own += bias[positives]
    ranks, seen = _sweep(users, items, bias, own, of_positives, of_excluded)
    if not torch.equal(seen, own):  # a product of another shape may round otherwise, and a last bit decides ties
        ranks, _ = _sweep(users, items, bias, seen, of_positives, of_excluded)
    return ranks


Pairs = list[tuple[Tensor, Tensor]]
"""For each tile, requests (N,) and items (N,)."""


def _sweep(
    users: Tensor, items: Tensor, bias: Tensor | None, own: Tensor, of_positives: Pairs, of_excluded: Pairs
) -> tuple[Tensor, Tensor]:
    """Ranks (B,) float64 of scores `own` (B,), and the positives' scores (B,) as the tiles had them."""
    n_requests, n_items = len(users), len(items) - 1
    size = min(TILE, n_items)  # of all tiles, the last too, which overlaps: so equal items have equal scores
    slices = gcd(size, _SLICES)
    scores, flags = users.new_empty(2, size, n_requests)
    ahead = torch.zeros(slices, n_requests, dtype=torch.float64, device=users.device)
    highest = users.new_full((slices, n_requests), -torch.inf)
    seen = torch.empty_like(own)

    def sliced(values: Tensor) -> Tensor:
        return values.view(slices, -1, n_requests)  # (slices, size / slices, B)

    for tile, (positives, touched) in enumerate(zip(of_positives, of_excluded, strict=True)):
        begin = 1 + tile * TILE
        first = min(begin, n_items + 1 - size)
        torch.mm(items[first : first + size], users.T, out=scores)
        if bias is not None:
            scores += bias[first : first + size, None]
        highest = torch.maximum(highest, sliced(scores).amax(1))  # NaN if any is
        seen[positives[0]] = scores[positives[1] - first, positives[0]]
        scores[touched[1] - first, touched[0]] = torch.nan  # neither above nor equal to anything
        scores[: begin - first] = torch.nan
        for compare in (torch.gt, torch.ge):
            ahead += sliced(compare(scores, own, out=flags)).sum(1, dtype=torch.float32)
    refuse_nan(highest.isnan().any(0))
    return (1 + ahead.sum(0)) / 2, seen  # 1 + #better + ½·#ties, where `ge` has counted the positive itself


def _by_tile(rows: Tensor, items: Tensor, n_items: int) -> Pairs:
    tile = (items - 1) // TILE
    order = tile.argsort()
    counts = torch.bincount(tile, minlength=-(-n_items // TILE)).tolist()
    return list(zip(rows[order].split(counts), items[order].split(counts), strict=True))
