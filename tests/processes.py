"""Several processes of one training, on gloo."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import multiprocessing

from synergen import distributed
from synergen.training.trainer import Interrupted


def _one(rank: int, world: int, port: int, action: Callable[..., Any], folder: Path, arguments: dict[str, Any]) -> None:
    variables = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in variables.items()}
    torch.set_num_threads(1)
    with distributed.joined("cpu") as device:
        assert (device, distributed.rank(), distributed.world()) == ("cpu", rank, world)
        try:
            result = action(folder, **arguments)
        except Interrupted:
            result = "interrupted"
        torch.save(result, folder / f"{rank}.pt")


def by_processes(world: int, folder: Path, action: Callable[..., Any], **arguments: Any) -> list[Any]:
    """What each of so many processes finds."""
    folder.mkdir(exist_ok=True)
    port = int(np.random.default_rng().integers(20000, 32000))
    multiprocessing.spawn(_one, (world, port, action, folder, arguments), nprocs=world)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def by_two(folder: Path, action: Callable[..., Any], **arguments: Any) -> list[Any]:
    """What each of two processes finds."""
    return by_processes(2, folder, action, **arguments)
