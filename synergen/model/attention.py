"""The two attentions of the decoder: among context tokens, and from task tokens to context.

Here a token is a column: activations are (D, tokens), not (tokens, D), and their gradients too. Then rotations, masks,
the softmax and what task tokens give to one another run along many contiguous tokens, however narrow a head is, and
matrix products take their operands as they lie.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def product_dtype(x: Tensor) -> torch.dtype:
    """What matrix products of `x` are computed in."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


def context_attention(
    query: Tensor, key: Tensor, value: Tensor, past: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention of N context tokens a sequence, which follow the T of `past`.

    Args:
        query, key, value: (H, D / H, 1, B, N); queries and keys are rotated.
        past: keys and values (B, H, D / H, T) of the tokens before, or none, where T is 0.

    Returns:
        The heads' outputs (H, D / H, 1, B, N), and the keys and values (B, H, D / H, T + N).
    """
    new = query.shape[-1]
    keys, values = (part.permute(3, 0, 1, 2, 4).flatten(3) for part in (key, value))  # (B, H, D / H, N)
    if past is not None:
        keys, values = (torch.cat(parts, dim=-1) for parts in zip(past, (keys, values), strict=True))
    flat_keys, queries = keys.flatten(0, 1).mT, _by_sequence(query)
    if new == 1:  # it sees all keys, and serving waits for it
        logits = flat_keys @ (queries * _scale(query))  # (B·H, T + 1, 1)
    else:
        # Causality alone keeps padding, which is on the right, from every valid token.
        steps = keys.shape[-1]
        hidden = query.new_full((steps, new), -math.inf).tril(new - steps - 1)  # key t of query n: t > n + T
        logits = torch.baddbmm(hidden, flat_keys, queries, alpha=_scale(query))  # (B·H, T + N, N)
    mixed = values.flatten(0, 1) @ logits.softmax(1)  # (B·H, D / H, N)
    return _by_column(mixed, query.shape), keys, values


def task_mask_columns(visible: Tensor, tokens: int, dtype: torch.dtype) -> Tensor:
    """What is added to the logits of `task_attention`, 0 or -inf: (B, 1, T + S, R·E) for visible (B, E, T).

    S rows follow the context's: the token itself and, where R > 1, the retrieval token of its event.
    """
    batch, events, steps = visible.shape
    mask = torch.zeros(batch, 1, steps + min(tokens, 2), tokens, events, dtype=dtype, device=visible.device)
    unseen = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -math.inf)
    mask[:, 0, :steps] = unseen.mT[:, :, None]
    if tokens > 1:
        mask[:, 0, -1, 0] = -math.inf  # the retrieval token sees itself once
    return mask.flatten(-2)


def task_attention(
    rotated: Tensor, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, mask: Tensor
) -> Tensor:
    """Attention of task tokens, under one softmax, to the context, to themselves, and to the retrieval token of their
    own event.

    Tokens of one event share their rotation, which cancels in their products with one another: their keys need none.

    Args:
        rotated: (H, D / H, R, B, E) rotated queries; token 0 of R is the retrieval token.
        query, key, value: (H, D / H, R, B, E), not rotated.
        keys, values: (B, H, D / H, T) of the context.
        mask: (B, 1, T + S, R·E), see `task_mask_columns`.

    Returns:
        The heads' outputs (H, D / H, R, B, E).
    """
    mixed: Tensor = _TaskAttention.apply(rotated, query, key, value, keys, values, mask)
    return mixed


def task_weights(rotated: Tensor, query: Tensor, key: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """The weights (B·H, T + S, R·E) by which `task_attention`, given the same and the values, mixes values."""
    return _weights(_by_sequence(rotated), query, key, _padded(keys, mask) * _scale(query), mask)


class _TaskAttention(torch.autograd.Function):
    """Autograd would keep the logits and their parts beside the weights, and go over them several times more."""

    @staticmethod
    def forward(
        ctx: Any, rotated: Tensor, query: Tensor, key: Tensor, value: Tensor, keys: Tensor, values: Tensor, mask: Tensor
    ) -> Tensor:
        rotated = _by_sequence(rotated)  # (B·H, D / H, R·E)
        keys, values = _padded(keys, mask) * _scale(query), _padded(values, mask)  # (B·H, D / H, T + S)
        weights = _weights(rotated, query, key, keys, mask)  # (B·H, T + S, R·E)
        mixed = _by_column(values @ weights, query.shape).contiguous()  # (H, D / H, R, B, E)
        _add_own(mixed, _own(weights, query.shape), value)
        ctx.save_for_backward(rotated, query, key, value, keys, values, weights)
        return mixed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rotated, query, key, value, keys, values, weights = ctx.saved_tensors
        shape, scale = query.shape, _scale(query)
        of_mixed = _by_sequence(grad)  # (B·H, D / H, R·E)
        of_weights = values.mT @ of_mixed  # (B·H, T + S, R·E)
        _dot_own(grad, value, _own(of_weights, shape))
        of_logits = torch._softmax_backward_data(of_weights, weights, 1, weights.dtype)  # (B·H, T + S, R·E)
        of_rotated = _by_column(keys @ of_logits, shape)  # (H, D / H, R, B, E)
        of_own = _own(of_logits, shape) * scale  # (S, H, R, B, E)
        of_query = torch.zeros_like(query)
        _add_own(of_query, of_own, key)
        of_key, of_value = _from_own(query, of_own), _from_own(grad, _own(weights, shape))
        of_keys, of_values = rotated @ of_logits.mT * scale, of_mixed @ weights.mT  # (B·H, D / H, T + S)
        return of_rotated, of_query, of_key, of_value, _unpadded(of_keys, shape), _unpadded(of_values, shape), None


def _weights(rotated: Tensor, query: Tensor, key: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
    """`task_weights` of queries (B·H, D / H, R·E) and keys (B·H, D / H, T + S), scaled and padded."""
    logits = keys.mT @ rotated  # (B·H, T + S, R·E)
    own = _own(logits, query.shape)
    _dot_own(query, key, own)
    own *= _scale(query)
    logits.unflatten(0, (mask.shape[0], query.shape[0])).add_(mask)
    return logits.softmax(1, dtype=logits.dtype)  # on GPUs, autocast would widen it and backward meet two dtypes


def _scale(query: Tensor) -> float:
    """Of logits: 1 / √(D / H)."""
    return 1 / math.sqrt(query.shape[1])


def _padded(keys: Tensor, mask: Tensor) -> Tensor:
    """Keys or values (B, H, D / H, T) and S zeros, (B·H, D / H, T + S): products leave room for the tokens' own logits,
    and sums take no account of the tokens' own weights."""
    return F.pad(keys, (0, mask.shape[2] - keys.shape[-1])).flatten(0, 1)


def _unpadded(keys: Tensor, shape: torch.Size) -> Tensor:
    """The other way."""
    return keys[..., : keys.shape[-1] - _n_own(shape)].unflatten(0, (shape[3], shape[0]))


def _n_own(shape: torch.Size) -> int:
    """S: with itself, and with the retrieval token where there are others."""
    return min(shape[2], 2)


def _by_sequence(columns: Tensor) -> Tensor:
    """(H, D / H, R, B, E) as (B·H, D / H, R·E)."""
    heads, width, tokens, batch, events = columns.shape
    return columns.permute(3, 0, 1, 2, 4).reshape(batch * heads, width, tokens * events)


def _by_column(sequences: Tensor, shape: torch.Size) -> Tensor:
    """(B·H, D / H, R·E) as a view of shape (H, D / H, R, B, E)."""
    heads, _, tokens, batch, events = shape
    return sequences.unflatten(0, (batch, heads)).unflatten(-1, (tokens, events)).permute(1, 2, 3, 0, 4)


def _own(logits: Tensor, shape: torch.Size) -> Tensor:
    """The last S rows of (B·H, T + S, R·E), a view (S, H, R, B, E)."""
    return _by_column(logits[:, -_n_own(shape) :], shape).transpose(0, 1)


def _dot_own(x: Tensor, y: Tensor, out: Tensor) -> None:
    """Inner products of each token of x (H, D / H, R, B, E) with the same token of y, and with the event's retrieval
    token of y, which is token 0 and has none with itself: `out` (S, H, R, B, E)."""
    out[0] = (x * y).sum(1)
    if len(out) > 1:
        out[1][:, 1:] = (x[:, :, 1:] * y[:, :, :1]).sum(1)


def _add_own(x: Tensor, weights: Tensor, y: Tensor) -> None:
    """Add to x what each token takes from the same token of y, and from the event's retrieval token."""
    weights = weights.contiguous()[:, :, None]  # (S, H, 1, R, B, E)
    x.addcmul_(weights[0], y)
    if len(weights) > 1:
        x[:, :, 1:].addcmul_(weights[1][:, :, 1:], y[:, :, :1])


def _from_own(x: Tensor, weights: Tensor) -> Tensor:
    """The transpose of `_add_own`: (H, D / H, R, B, E) summed from the tokens x that took."""
    weights = weights.contiguous()[:, :, None]  # (S, H, 1, R, B, E)
    y = weights[0] * x
    if len(weights) > 1:
        y[:, :, 0] += (weights[1][:, :, 1:] * x[:, :, 1:]).sum(2)
    return y
