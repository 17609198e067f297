"""An embedding table that no process holds whole: its rows are spread over the processes that train together, by
TorchRec, and change while their gradients come in, so that the optimiser holds one number a row."""

import os
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Shard, init_device_mesh

from synergen import distributed
from synergen.contract import Recommender
from synergen.errors import UserError

_SEEDED_TOGETHER = 1 << 16
"""Rows that one random generator fills, so that first weights do not depend on how many processes there are."""

_SENT_AT_ONCE = 1 << 18
"""Rows that are on their way to the first process at one time."""

_ROWS, _IDS = "rows", "ids"  # the names of the only table and of its only input


class ShardedTable(nn.Module):
    """Vectors (N, D), in blocks of rows: the first process holds the first ⌈N / processes⌉, and so on.

    Row 0, padding, is zero and stays so. All processes must look rows up equally often, each whatever ids it likes;
    their gradients are averaged, as DistributedDataParallel averages those of parameters. Each look-up is updated by
    itself: a step that looks rows up twice takes two steps of row-wise Adagrad. Weights are neither parameters nor part
    of the state dict, which are the same in all processes; see `state`.

    Args:
        rows: N.
        width: D.
        std: standard deviation of the first weights; their seed is drawn from torch's generator, which must stand alike
            in all processes.

    Raises:
        UserError: TorchRec is not installed, or there are so few rows that a process has none.
    """

    def __init__(self, rows: int, width: int, std: float) -> None:
        super().__init__()
        self.rows, self.width = rows, width
        if self._block(distributed.world() - 1)[0] == rows:
            raise UserError(
                f"setting 'embedding' is 'torchrec' but {rows} rows in blocks of {self._block(0)[1]} leave some of "
                f"{distributed.world()} processes without any; use fewer processes, or set embedding to plain"
            )
        seed = int(torch.randint(1 << 31, ()))
        with torch.random.fork_rng(devices=[]):  # TorchRec draws weights of its own, other numbers in each process
            self._sharded = (_shard(rows, width),)  # in a tuple, where neither DDP nor the optimiser finds its weights
        self.first = self._block(distributed.rank())[0]
        """The row that is the first one here."""
        _fill(self.own, self.first, std, seed)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors (..., D) of `ids` (...), the different ones of which are exchanged once."""
        from torchrec import KeyedJaggedTensor

        known, place = ids.unique(return_inverse=True)
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(torch.is_grad_enabled()),
        ):  # FBGEMM has no kernels in it
            known = known.clone()
            asked = KeyedJaggedTensor(keys=[_IDS], values=known, lengths=torch.ones_like(known))
            vectors = self._sharded[0](asked).wait()[_IDS].values()  # (known, D)
        return nn.functional.embedding(place, vectors * (known > 0)[:, None])  # no gradient reaches row 0

    @property
    def own(self) -> Tensor:
        """The rows of this process (n, D), without gradient."""
        return _own(self._sharded[0].state_dict()[f"embeddings.{_ROWS}.weight"])

    def set_rate(self, rate: float) -> None:
        """Learn at this rate from now on."""
        optimiser = self._sharded[0].fused_optimizer
        for group in optimiser.param_groups:
            group["lr"] = rate
        optimiser.step()  # hands the rate on; rows change in the backward pass

    def state(self) -> dict[str, Tensor]:
        """Weights (N, D) and, of each row, the sum of its mean squared gradients (N,): distributed tensors, which
        torch.distributed.checkpoint writes and fills in place whatever the number of processes."""
        (squares,) = self._sharded[0].fused_optimizer.state_dict()["state"].values()
        mesh = init_device_mesh(self.own.device.type, (distributed.world(),))

        def spread(own: Tensor, *width: int) -> Tensor:
            stride = (*width, 1)
            return DTensor.from_local(own, mesh, [Shard(0)], shape=torch.Size((self.rows, *width)), stride=stride)

        momentum = squares[f"{_ROWS}.momentum1"]
        return {"weight": spread(self.own, self.width), "squares": spread(_own(momentum))}

    def gathered(self) -> Tensor | None:
        """All rows (N, D) in the memory of the first process, None in the others."""
        own, first = self.own, distributed.rank() == 0
        rows = torch.empty(self.rows, self.width) if first else None
        for source in range(distributed.world()):
            begin, end = self._block(source)
            for start in range(begin, end, _SENT_AT_ONCE):
                part = slice(start, min(end, start + _SENT_AT_ONCE))
                mine = own[part.start - begin : part.stop - begin] if distributed.rank() == source else None
                received = distributed.handed_over(mine, source, (part.stop - part.start, self.width))
                if rows is not None:
                    rows[part] = received.cpu()
        return rows

    def _block(self, process: int) -> tuple[int, int]:
        """The first row of a process, and the first one after its rows."""
        size = -(-self.rows // distributed.world())
        return min(self.rows, size * process), min(self.rows, size * (process + 1))


def tables_of(model: Recommender) -> dict[str, ShardedTable]:
    """The tables of a model that are spread over processes, by their name in it."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ShardedTable)}


def nearest(users: Tensor, items: Tensor, first: int, n: int) -> tuple[Tensor, Tensor]:
    """The n items of the largest inner product with each user, exactly: each process names those of its own rows, and
    the best of these are the best of all.

    Args:
        users: (B, D), the same in all processes.
        items: (rows, D), those of this process; row 0 of the first one is padding.
        first: the id of the first of them.

    Returns:
        Scores and ids, (B, n) each, best first; the same in all processes. Equal scores go by process, the first before
        the others.
    """
    scores = users @ items.T  # (B, rows)
    if first == 0 and len(items):
        scores[:, 0] = -torch.inf
    best, at = scores.topk(min(n, len(items)), dim=1)
    lacking = n - best.shape[1]
    best = nn.functional.pad(best, (0, lacking), value=-torch.inf)
    ids = nn.functional.pad(at + first, (0, lacking))
    every, every_id = (torch.cat(distributed.of_all(part), dim=1) for part in (best, ids))  # (B, processes × n)
    order = every.argsort(dim=1, descending=True, stable=True)[:, :n]
    return every.gather(1, order), every_id.gather(1, order)


def _shard(rows: int, width: int) -> Any:
    """TorchRec's collection of one table, spread by rows, with row-wise Adagrad in its backward pass."""
    try:
        from torchrec import EmbeddingCollection, EmbeddingConfig
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv
        from torchrec.optim import RowWiseAdagrad
        from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
    except ImportError as error:
        raise UserError(
            f"setting 'embedding' is 'torchrec' but TorchRec cannot be loaded ({error}); install it (README, 'On a "
            "cluster'), or set embedding to plain"
        ) from error
    group = distributed.group()
    device = distributed.device()
    table = EmbeddingConfig(num_embeddings=rows, embedding_dim=width, name=_ROWS, feature_names=[_IDS])
    collection = EmbeddingCollection(tables=[table], device=torch.device("meta"))
    apply_optimizer_in_backward(RowWiseAdagrad, collection.parameters(), {"lr": 0.0})
    sharder = EmbeddingCollectionSharder()
    world = distributed.world()
    on_this_machine = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    plan = construct_module_sharding_plan(
        collection, {_ROWS: row_wise()}, sharder, on_this_machine, world, device_type=device.type
    )
    return sharder.shard(collection, plan, ShardingEnv.from_process_group(group), device)


def _own(sharded: Any) -> Tensor:
    """What this process has of a sharded tensor."""
    return sharded.local_shards()[0].tensor.detach()


def _fill(own: Tensor, first: int, std: float, seed: int) -> None:
    """Give rows `first` and following, those of this process, their first weights."""
    for block in range(first // _SEEDED_TOGETHER, -(-(first + len(own)) // _SEEDED_TOGETHER)):
        generator = torch.Generator().manual_seed(seed + block)
        drawn = torch.randn(_SEEDED_TOGETHER, own.shape[1], generator=generator) * std
        begin = block * _SEEDED_TOGETHER
        start, end = max(first, begin), min(first + len(own), begin + _SEEDED_TOGETHER)
        own[start - first : end - first] = drawn[start - begin : end - begin].to(own.device)
    if first == 0 and len(own):
        own[0] = 0
