"""Training and evaluation in several processes: each takes its share of every batch and of the questions, and torch
averages the gradients (DistributedDataParallel), so that all processes hold the same weights."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from synergen.contract import Batch, Recommender
from synergen.errors import UserError

T = TypeVar("T")

_asked_for: ContextVar[str | None] = ContextVar("device", default=None)
"""The device that `joined` was told, None outside of it."""


def world() -> int:
    """Processes that work together, 1 for one that works alone."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this one of them, from 0, which is the one that writes files and speaks."""
    return dist.get_rank() if dist.is_initialized() else 0


def group() -> dist.ProcessGroup:
    """The processes that work together; of one that works alone, itself."""
    if not dist.is_initialized():
        computes = _asked_for.get() or ("cuda" if torch.cuda.is_available() else "cpu")
        dist.init_process_group(_backend(computes), store=dist.HashStore(), rank=0, world_size=1)
    assert dist.group.WORLD is not None
    return dist.group.WORLD


def device() -> torch.device:
    """Where this process exchanges tensors with the others."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the processes that torchrun, or a job of several tasks, started; gives the device of this one. Where there
    is no other, nothing happens but that `group` knows the device.

    Raises:
        UserError: the others cannot be reached.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        before = _asked_for.set(device)
        try:
            yield device
        finally:
            _asked_for.reset(before)
        return
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device.startswith("cuda") else device
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    try:
        dist.init_process_group(_backend(own))
    except (RuntimeError, ValueError, dist.DistError) as error:
        address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise UserError(
            f"process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']} cannot reach the others at {address} "
            f"({error}); start all of them by torchrun, or as the tasks of one job"
        ) from error
    try:
        yield own
    finally:
        dist.destroy_process_group()


def _backend(device: str) -> str:
    return "nccl" if device.startswith("cuda") else "gloo"


class _Loss(nn.Module):
    """A model's loss as the forward pass that DistributedDataParallel looks for."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.model.loss(batch)


def shared(model: Recommender) -> nn.Module:
    """What to call for the loss of a batch: where there are several processes, its backward pass averages the gradients
    over them."""
    loss = _Loss(model)
    if world() == 1:
        return loss
    return DistributedDataParallel(loss, find_unused_parameters=True, broadcast_buffers=False)


def share_of(batch: Batch) -> tuple[Batch, int]:
    """This process's sequences of a batch, every `world`-th, so that long ones are spread, and how much they have to
    predict. Where there are fewer sequences than processes, some get one that counts for nothing."""
    if world() == 1:
        return batch, int(batch.targets.sum())
    if rank() < len(batch.windows):
        own = _rows(batch, slice(rank(), None, world()))
        return own, int(own.targets.sum())
    return _rows(batch, slice(0, 1)), 0


def _rows(values: Any, rows: slice) -> Any:
    """The same rows of every tensor of a dataclass, and of those within."""
    cut = {
        field.name: value[rows] if isinstance(value, Tensor) else _rows(value, rows)
        for field in fields(values)
        if (value := getattr(values, field.name)) is not None
    }
    return replace(values, **cut)


def mine(pieces: Iterable[T]) -> Iterator[T]:
    """Every `world`-th piece of work: those of this process."""
    return islice(pieces, rank(), None, world())


def together(values: np.ndarray) -> np.ndarray:
    """An array of numbers above 0 that each process filled in for its own work and left NaN elsewhere, of all."""
    if world() == 1:
        return values
    found = torch.from_numpy(np.nan_to_num(values, nan=-1.0)).to(device())
    dist.all_reduce(found, dist.ReduceOp.MAX)
    merged = found.cpu().numpy()
    return np.where(merged < 0, np.nan, merged)


def summed(*numbers: float) -> list[float]:
    """Each number, summed over the processes."""
    if world() == 1:
        return list(numbers)
    total = torch.tensor(numbers, dtype=torch.float64, device=device())
    dist.all_reduce(total)
    return total.tolist()


def gathered(value: T) -> list[T]:
    """What each process has, on all of them."""
    if world() == 1:
        return [value]
    found: list[Any] = [None] * world()
    dist.all_gather_object(found, value)
    return found


def ids_of_all(ids: Tensor) -> Tensor:
    """The ids (N,) of each process, one after the other."""
    if world() == 1:
        return ids
    counts = [int(count) for count in gathered(len(ids))]
    found = of_all(torch.nn.functional.pad(ids, (0, max(counts) - len(ids))))
    return torch.cat([some[:count] for some, count in zip(found, counts, strict=True)])


def of_all(values: Tensor) -> list[Tensor]:
    """The tensor of each process; all have the same shape."""
    if world() == 1:
        return [values]
    found = [torch.empty_like(values) for _ in range(world())]
    dist.all_gather(found, values.contiguous())
    return found


def total(values: Tensor) -> Tensor:
    """A tensor, summed over the processes."""
    if world() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def handed_over(values: Tensor | None, source: int, shape: tuple[int, ...]) -> Tensor:
    """float32 values of the process `source`, given there only, in the first process; in the others what they gave."""
    if source != 0 and rank() == source:
        assert values is not None
        dist.send(values.contiguous(), 0)
    if source != 0 and rank() == 0:
        values = torch.empty(shape, device=device())
        dist.recv(values, source)
    return torch.empty(0) if values is None else values
