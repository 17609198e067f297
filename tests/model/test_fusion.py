import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from synergen.model import fusion
from synergen.model.fusion import Fusion, ItemTable, Standardiser, TextTable


def test_standardise_by_hand() -> None:
    # Rows with text: (1, 5) and (3, 5). Mean (2, 5); std (1, 0), and a constant dimension is left at zero.
    vectors = np.array([[0, 0], [1, 5], [0, 0], [3, 5]], dtype=np.float16)
    assert_close(Standardiser(vectors, 0.5)(vectors), torch.tensor([[0, 0], [-0.5, 0], [0, 0], [0.5, 0]]).half())


def test_standardising_in_pieces_is_standardising_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Reference: the definition over the whole float32 matrix. Rows and columns are no multiples of the pieces.
    vectors = np.random.default_rng(0).normal(size=(100, 150)).astype(np.float16)
    vectors[::7] = 0
    rows = torch.from_numpy(vectors).float()
    texts = rows[rows.any(dim=1)]
    expected = (rows - texts.mean(dim=0)) / texts.std(dim=0, correction=0) * 0.1
    expected[::7] = 0
    monkeypatch.setattr(fusion, "_ROWS", 30)
    assert torch.equal(Standardiser(vectors, 0.1)(vectors), expected.half())


@pytest.mark.parametrize("inputs", ["id", "text", "both"])
def test_item_vectors_of_some_are_rows_of_all(inputs: str) -> None:
    text = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float16)
    text[[0, 3]] = 0
    table = ItemTable(7, 4, inputs, TextTable(text, 4, 0.1))  # type: ignore[arg-type]
    ids = torch.tensor([[1, 0], [7, 3]])
    assert_close(table(ids), table()[ids])
    assert table()[0].abs().max() == 0
    assert (table()[3].abs().max() == 0) == (inputs == "text")
    table().sum().backward()
    trained = {name for name, p in table.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert trained == {"id": {"id.weight"}, "text": {"text.project.weight"}}.get(
        inputs, {"id.weight", "text.project.weight"}
    )


def test_frozen_text_is_no_part_of_the_checkpoint() -> None:
    table = TextTable(np.ones((3, 5), dtype=np.float16), 4, 0.1)
    assert list(table.state_dict()) == ["project.weight"]
    assert not table.vectors.requires_grad


def test_fusion_is_an_mlp_over_the_concatenation_plus_the_item() -> None:
    # The reference concatenates [query; item; action] as the paper writes it, and adds the scaled item.
    torch.manual_seed(0)
    fusion = Fusion(6, 2, dropout=0.0)
    items, queries, actions = torch.randn(3, 4, 6), torch.randn(3, 1, 6), torch.tensor([[0], [1], [2]])
    weight = torch.cat([fusion.from_query.weight, fusion.from_item.weight, fusion.from_action.weight], dim=1)
    parts = [queries.expand(3, 4, 6), items, fusion.action(actions).expand(3, 4, 6)]
    hidden = F.linear(torch.cat(parts, dim=-1) * 6**0.5, weight, fusion.from_item.bias)
    assert_close(fusion(items, actions, queries), items * 6**0.5 + fusion.out(F.gelu(hidden)))
    assert_close(fusion(items, actions), fusion(items, actions, torch.zeros(6)))
