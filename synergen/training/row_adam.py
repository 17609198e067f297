"""AdamW whose cost does not depend on how many rows an embedding table has."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RowAdamW(torch.optim.AdamW):
    """AdamW that updates embedding tables, the parameters of the group `sparse`, only in the rows that a step reads.

    Each row is trained as if by an AdamW of its own that sees only the steps that read it: weights and moments of the
    other rows rest, without decay, and the bias correction counts the updates of the row, as what it corrects (Kingma
    and Ba 2015, section 3) is the number of terms in the row's averages. `torch.optim.SparseAdam` counts all steps
    instead, so that a row which turns up late begins with steps (1 - β₁) / √(1 - β₂) = 3.2 times as long. Where every
    step reads every row this is AdamW.

    A row is read where the gradient is sparse and names it; a dense gradient reads them all. Sparse gradients must be
    coalesced. Kept are 2 D + 1 numbers a row. `step` uses the gradients of tables up.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the rows read of the tables, and everything else densely.

        Raises:
            TypeError: a closure is given; no step is computed twice here.
        """
        if closure is not None:
            raise TypeError("RowAdamW takes no closure")
        for group in self.param_groups:
            if group["name"] == "sparse":
                for table in group["params"]:
                    if table.grad is not None:
                        _update(table, self.state[table], group)
                        table.grad = None  # so that the dense step passes it by
        return super().step()


def _update(table: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = table.new_zeros(len(table), 1)  # whole numbers, exact up to 2²⁴ updates of a row
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
    gradient = table.grad
    assert gradient is not None
    if gradient.is_sparse:
        rows, gradient = gradient.indices()[0], gradient.values()  # (n,), (n, D)
    else:
        rows = torch.arange(len(table), device=table.device)
    beta1, beta2 = group["betas"]
    steps = state["step"].index_select(0, rows).add_(1)  # (n, 1)
    mean = state["exp_avg"].index_select(0, rows).lerp_(gradient, 1 - beta1)  # (n, D)
    square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    state["step"].index_copy_(0, rows, steps)
    state["exp_avg"].index_copy_(0, rows, mean)
    state["exp_avg_sq"].index_copy_(0, rows, square)
    scale = square.div_(_weight_seen(beta2, steps)).sqrt_().add_(group["eps"])
    change = mean.div_(scale).mul_(group["lr"] / _weight_seen(beta1, steps))
    kept = table.index_select(0, rows).mul_(1 - group["lr"] * group["weight_decay"])
    table.index_copy_(0, rows, kept.sub_(change))


def _weight_seen(beta: float, steps: Tensor) -> Tensor:
    """1 - β^steps, the sum of an average's weights, without the cancellation."""
    return -torch.expm1(math.log(beta) * steps)
