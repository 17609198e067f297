"""What models of sequences have in common, whatever they are made of: what they refuse, and the state that answers."""

import torch
from torch import Tensor

from synergen.contract import Batch
from synergen.errors import UserError


def refuse_unreadable(batch: Batch, max_history: int, n_items: int) -> None:
    """Refuse training sequences that a model of V items does not read whole.

    Raises:
        UserError: a sequence of more than max_history + 1 events, or an item that the model does not know.
    """
    width = batch.events.items.shape[1]
    if width > max_history + 1:
        raise UserError(
            f"a training batch has sequences of {width} events and the model reads {max_history} before the one it "
            "predicts: cut sequences to max_history + 1, or raise the setting max_history"
        )
    refuse_unknown(batch.events.items, n_items)


def refuse_unknown(items: Tensor, n_items: int) -> None:
    """Refuse items (...) beyond V, unless they are on a GPU, which would have to wait for the look.

    Raises:
        UserError: an item that the model does not know.
    """
    if items.device.type == "cpu" and items.numel() and (largest := int(items.max())) > n_items:
        raise UserError(
            f"a history has item {largest} and the model knows items 1 to {n_items}: build it from the data set that "
            "the histories come from"
        )


def last_states(states: Tensor, lengths: Tensor) -> Tensor:
    """(B, D): of states (B, T, D) the one at the last event of each history, zero for an empty history."""
    rows = torch.arange(len(lengths), device=lengths.device)
    return states[rows, (lengths - 1).clamp(min=0)].masked_fill((lengths == 0)[:, None], 0.0)
