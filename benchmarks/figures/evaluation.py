"""Ranking the whole of a large catalogue."""

import statistics

import torch
from torch import Tensor

from benchmarks.figures import made_up
from benchmarks.measure import Setting, Value, figure, median_ratio, milliseconds
from synergen.contract import DotProductRecommender, Requests, Task
from synergen.data.splits import LeaveOneOut, Part
from synergen.evaluation.ranking import full_ranks

_USERS, _ITEMS, _WIDTH = 2000, 686_624, 128
_TILE = 2048
"""Items of the bare product's tiles, with which it is fastest."""


@figure("x", 1.5, "lower", torch.float32)
def eval_full_of_gemm(setting: Setting) -> Value:
    """Time of exact ranks among all items over the time of the bare product of users and items.

    2,000 users of power-law histories, 686,624 items, D = 128; a user is the vector of the last item, so that next to
    nothing but ranking takes time. The product is of all users with tiles of 2,048 items, each written over the last:
    faster than one product that writes 5.5 GB of scores.
    """
    log = made_up.log(_USERS, _ITEMS)
    split, model = LeaveOneOut(log), _LastItem(_ITEMS, _WIDTH)
    users, items = torch.randn(_USERS, _WIDTH), model.item_vectors()[1:]
    scores = torch.empty(_TILE, _USERS)

    def product() -> None:
        for tile in items.split(_TILE):
            torch.mm(tile, users.T, out=scores[: len(tile)])

    def ranks() -> None:
        full_ranks(model, log, split, Part.TEST, Task.RECOMMENDATION, max_history=50)

    bare, ours = setting.seconds(product, ranks)
    reached = 2 * _USERS * _ITEMS * _WIDTH / statistics.median(bare) / 1e9
    note = f"{milliseconds(ours)} against {milliseconds(bare)}, where the product reaches {reached:.0f} GFLOP/s"
    return Value(median_ratio(ours, bare), note)


class _LastItem(DotProductRecommender):
    """Recommends what resembles the last item."""

    tasks = frozenset(Task)

    def __init__(self, n_items: int, width: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = torch.randn(n_items + 1, width, generator=generator)

    def user_vectors(self, requests: Requests) -> Tensor:
        history = requests.history.last(1)
        return self.table[history.items[:, 0]]

    def item_vectors(self) -> Tensor:
        return self.table
