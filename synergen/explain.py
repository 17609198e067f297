"""Which past events an answer attended to: the attention of a task token, by layer, and its picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from synergen.contract import Requests
from synergen.errors import UserError
from synergen.files import write_atomically
from synergen.model.synergen import Encoded, SynerGen
from synergen.model.time_rope import Rotation

SHOWN = 50
"""Events of a picture: the most recent ones; what is older shares one row."""


@dataclass(frozen=True)
class Attention:
    """Attention weights of one task token, averaged over heads; they sum to one in each of the L layers."""

    events: np.ndarray  # (L, T): the history
    retrieval: np.ndarray  # (L,): the retrieval token of the request, zero where that is the token itself
    itself: np.ndarray  # (L,)


@torch.inference_mode()
def attention(model: SynerGen, encoded: Encoded, requests: Requests, item: int | None = None) -> Attention:
    """The attention of one request: of the ranking token of `item`, or of the retrieval token where there is no item.

    Args:
        encoded: one history (B = 1) of T events.

    Raises:
        UserError: an item, where the model has no ranking head.
    """
    if item is not None and model.ranking_head is None:
        raise UserError("explain: this model has no ranking head to explain an item by; leave the item out")
    candidates = None if item is None else torch.tensor([[[item]]], device=encoded.times.device)  # (B, E, C)
    tokens, rotation = _task_tokens(model, encoded, requests, candidates)
    visible = encoded.valid[:, None, :]  # (B, E, T)
    weights = model.decoder.weights(encoded.state, tokens, rotation, visible)  # (L, B, H, E, R, T + 2)
    of_token = weights[:, 0, :, 0, -1].mean(1).float().cpu().numpy()  # (L, T + 2)
    count = int(encoded.valid.sum())
    return Attention(of_token[:, :count], of_token[:, -1], of_token[:, -2])


def plot(path: Path, attention: Attention, events: Sequence[str], title: str) -> None:
    """Draw the attention of one token as a heat map, events by layers, beside its mean over layers.

    Args:
        path: a PNG, PDF or SVG file, by its ending.
        events: T labels, oldest first.

    Raises:
        UserError: the file has another ending or cannot be written.
    """
    if path.suffix not in (".png", ".pdf", ".svg"):
        raise UserError(f"{path}: a picture's name ends with .png, .pdf or .svg")
    from matplotlib.figure import Figure  # slow to import

    older, labels = attention.events[:, :-SHOWN].sum(1), list(events[-SHOWN:])
    rows = [("the token itself", attention.itself)]
    if attention.retrieval.any():
        rows.append(("the request's retrieval token", attention.retrieval))
    rows += list(zip(labels, attention.events.T[-SHOWN:], strict=True))[::-1]
    if len(events) > SHOWN:
        rows.append((f"{len(events) - SHOWN} older events, together", older))
    weights = np.array([row for _, row in rows])  # (rows, L)
    n_rows, n_layers = weights.shape

    figure = Figure(figsize=(6.4 + 0.5 * n_layers, 1.4 + 0.2 * n_rows), layout="constrained")
    heat, bars = figure.subplots(1, 2, sharey=True, width_ratios=(0.5 * n_layers, 2.4))
    drawn = heat.imshow(weights, cmap="Blues", vmin=0, vmax=weights.max(), aspect="auto")
    heat.set_yticks(range(n_rows), [name for name, _ in rows], parse_math=False)  # titles may hold dollar signs
    heat.set_xticks(range(n_layers), [str(layer + 1) for layer in range(n_layers)])
    heat.set_xlabel("layer")
    heat.tick_params(length=0, labelsize=8)
    bars.barh(range(n_rows), weights.mean(1), color="#2b6ca8", height=0.7)
    bars.set_xlabel("mean attention")
    bars.tick_params(labelsize=8)
    bars.tick_params(axis="y", length=0, labelleft=False)
    bars.spines[["top", "right"]].set_visible(False)
    for axes in (heat, bars):
        axes.axhline(n_rows - len(labels) - (len(events) > SHOWN) - 0.5, color="0.6", linewidth=0.8)
    figure.colorbar(drawn, ax=bars, label="attention", fraction=0.08)
    figure.suptitle(title, fontsize=11, parse_math=False)
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=path.suffix[1:], dpi=160))


def _task_tokens(
    model: SynerGen, encoded: Encoded, requests: Requests, candidates: Tensor | None
) -> tuple[Tensor, Rotation]:
    """The tokens (B, E, R, D) of a request before the first layer, and their rotation, as the model makes them."""
    made: dict[torch.nn.Module, object] = {}
    hooks = [
        module.register_forward_hook(lambda module, _, output: made.__setitem__(module, output))
        for module in (model.fusion, model.rope)
    ]
    try:
        model._attend(encoded, model._ask(encoded, requests), candidates, model.items)
    finally:
        for hook in hooks:
            hook.remove()
    return cast(Tensor, made[model.fusion]), cast(Rotation, made[model.rope])
