"""The decoder: a causal stream of context tokens, which task tokens read and never write.

Paper section 3.3. No token sees a task token of another event (`task_mask.py`), so the mask's matrix is never
built: a layer costs T² + T·R·T attention logits in place of (T·(1 + R))², and serving runs the same code on a
history that is encoded once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.model.attention import context_attention, product_dtype, task_attention, task_mask_columns, task_weights
from synergen.model.dropout import Dropout
from synergen.model.time_rope import Rotation, rotate_columns, rotation_columns


@dataclass(frozen=True)
class ContextState:
    """An encoded history: all that task tokens need of it."""

    outputs: Tensor  # (B, T, D), normalised
    keys: list[Tensor]  # (B, H, D / H, T) of each layer, rotated
    values: list[Tensor]  # (B, H, D / H, T) of each layer


class DecoderLayer(nn.Module):
    """A pre-norm transformer layer, applied to context tokens and to task tokens with the same weights.

    Tokens are (R, B, N, D), R being 1 for context. The projections of the attention are (H, D / H, R, B, N).
    """

    def __init__(self, width: int, heads: int, ffn_width: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
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
        self, x: Tensor, rotation: Rotation, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Causal attention among context tokens, which also see those before, if `past` gives their keys and values.

        Returns:
            New tokens (1, B, N, D), and the keys and values (B, H, D / H, T + N).
        """
        projected = self._project(x)
        query, key = rotate_columns(projected[:-1].flatten(0, 1), rotation).chunk(2)
        mixed, keys, values = context_attention(query, key, projected[-1], past)
        return self._finish(x, mixed), keys, values

    def tasks(self, x: Tensor, rotation: Rotation, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of task tokens to context, to the retrieval token of their own event, and to themselves.

        Returns:
            New tokens (R, B, E, D).
        """
        query, key, value = self._project(x)
        mixed = task_attention(rotate_columns(query, rotation), query, key, value, keys, values, mask)
        return self._finish(x, mixed)

    def weights(self, x: Tensor, rotation: Rotation, keys: Tensor, mask: Tensor) -> Tensor:
        """The attention weights of `tasks`: (B, H, E, R, T + S)."""
        query, key, _ = self._project(x)
        weights = task_weights(rotate_columns(query, rotation), query, key, keys, mask)  # (B·H, T + S, R·E)
        return weights.unflatten(-1, (len(x), -1)).unflatten(0, keys.shape[:2]).permute(0, 1, 4, 3, 2)

    def _project(self, x: Tensor) -> Tensor:
        """Queries, keys and values (3, H, D / H, R, B, N), not yet rotated."""
        rows = self.attention_norm(x).flatten(0, -2)  # (R·B·N, D)
        qkv = torch.addmm(self.qkv.bias[:, None], self.qkv.weight, rows.T)  # (3·D, R·B·N)
        return qkv.view(3, self.heads, x.shape[-1] // self.heads, *x.shape[:-1])

    def _finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The rest of the layer, from the heads' outputs to new tokens."""
        columns = mixed.reshape(x.shape[-1], -1)  # (D, R·B·N)
        x = x + self.dropout(self.out(columns.T)).view(x.shape)
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
        return self._follow(None, context, rotation)

    def extend(self, state: ContextState, context: Tensor, rotation: Rotation) -> ContextState:
        """Append n ≥ 1 context tokens to encoded histories of T events, without encoding these again: exact, since no
        context token sees a later one.

        Args:
            state: T events of each history, none of them padding.
            context: (B, n, D), what follows them.
            rotation: (B, n, P), counted from the same origin.

        Returns:
            The state of T + n events, in tensors of its own.
        """
        return self._follow(state, context, rotation)

    def attend(self, state: ContextState, tasks: Tensor, rotation: Rotation, visible: Tensor) -> Tensor:
        """Outputs (B, E, R, D) of the task tokens of E requests a sequence.

        Args:
            state: the encoded context of T events.
            tasks: (B, E, R, D); token 0 of each request is its retrieval token, the others are ranking tokens.
            rotation: (B, E, P), shared by the tokens of a request.
            visible: (B, E, T) bool, the context events of earlier request groups.
        """
        x, columns, mask = self._as_columns(tasks, rotation, visible)
        for layer, keys, values in zip(self._layers(), state.keys, state.values, strict=True):
            x = layer.tasks(x, columns, keys, values, mask)
        return self.norm(x).permute(1, 2, 0, 3)

    def weights(self, state: ContextState, tasks: Tensor, rotation: Rotation, visible: Tensor) -> Tensor:
        """Attention weights of each layer in `attend`, (L, B, H, E, R, T + 2): on the T context events, on the token
        itself, and on the retrieval token of the request, which has 0 there. The arguments are those of `attend`."""
        x, columns, mask = self._as_columns(tasks, rotation, visible)
        weights = []
        for layer, keys, values in zip(self._layers(), state.keys, state.values, strict=True):
            weights.append(layer.weights(x, columns, keys, mask))
            x = layer.tasks(x, columns, keys, values, mask)
        return F.pad(torch.stack(weights), (0, 2 - min(len(x), 2)))  # a retrieval token alone has no second weight

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

    def _follow(self, state: ContextState | None, context: Tensor, rotation: Rotation) -> ContextState:
        """Encode the context tokens that follow those of `state`."""
        columns = rotation_columns(rotation, product_dtype(context))
        x, keys, values = context[None], [], []
        for i, layer in enumerate(self._layers()):
            past = None if state is None else (state.keys[i], state.values[i])
            x, key, value = layer.context(x, columns, past)
            keys.append(key)
            values.append(value)
        outputs = self.norm(x[0])
        return ContextState(outputs if state is None else torch.cat([state.outputs, outputs], dim=1), keys, values)

    def _as_columns(self, tasks: Tensor, rotation: Rotation, visible: Tensor) -> tuple[Tensor, Rotation, Tensor]:
        """Task tokens (R, B, E, D), their rotation and their mask, as layers take them."""
        dtype = product_dtype(tasks)
        x = tasks.permute(2, 0, 1, 3).contiguous()  # (R, B, E, D)
        return x, rotation_columns(rotation, dtype), task_mask_columns(visible, len(x), dtype)

    def _layers(self) -> Iterator[DecoderLayer]:
        return cast(Iterator[DecoderLayer], iter(self.layers))
