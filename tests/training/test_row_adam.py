"""AdamW by rows, against torch's AdamW and against its definition, a row at a time."""

import math

import pytest
import torch
from torch import Tensor, nn

from synergen.training.row_adam import RowAdamW

RATE, DECAY, BETA1, BETA2, EPS = 0.1, 0.05, 0.9, 0.999, 1e-8


def made_up_table(rows: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(rows, 3, generator=torch.Generator().manual_seed(0)))


def gradient(step: int, read: list[int]) -> Tensor:
    """(rows read, 3), of a size that differs from step to step."""
    return (1 + step) * torch.randn(len(read), 3, generator=torch.Generator().manual_seed(step))


def sparse(read: list[int], values: Tensor, rows: int) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor([read]), values, (rows, 3), check_invariants=True).coalesce()


@pytest.mark.parametrize("beta2", [BETA2, 0.98, 0.0])
@pytest.mark.parametrize("dense_steps", [(), (2, 3), range(6)])
def test_where_every_step_reads_every_row_it_is_adamw(dense_steps: tuple[int, ...], beta2: float) -> None:
    """Whether the gradients that name all rows are sparse, dense, or now this and now that."""
    table, reference = made_up_table(4), made_up_table(4)
    rows = RowAdamW([table], RATE, betas=(BETA1, beta2), weight_decay=DECAY, fused=True)
    adamw = torch.optim.AdamW([reference], RATE, betas=(BETA1, beta2), weight_decay=DECAY)
    everything = list(range(4))
    for step in range(6):
        reference.grad = gradient(step, everything)
        table.grad = reference.grad.clone() if step in dense_steps else sparse(everything, reference.grad, 4)
        adamw.step()
        rows.step()
        torch.testing.assert_close(table, reference, atol=1e-6, rtol=1e-5)


def test_rows_that_a_step_does_not_read_rest() -> None:
    """Reference: AdamW as published, row by row in float64, with the count of all steps. Row 0 is read in every step,
    row 1 in all but one, row 2 late and rarely, row 3 never."""
    reads = [[0, 1], [0, 1], [0], [0, 1, 2], [0, 1], [0, 1, 2]]
    table = made_up_table(4)
    start = table.detach().clone()
    weights, means, squares = start.double(), torch.zeros(4, 3).double(), torch.zeros(4, 3).double()
    rows = RowAdamW([table], RATE, weight_decay=DECAY, fused=True)
    for step, read in enumerate(reads):
        values = gradient(step, read)
        table.grad = sparse(read, values, 4)
        rows.step()
        for row, value in zip(read, values.double(), strict=True):
            means[row] = BETA1 * means[row] + (1 - BETA1) * value
            squares[row] = BETA2 * squares[row] + (1 - BETA2) * value**2
            mean, square = means[row] / (1 - BETA1 ** (step + 1)), squares[row] / (1 - BETA2 ** (step + 1))
            weights[row] = (1 - RATE * DECAY) * weights[row] - RATE * mean / (square.sqrt() + EPS)
        torch.testing.assert_close(table.detach().double(), weights, atol=1e-6, rtol=1e-5)
    assert torch.equal(table[3], start[3])


def test_it_is_the_sparse_adam_of_torch_but_for_weight_decay() -> None:
    table, reference = made_up_table(5), made_up_table(5)
    rows = RowAdamW([table], RATE, weight_decay=0.0, fused=True)
    sparse_adam = torch.optim.SparseAdam([reference], RATE)
    for step in range(8):
        read = [row for row in range(5) if math.gcd(step + 1, row + 1) == 1]
        for one in (table, reference):
            one.grad = sparse(read, gradient(step, read), 5)
        rows.step()
        sparse_adam.step()
        torch.testing.assert_close(table, reference, atol=1e-6, rtol=1e-5)


def test_a_closure_is_refused() -> None:
    with pytest.raises(TypeError, match="no closure"):
        RowAdamW([made_up_table(2)]).step(lambda: 0.0)
