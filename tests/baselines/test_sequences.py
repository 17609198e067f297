"""The state that answers. Expected values: picked by hand."""

import torch

from baselines.sequences import last_states


def test_the_last_state_is_that_of_the_last_event() -> None:
    """Of three histories with 2, 0 and 3 events, beside padding."""
    states = torch.arange(18.0).view(3, 3, 2)  # (B, T, D)
    found = last_states(states, torch.tensor([2, 0, 3]))
    assert found.tolist() == [[2.0, 3.0], [0.0, 0.0], [16.0, 17.0]]
