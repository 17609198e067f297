"""Ranks among the whole catalogue where scores are inner products, at little more than the cost of the products."""

from functools import partial
from math import gcd

import torch
from torch import Tensor

from synergen.distributed import total
from synergen.evaluation.metrics import refuse_nan

TILE = 4096
"""Items scored at a time: the scores of 256 requests are then 4 MiB of float32, which caches hold."""

_SLICES = 16
"""Parts of a tile that are summed apart: each thread then reads the rows that it has written."""

Pairs = tuple[Tensor, Tensor]
"""Requests (N,), numbered in their batch, and items (N,)."""


def inner_product_ranks(
    users: Tensor, items: Tensor, bias: Tensor | None, positives: Tensor, excluded: Pairs, first: int | None = None
) -> Tensor:
    """Rank of each request's positive among items 1..V, as `rank_of_positive` has it; one tile of scores is held.

    Args:
        users: (B, D), what each request looks for.
        items: (V + 1, D), row 0 is padding.
        bias: (V + 1,) added to the scores.
        positives: (B,) int64.
        excluded: items that count for nothing; pairs may be repeated, and the positive itself always counts.
        first: where `items` and `bias` are only the rows of this process, the item of the first one. All processes then
            ask for the same requests at the same time, and what each counts among its rows is added up.

    Returns:
        (B,) float64, from 1 to V.

    Raises:
        ValueError: a score is NaN, which no order holds.
    """
    everyone = torch.arange(len(users), device=users.device)
    rows, others = excluded
    kept = others != positives[rows]
    asked, unwanted = (everyone, positives), (rows[kept], others[kept])
    if first is not None:
        asked, unwanted = (_among(pairs, first, len(items)) for pairs in (asked, unwanted))
    lowest = 0 if first else 1
    n_tiles = -(-(len(items) - lowest) // TILE)
    of_positives, of_excluded = _by_tile(asked, lowest, n_tiles), _by_tile(unwanted, lowest, n_tiles)
    own = users.new_zeros(len(users))
    own[asked[0]] = _own_scores(users[asked[0]], items, bias, asked[1])
    sweep = partial(_sweep, users, items, bias, lowest, of_positives, of_excluded)
    if first is None:
        reached, seen = sweep(own)
    else:
        own = total(own)
        reached, seen = map(total, sweep(own))
    if not torch.equal(seen, own):  # products of other shapes may round otherwise, and the last bit decides on ties
        reached, _ = sweep(seen)
        reached = reached if first is None else total(reached)
    return (1 + reached) / 2  # 1 + #better + ½·#ties; the positive itself is one of `ge`


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
    lowest: int,
    of_positives: list[Pairs],
    of_excluded: list[Pairs],
    own: Tensor,
) -> tuple[Tensor, Tensor]:
    """How often the rows from `lowest` on are above scores `own` (B,), and how often at or above them, summed: (B,)
    float64; and the scores (B,) that the positives have in the tiles, 0 for those elsewhere."""
    n_users, n_items = len(users), len(items) - lowest
    size = min(TILE, n_items)  # of every tile: the last one overlaps, so that equal items have equal scores
    slices = gcd(size, _SLICES)
    scores, flags = users.new_empty(2, size, n_users)
    reached = torch.zeros(slices, n_users, dtype=torch.float64, device=users.device)
    highest = users.new_full((slices, n_users), -torch.inf)
    seen = torch.zeros_like(own)

    def sliced(values: Tensor) -> Tensor:
        return values.view(slices, -1, n_users)  # (slices, size / slices, B)

    for tile, ((asked, positives), (rows, others)) in enumerate(zip(of_positives, of_excluded, strict=True)):
        begin = lowest + tile * TILE
        first = min(begin, lowest + n_items - size)
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
    return reached.sum(0), seen


def _among(pairs: Pairs, first: int, n_rows: int) -> Pairs:
    """The pairs whose items are among the `n_rows` from `first` on, by their row."""
    rows, items = pairs
    here = (items >= first) & (items < first + n_rows)
    return rows[here], items[here] - first


def _by_tile(pairs: Pairs, lowest: int, n_tiles: int) -> list[Pairs]:
    """The pairs of each tile."""
    rows, items = pairs
    tile = (items - lowest) // TILE
    order = tile.argsort()
    counts = tile.bincount(minlength=n_tiles).tolist()
    return list(zip(rows[order].split(counts), items[order].split(counts), strict=True))
