"""The losses of SynerGen. The paper (section 3.5) sums over positions; all of these are means over positions.

Products follow autocast; softmax, logarithms and sums are float32.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_LOGITS = 1 << 22
"""Most logits against shared negatives that exist at one time: 16 MiB, which caches still help with."""

Ban = Callable[[Tensor, slice], Tensor]


class _SharedInfoNCE(torch.autograd.Function):
    """Sum of InfoNCE over queries with shared negatives, in chunks of queries whose gradients are taken on the way.

    So no logits outlive their chunk, and none are computed twice as they would be with checkpoints. The positive of a
    query is its last logit, in the place of a key of zeros.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor,
        offsets: Tensor | None,
        ban: Ban | None,
        product_type: torch.dtype,
        max_logits: int,
    ) -> Tensor:
        """Logits of queries (N, D), already divided by τ, against negatives (K, D); `positives` (N,) are logits."""
        products = queries.to(product_type)
        keys = F.pad(negatives.to(product_type), (0, 0, 0, 1))  # (K + 1, D)
        grad_queries, grad_positives = torch.empty_like(queries), torch.empty_like(positives)
        grad_keys = keys.new_zeros(keys.shape, dtype=negatives.dtype)
        loss = positives.new_zeros(())
        step = max(1, max_logits // len(keys))
        # Memory used again and again: to get it anew for each chunk would cost as much as the products.
        buffers = list(positives.new_empty(2, min(step, len(queries)), len(keys)))
        buffers.append(buffers[0].to(product_type))
        for start in range(0, len(queries), step):
            rows = slice(start, start + step)
            logits, weights, product = (buffer[: len(products[rows])] for buffer in buffers)
            logits.copy_(torch.mm(products[rows], keys.T, out=product))  # (rows, K + 1)
            logits[:, -1] = positives[rows]
            if offsets is not None:
                logits[:, :-1] += offsets
            if ban is not None:
                ban(logits[:, :-1], rows)
            torch.softmax(logits, dim=-1, out=weights)
            log_total = logits.amax(-1) - weights.amax(-1).log()  # by the largest, whose weight cannot vanish
            loss += (log_total - positives[rows]).sum()
            grad_positives[rows] = weights[:, -1] - 1
            product.copy_(weights)
            grad_queries[rows] = (product @ keys).to(queries.dtype)
            grad_keys += product.T @ products[rows]
        ctx.save_for_backward(grad_queries, grad_positives, grad_keys[:-1])
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        return *(grad * saved for saved in ctx.saved_tensors), None, None, None, None


def _shared_infonce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
    offsets: Tensor | None,
    ban: Ban | None,
    positive_offsets: Tensor | None,
    max_logits: int,
) -> Tensor:
    device = queries.device.type
    product_type = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else queries.dtype
    with torch.autocast(device, enabled=False):
        queries = queries.float() / temperature
        own = (queries * positives.float()).sum(-1)  # (N,)
        if positive_offsets is not None:
            own = own + positive_offsets
        total = _SharedInfoNCE.apply(queries, own, negatives.float(), offsets, ban, product_type, max_logits)
    return total / max(len(queries), 1)


def infonce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    temperature: float,
    *,
    banned: Tensor | None = None,
    groups: Tensor | None = None,
    negative_offsets: Tensor | None = None,
    positive_offsets: Tensor | None = None,
) -> Tensor:
    """InfoNCE with dot-product similarity: mean over N of -log(exp(s⁺/τ) / (exp(s⁺/τ) + Σ exp(s⁻/τ))).

    Args:
        queries: (N, D).
        positives: (N, D).
        negatives: (K, D), shared by all queries.
        temperature: τ.
        banned: (G, K) bool, negatives that do not count for the queries of each of G groups.
        groups: (N,) int64, the group of each query; without it every query is one.
        negative_offsets: (K,) added to the logits: the log of how often a negative counts, less its log sampling
            probability where that is corrected for. No gradient flows into offsets.
        positive_offsets: (N,) added to the logits of positives.

    Returns:
        A scalar; 0 where N is 0.
    """
    group = torch.arange(len(queries), device=queries.device) if groups is None else groups  # (N,)
    ban = None if banned is None else lambda logits, rows: logits.masked_fill_(banned[group[rows]], -torch.inf)
    return _shared_infonce(
        queries, positives, negatives, temperature, negative_offsets, ban, positive_offsets, MAX_LOGITS
    )


def infonce_own(
    queries: Tensor, positives: Tensor, negatives: Tensor, temperature: float, *, banned: Tensor | None = None
) -> Tensor:
    """InfoNCE as `infonce`, with K negatives (N, K, D) for each query."""
    queries = queries / temperature
    own = (queries * positives).sum(-1).float()  # (N,)
    logits = (negatives @ queries[..., None]).squeeze(-1).float()  # (N, K)
    if banned is not None:
        # A finite value: queries whose negatives are all banned must not turn into nan.
        logits = logits.masked_fill(banned, -1e30)
    return F.softplus(logits.logsumexp(-1) - own).sum() / max(len(queries), 1)


def full_softmax(
    queries: Tensor, items: Tensor, targets: Tensor, temperature: float, max_logits: int = MAX_LOGITS
) -> Tensor:
    """Mean cross-entropy over the whole catalogue, logits = dot product / τ: InfoNCE against every other item.

    Args:
        queries: (N, D).
        items: (V + 1, D); row 0, padding, is never scored.
        targets: (N,) item ids, 1..V.
        temperature: τ.
        max_logits: most logits in memory at one time (those of one query at least).

    Returns:
        A scalar; 0 where N is 0.
    """
    return _shared_infonce(
        queries,
        F.embedding(targets, items),
        items[1:],
        temperature,
        None,
        lambda logits, rows: logits.scatter_(1, targets[rows, None] - 1, -torch.inf),
        None,
        max_logits,
    )


def pointwise(logits: Tensor, labels: Tensor, shown: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over ranking tokens: logits (N, C) against labels (N, C) in {0, 1}, where `shown`."""
    loss = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), weight=shown, reduction="sum")
    return loss / max(logits.numel() if shown is None else int(shown.sum()), 1)


def pairwise(logits: Tensor, labels: Tensor, shown: Tensor | None = None) -> Tensor:
    """-log σ(s⁺ - s⁻), mean over the positive-negative pairs of one request each: logits and labels (N, C), of which
    those `shown` count."""
    logits = logits.float()
    negative = labels <= 0 if shown is None else (labels <= 0) & (shown > 0)
    pairs = (labels > 0)[:, :, None] & negative[:, None, :]  # (N, C, C)
    differences = (logits[:, :, None] - logits[:, None, :])[pairs]  # (pairs,)
    return F.softplus(-differences).sum() / max(len(differences), 1)
