"""Item vectors that are made of text, in place of a module's own table of id vectors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from baselines.recbole_settings import Inputs
from synergen.contract import DataView, Task
from synergen.errors import UserError
from synergen.model.fusion import INITIAL_STD, ItemTable, TextTable

TEXT_SCALE = 0.1
"""Standard deviation of the standardised text vectors: how fast their projection learns beside id vectors."""


class ReadsItemText:
    """What models share whose setting `inputs` says what their item vectors are made of."""

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        """See `Recommender`: item vectors may be made of text."""
        return settings.get("inputs", "id") != "id"


def text_items(data: DataView, width: int, inputs: Inputs, model: str) -> ItemTable:
    """Item vectors (V + 1, D) of projected text, or of its sum with id vectors; both parts start equally large. An item
    without text has the zero vector in the place of its text.

    Raises:
        UserError: the data have no text vectors.
    """
    if data.item_vectors is None:
        raise UserError(
            f"{model}: setting 'inputs' is '{inputs}' but the data have no item text vectors; encode the item texts or "
            "set inputs to 'id'"
        )
    items = ItemTable(data.n_items, width, inputs, TextTable(data.item_vectors, width, TEXT_SCALE))
    assert items.text is not None
    nn.init.normal_(items.text.project.weight, std=items.text.initial_std)
    if items.id is not None:
        nn.init.normal_(items.id.weight, std=INITIAL_STD)
        items.id.weight.data[0] = 0
    return items


class WithMask(nn.Module):
    """Item vectors, and a trained one for the [MASK] token, whose number follows the last item's."""

    def __init__(self, items: ItemTable, n_items: int, width: int) -> None:
        super().__init__()
        self.items, self.n_items = items, n_items
        self.mask = nn.Parameter(torch.randn(width) * INITIAL_STD)

    def forward(self, ids: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of `ids` (...), 0..V + 1, or (V + 1, D) of the items."""
        if ids is None:
            return self.items()
        masked = ids > self.n_items
        return torch.where(masked[..., None], self.mask, self.items(ids.masked_fill(masked, 0)))
