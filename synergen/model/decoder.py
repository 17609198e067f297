"""The decoder: a causal stream of context tokens, which task tokens read and never write.

Paper section 3.3. No token sees a task token of another event (`task_mask.py`), so the mask's matrix is never
built: a layer costs T² + T·R·T attention logits in place of (T·(1 + R))², and serving runs the same code on a
history that is encoded once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.model.dropout import Dropout
from synergen.model.time_rope import Rotation, rotate


@dataclass(frozen=True)
class ContextState:
    """An encoded history: all that task tokens need of it."""

    outputs: Tensor  # (B, T, D), normalised
    keys: list[Tensor]  # (B, H, T, D / H) of each layer, rotated
    values: list[Tensor]  # (B, H, T, D / H) of each layer


class DecoderLayer(nn.Module):
    """A pre-norm transformer layer, applied to context tokens and to task tokens with the same weights."""

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = 1 / math.sqrt(width // heads)
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.dropout = Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, ffn_width),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(ffn_width, width),
            Dropout(dropout),
        )

    def context(
        self, x: Tensor, rotation: Rotation, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Causal attention among context tokens, which also see those before, if `past` gives their keys and values.

        Args:
            x: (B, N, D), padded on the right.
            rotation: (B, N, P).

        Returns:
            New tokens (B, N, D), and the keys and values (B, H, T + N, D / H).
        """
        # Causality alone keeps padding, which is on the right, from every valid token.
        query, key, value = self._project(x, rotation.cos[:, None], rotation.sin[:, None])
        visible = None
        if past is not None:
            key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
            visible = torch.ones(x.shape[1], key.shape[2], dtype=torch.bool, device=x.device).tril(past[0].shape[2])
        mixed = F.scaled_dot_product_attention(query, key, value, visible, is_causal=past is None)
        return self._finish(x, mixed), key, value

    def tasks(self, x: Tensor, rotation: Rotation, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
        """Attention of task tokens, under one softmax, to visible context, to the retrieval token of their own
        event, and to themselves.

        Args:
            x: (B, E, R, D); token 0 of R is the retrieval token.
            rotation: (B, E, P).
            keys, values: (B, H, T, D / H) of the context.
            visible: (B, E, T) bool.

        Returns:
            New tokens (B, E, R, D).
        """
        events, tokens = x.shape[1:3]
        cos, sin = rotation.cos[:, None, :, None], rotation.sin[:, None, :, None]  # (B, 1, E, 1, P)
        query, key, value = self._project(x, cos, sin)  # (B, H, E, R, D / H)
        query = query * self.scale
        on_context = query.flatten(2, 3) @ keys.transpose(-1, -2)  # (B, H, E·R, T)
        on_context = on_context.unflatten(2, (events, tokens))  # (B, H, E, R, T)
        hidden = ~visible[:, None, :, None, :]  # (B, 1, E, 1, T)
        logits = [on_context.masked_fill_(hidden, -math.inf), (query * key).sum(-1, keepdim=True)]
        if tokens > 1:
            on_retrieval = (query * key[..., :1, :]).sum(-1, keepdim=True)  # (B, H, E, R, 1)
            is_retrieval = torch.arange(tokens, device=x.device)[:, None] == 0  # (R, 1): it sees itself once
            logits.append(on_retrieval.masked_fill(is_retrieval, -math.inf))
        weights = torch.cat(logits, dim=-1).softmax(dim=-1).to(value.dtype)  # (B, H, E, R, T + 1 or 2)
        of_context, of_self, *of_retrieval = weights.split([part.shape[-1] for part in logits], dim=-1)
        mixed = (of_context.flatten(2, 3) @ values).unflatten(2, (events, tokens))  # (B, H, E, R, D / H)
        mixed = torch.addcmul(mixed, of_self, value)
        for weight in of_retrieval:
            mixed = torch.addcmul(mixed, weight, value[..., :1, :])
        return self._finish(x, mixed)

    def _project(self, x: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, (B, H, ..., D / H) each, of tokens (B, ..., D)."""
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1))  # (B, ..., 3, H, D / H)
        query, key, value = qkv.movedim((-3, -2), (0, 2))  # (B, H, ..., D / H)
        return rotate(query, cos, sin), rotate(key, cos, sin), value

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The rest of the layer, from the heads' output (B, H, ..., D / H) to new tokens (B, ..., D)."""
        x = x + self.dropout(self.out(mixed.movedim(1, -2).flatten(-2)))  # (B, ..., D)
        return x + self.feed_forward(x)


class Decoder(nn.Module):
    """L layers and a final normalisation.

    Args:
        width: D.
        layers: L.
        heads: H.
        ffn_width: hidden units of the feed-forward layers.
        dropout: of residual branches and hidden units.
    """

    def __init__(self, width: int, layers: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn_width, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def encode(self, context: Tensor, rotation: Rotation) -> ContextState:
        """Encode context tokens (B, T, D), padded on the right, with their rotation (B, T, P)."""
        keys, values = [], []
        for layer in self._layers():
            context, key, value = layer.context(context, rotation)
            keys.append(key)
            values.append(value)
        return ContextState(self.norm(context), keys, values)

    def extend(self, state: ContextState, context: Tensor, rotation: Rotation) -> ContextState:
        """Append context tokens (B, n, D) to encoded histories without padding: exact, since no context token sees a
        later one. Returns the state of all T + n events."""
        keys, values = [], []
        for layer, *past in zip(self._layers(), state.keys, state.values, strict=True):
            context, key, value = layer.context(context, rotation, (past[0], past[1]))
            keys.append(key)
            values.append(value)
        return ContextState(torch.cat([state.outputs, self.norm(context)], dim=1), keys, values)

    def attend(self, state: ContextState, tasks: Tensor, rotation: Rotation, visible: Tensor) -> Tensor:
        """Outputs (B, E, R, D) of the task tokens of E requests a sequence.

        Args:
            state: the encoded context of T events.
            tasks: (B, E, R, D); token 0 of each request is its retrieval token, the others are ranking tokens.
            rotation: (B, E, P), shared by the tokens of a request.
            visible: (B, E, T) bool, the context events of earlier request groups.
        """
        for layer, keys, values in zip(self._layers(), state.keys, state.values, strict=True):
            tasks = layer.tasks(tasks, rotation, keys, values, visible)
        return self.norm(tasks)

    def forward(
        self,
        context: Tensor,
        context_rotation: Rotation,
        tasks: Tensor,
        task_rotation: Rotation,
        visible: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Context outputs (B, T, D) and task outputs (B, E, R, D): `encode`, then `attend`."""
        state = self.encode(context, context_rotation)
        return state.outputs, self.attend(state, tasks, task_rotation, visible)

    def _layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.layers))
