"""AdamW by rows, against torch's AdamW over all rows and against one such AdamW for each row."""

import pytest
import torch
from torch import Tensor, nn

from synergen.training.row_adam import RowAdamW

SETTINGS = {"lr": 0.1, "weight_decay": 0.05}


def table_and_optimiser(rows: int) -> tuple[nn.Parameter, RowAdamW]:
    table = nn.Parameter(torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)))
    return table, RowAdamW([{"params": [table], "name": "sparse"}], **SETTINGS)


def gradient(step: int, read: list[int]) -> Tensor:
    """(rows read, 3), of a size that differs from step to step."""
    return (1 + step) * torch.randn(len(read), 3, generator=torch.Generator().manual_seed(step))


def sparse(read: list[int], values: Tensor, rows: int) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([read]), values, (rows, 3), check_invariants=True).coalesce()


@pytest.mark.parametrize("is_sparse", [True, False])
def test_where_every_step_reads_every_row_it_is_adamw(is_sparse: bool) -> None:
    table, rows = table_and_optimiser(4)
    reference = nn.Parameter(table.detach().clone())
    adamw = torch.optim.AdamW([reference], **SETTINGS)
    everything = list(range(4))
    for step in range(6):
        reference.grad = gradient(step, everything)
        table.grad = sparse(everything, reference.grad, 4) if is_sparse else reference.grad.clone()
        adamw.step()
        rows.step()
        torch.testing.assert_close(table, reference, atol=1e-6, rtol=1e-5)


def test_each_row_is_trained_by_an_adamw_of_its_own() -> None:
    # Row 0 is read in every step, row 1 in all but one, row 2 late and rarely, row 3 never.
    reads = [[0, 1], [0, 1], [0], [0, 1, 2], [0, 1], [0, 1, 2]]
    table, rows = table_and_optimiser(4)
    start = table.detach().clone()
    alone = [nn.Parameter(row.clone()) for row in start]
    optimisers = [torch.optim.AdamW([row], **SETTINGS) for row in alone]
    for step, read in enumerate(reads):
        values = gradient(step, read)
        table.grad = sparse(read, values, 4)
        rows.step()
        for row, value in zip(read, values, strict=True):
            alone[row].grad = value.clone()
            optimisers[row].step()
        torch.testing.assert_close(table.detach(), torch.stack(list(alone)).detach(), atol=1e-6, rtol=1e-5)
    assert torch.equal(table[3], start[3])
    assert rows.state[table]["step"].flatten().tolist() == [6, 5, 2, 0]


def test_the_other_parameters_are_those_of_adamw() -> None:
    table, _ = table_and_optimiser(2)
    weight, reference = (nn.Parameter(torch.ones(3)) for _ in range(2))
    rows = RowAdamW([{"params": [weight], "name": "dense"}, {"params": [table], "name": "sparse"}], **SETTINGS)
    adamw = torch.optim.AdamW([reference], **SETTINGS)
    for step in range(3):
        table.grad = sparse([1], gradient(step, [1]), 2)
        weight.grad, reference.grad = (gradient(step, [0])[0] for _ in range(2))
        rows.step()
        adamw.step()
    assert torch.equal(weight, reference)


def test_a_closure_is_refused() -> None:
    with pytest.raises(TypeError, match="no closure"):
        table_and_optimiser(2)[1].step(lambda: 0.0)
