"""Item vectors of text, of ids, and of both. Expected values: the definition, by hand from the parts."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from baselines.item_inputs import TEXT_SCALE, WithMask, text_items
from baselines.recbole_models import BERT4Rec, GRU4Rec, SASRec
from synergen.contract import Batch, DataView, Task
from synergen.errors import UserError

V = 30
SMALL = {"hidden_size": 16, "max_history": 9}
KINDS = [SASRec, BERT4Rec, GRU4Rec]


@pytest.fixture
def data(make_view: Callable[..., DataView]) -> DataView:
    """Item 7 has no text."""
    view = make_view(V)
    assert view.item_vectors is not None
    view.item_vectors[7] = 0
    return view


def test_both_is_the_id_vector_plus_the_projected_text(data: DataView) -> None:
    """Text: standardised over the 30 rows with text (row 0 of the made-up vectors has some) to a deviation of 0.1."""
    torch.manual_seed(0)
    items = text_items(data, 16, "both", "SASRec")
    raw = torch.from_numpy(data.item_vectors).float()
    written = raw.any(1)
    standard = (raw - raw[written].mean(0)) / raw[written].std(0, correction=0) * TEXT_SCALE
    expected = items.id.weight + (standard * written[:, None]) @ items.text.project.weight.T
    torch.testing.assert_close(items(), expected, rtol=0, atol=1e-4)  # text is kept in float16
    assert torch.equal(items()[7], items.id.weight[7])
    ids = torch.tensor([[3, 0], [30, 7]])
    torch.testing.assert_close(items(ids), items()[ids])


def test_text_and_ids_start_equally_large(make_view: Callable[..., DataView]) -> None:
    """Both at a standard deviation of 0.02: of 2,000 × 64 numbers the estimate is within 2 %, of the text's, which all
    come through 12 × 64 weights, within 10 %."""
    torch.manual_seed(0)
    items = text_items(make_view(2000), 64, "both", "SASRec")
    assert items.id.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert items.text().std().item() == pytest.approx(0.02, rel=0.1)


def test_the_mask_has_a_vector_of_its_own(data: DataView) -> None:
    items = text_items(data, 16, "text", "BERT4Rec")
    table = WithMask(items, V, 16)
    ids = torch.tensor([[1, V + 1], [V, 0]])
    vectors = table(ids)
    assert torch.equal(vectors[0, 1], table.mask)
    torch.testing.assert_close(vectors[[0, 1, 1], [0, 0, 1]], items(torch.tensor([1, V, 0])))
    assert torch.equal(table(), items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("inputs", ["text", "both"])
def test_text_goes_in_and_comes_out(
    kind: type, inputs: str, data: DataView, make_batch: Callable[..., Batch], make_requests: Callable[..., Any]
) -> None:
    """Other texts of one item change its score and that of a history with it; a step trains the projection."""
    model = kind(data, **SMALL, inputs=inputs).eval()
    asked, items = make_requests([[1, 2], [3, 4]], Task.RECOMMENDATION), torch.arange(1, 7)
    before = model.score(asked, items)
    text = next(module for module in model.modules() if hasattr(module, "standardise"))
    text.vectors[2] = text.vectors[9]
    change = (model.score(asked, items) - before).abs()
    assert change[0].min() > 0
    assert change[1].nonzero()[:, 0].tolist() == [1]
    model.loss(make_batch([[1, 2, 3], [4, 5, 6]]))["softmax"].backward()
    assert text.project.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_text_is_asked_for_where_it_is_read(kind: type, data: DataView) -> None:
    tasks = frozenset({Task.RECOMMENDATION})
    assert not kind.reads_text({}, tasks)
    assert kind.reads_text({"inputs": "text"}, tasks)
    assert kind.reads_text({"inputs": "both"}, tasks)
    blind = replace(data, item_vectors=None)
    kind(blind, **SMALL)
    with pytest.raises(UserError, match=f"{kind.__name__}: setting 'inputs' is 'both' but the data have no item text"):
        kind(blind, **SMALL, inputs="both")
