"""Cutting histories. Expected rows are written out by hand."""

import torch

from synergen.contract import Histories


def histories(rows: list[list[int]], width: int) -> Histories:
    items = torch.tensor([row + [0] * (width - len(row)) for row in rows], dtype=torch.long).reshape(len(rows), width)
    return Histories(items, items * 10, items * 100, items, items, torch.tensor([len(row) for row in rows]))


def test_the_last_events_are_the_newest_and_stay_padded_on_the_right():
    last = histories([[1, 2, 3, 4, 5], [6, 7], [], [8, 9, 1]], width=5).last(3)
    assert last.items.tolist() == [[3, 4, 5], [6, 7, 0], [0, 0, 0], [8, 9, 1]]
    assert last.times.tolist()[0] == [300, 400, 500]
    assert last.lengths.tolist() == [3, 2, 0, 3]
    assert last.valid.tolist()[1] == [True, True, False]


def test_histories_without_any_event_get_one_empty_column():
    last = histories([[], []], width=0).last(3)
    assert last.items.tolist() == [[0], [0]]
    assert last.lengths.tolist() == [0, 0]
