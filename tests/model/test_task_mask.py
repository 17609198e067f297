import torch

from synergen.model.task_mask import Kind, task_mask

C, R, K = Kind.CONTEXT, Kind.RETRIEVAL, Kind.RANKING


def test_two_requests_by_hand() -> None:
    # Events 0 and 1 share request 0, event 2 is request 1. Each row says what one token sees, from the four rules.
    kinds = torch.tensor([[C, C, C, R, R, R, K, K, K]])
    events = torch.tensor([[0, 1, 2, 0, 1, 2, 1, 2, 2]])
    groups = torch.tensor([[0, 0, 1, 0, 0, 1, 0, 1, 1]])
    expected = [
        #  C0 C1 C2 R0 R1 R2 K1 K2 K2'
        [1, 0, 0, 0, 0, 0, 0, 0, 0],  # C0
        [1, 1, 0, 0, 0, 0, 0, 0, 0],  # C1
        [1, 1, 1, 0, 0, 0, 0, 0, 0],  # C2
        [0, 0, 0, 1, 0, 0, 0, 0, 0],  # R0
        [0, 0, 0, 0, 1, 0, 0, 0, 0],  # R1: event 0 belongs to its own request
        [1, 1, 0, 0, 0, 1, 0, 0, 0],  # R2
        [0, 0, 0, 0, 1, 0, 1, 0, 0],  # K1
        [1, 1, 0, 0, 0, 1, 0, 1, 0],  # K2: not the other candidate
        [1, 1, 0, 0, 0, 1, 0, 0, 1],  # K2'
    ]
    allowed = task_mask(kinds, events, groups, torch.ones_like(kinds, dtype=torch.bool))
    assert allowed[0].int().tolist() == expected


def test_padding_is_seen_by_itself_only() -> None:
    kinds, events = torch.tensor([[C, C, R]]), torch.tensor([[0, 1, 2]])
    allowed = task_mask(kinds, events, events, torch.tensor([[False, True, True]]))
    assert allowed[0].int().tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
