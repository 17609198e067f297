"""AdamW whose cost does not depend on how many rows an embedding table has."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class RowAdamW(torch.optim.AdamW):
    """AdamW that updates a parameter with a sparse gradient in the rows that the gradient names, and no others.

    Weights and moments of the other rows rest, without decay. The bias correction counts the steps of the whole
    parameter, as `torch.optim.SparseAdam` and TensorFlow's LazyAdam do: counting those of each row, a row that is read
    now and then moves (1 - β₁) / √(1 - β₂) times less at first (3.2 where β₂ is 0.999), and lags further behind AdamW,
    whose momentum goes on moving a row that is not read. Where every step reads every row this is AdamW, whose state
    it shares: 2 D numbers a row.

    Sparse gradients must be coalesced; `step` uses them up.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the rows named by sparse gradients, and densely whatever has a dense one.

        Raises:
            TypeError: a closure is given; no step is computed twice here.
        """
        if closure is not None:
            raise TypeError("RowAdamW takes no closure")
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None and table.grad.is_sparse:
                    _update(table, table.grad, self.state[table], group)
                    table.grad = None  # so that the dense step passes it by
        return super().step()


def _update(table: Tensor, gradient: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
    if not state:
        state["step"] = torch.zeros((), device=table.device)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(table), torch.zeros_like(table)
    state["step"] += 1
    rows, values = gradient.indices()[0], gradient.values()  # (n,), (n, D)
    beta1, beta2 = group["betas"]
    mean = state["exp_avg"].index_select(0, rows).lerp_(values, 1 - beta1)  # (n, D)
    square = state["exp_avg_sq"].index_select(0, rows).mul_(beta2).addcmul_(values, values, value=1 - beta2)
    state["exp_avg"].index_copy_(0, rows, mean)
    state["exp_avg_sq"].index_copy_(0, rows, square)
    scale = square.div_(_weight_seen(beta2, state["step"])).sqrt_().add_(group["eps"])
    change = mean.div_(scale).mul_(group["lr"] / _weight_seen(beta1, state["step"]))
    kept = table.index_select(0, rows).mul_(1 - group["lr"] * group["weight_decay"])
    table.index_copy_(0, rows, kept.sub_(change))


def _weight_seen(beta: float, steps: Tensor) -> Tensor:
    """1 - β^steps, the sum of an average's weights, without the cancellation."""
    return -torch.expm1((math.log(beta) if beta else -math.inf) * steps)
