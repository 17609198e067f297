"""Who may attend to whom, written out literally: the reference that the decoder is tested against.

Paper section 3.4 ("Task specific masking matrix").
"""

from enum import IntEnum

import torch
from torch import Tensor


class Kind(IntEnum):
    """The kinds of token."""

    CONTEXT = 0
    RETRIEVAL = 1
    RANKING = 2


def task_mask(kinds: Tensor, events: Tensor, groups: Tensor, valid: Tensor) -> Tensor:
    """allow(i, j) of N tokens, (B, N, N) bool: whether token i sees token j.

    - i = j;
    - both context, and j belongs to an earlier event;
    - i a task token, j context of an earlier request group;
    - i ranking, j the retrieval token of the same event.

    So nothing sees a ranking token but itself, and candidates never see one another. A stack of layers lets through
    no more than one layer, provided that groups never decrease along a sequence.

    Args:
        kinds: (B, N) `Kind` of each token.
        events: (B, N) ordinal of the event that each token belongs to.
        groups: (B, N) request group of that event.
        valid: (B, N) bool, false on padding, which only itself sees.
    """
    i, j = (
        (slice(None), slice(None), None),
        (slice(None), None, slice(None)),
    )  # rows (B, N, 1), columns (B, 1, N)
    context, retrieval, ranking = (kinds == kind for kind in Kind)
    earlier_event = context[i] & context[j] & (events[j] < events[i])
    earlier_request = ~context[i] & context[j] & (groups[j] < groups[i])
    own_retrieval = ranking[i] & retrieval[j] & (events[i] == events[j])
    itself = torch.eye(kinds.shape[1], dtype=torch.bool, device=kinds.device)
    return itself | valid[j] & (earlier_event | earlier_request | own_retrieval)
