"""One step of training: from a batch to changed weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from synergen.contract import Batch, Recommender
from synergen.training.row_adam import RowAdamW


@dataclass(frozen=True)
class Step:
    """What a step met."""

    terms: dict[str, Tensor]  # of the loss
    loss: float
    norm: float  # of all gradients together, before clipping

    @property
    def taken(self) -> bool:
        """Loss and gradient were finite; otherwise no weight has changed."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


def make_optimiser(
    model: Recommender, rates: dict[str, float], weight_decay: float, by_rows: bool, beta2: float = 0.999
) -> torch.optim.Optimizer:
    """AdamW over the parameter groups of a model, each at its own rate.

    Args:
        by_rows: update embedding tables only in the rows read, see `RowAdamW`; their gradients are sparse from now on.
    """
    groups = [{"params": p, "lr": rates[name], "name": name} for name, p in model.parameter_groups().items() if p]
    betas = (0.9, beta2)
    if not by_rows:
        return torch.optim.AdamW(groups, betas=betas, weight_decay=weight_decay, fused=True)
    for module in model.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = True
    return RowAdamW(groups, betas=betas, weight_decay=weight_decay, fused=True)


def take_step(
    model: Recommender,
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    clip_norm: float,
    dtype: torch.dtype | None,
    loss_of: Callable[[Batch], dict[str, Tensor]] | None = None,
    weight: float = 1.0,
) -> Step:
    """Forward, backward, clipping to `clip_norm` and update, with autocast to `dtype` if it is given.

    Args:
        loss_of: what to call for the loss, by default the model's own; see `distributed.shared`.
        weight: what the gradients of this batch count among those of other processes: its share of the targets. A model
            whose mean leaves some targets out, such as the first of a user, is weighed by them all the same.
    """
    optimiser.zero_grad(set_to_none=True)
    with torch.autocast(batch.targets.device.type, dtype=dtype, enabled=dtype is not None):
        terms = (loss_of or model.loss)(batch)
    loss = torch.stack([term.float() for term in terms.values()]).sum()
    (loss if weight == 1.0 else weight * loss).backward()
    gradients = _gradients(model)
    norm = get_total_norm(gradients)
    step = Step(terms, *torch.stack([loss.detach(), norm.to(loss)]).tolist())  # one wait a step
    if step.taken:
        share = (clip_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(share)
        optimiser.step()
    return step


def _gradients(model: nn.Module) -> list[Tensor]:
    """The numbers of every gradient, those of sparse ones after rows that were read twice are added up."""
    found = []
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad = parameter.grad.coalesce() if parameter.grad.is_sparse else parameter.grad
            found.append(parameter.grad.values() if parameter.grad.is_sparse else parameter.grad)
    return found
