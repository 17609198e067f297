"""Ways to hold embedding tables on several GPUs: what each GPU keeps in memory, sends, and goes through in a step.

Everything but sharded tables is on every GPU, and its gradients are summed by DistributedDataParallel.
"""

from dataclasses import dataclass
from typing import Protocol

from benchmarks.planning.cluster import Cluster

_REAL, _ID = 4, 8
"""Bytes of a number in float32, and of an id."""
_STATE = 3 * _REAL
"""Of a number: weight and AdamW's two moments."""


@dataclass(frozen=True)
class Sent:
    """What each GPU sends in a step."""

    bytes: float
    seconds: float


class Holding(Protocol):
    """One of the ways."""

    @property
    def name(self) -> str:
        """In words."""

    def memory(self, gpus: int) -> dict[str, float]:
        """Bytes on each of so many GPUs, by what they are for."""

    def sent(self, cluster: Cluster) -> dict[str, Sent]:
        """By what is sent."""

    @property
    def touched(self) -> float:
        """Bytes that a step reads and writes in the tables and their gradients, on each GPU."""


@dataclass(frozen=True)
class Plain:
    """AdamW goes over whole tables, whatever was read."""

    dense: int
    """Numbers outside of tables."""
    tables: int
    """Numbers in tables."""
    name: str = "plain tables, AdamW"

    def memory(self, gpus: int) -> dict[str, float]:
        return {
            "dense weights, gradients, AdamW": (_STATE + _REAL) * self.dense,
            "table weights, gradients, AdamW": (_STATE + _REAL) * self.tables,
            **_buckets(gpus, self.dense + self.tables),
        }

    def sent(self, cluster: Cluster) -> dict[str, Sent]:
        return {
            "gradients of dense weights": _summed(cluster, self.dense),
            "gradients of whole tables": _summed(cluster, self.tables),
        }

    @property
    def touched(self) -> float:
        """44 bytes a number: its gradient is written (4), read for the norm (4) and clipped (8); AdamW reads weight,
        gradient and moments (16) and writes weight and moments (12)."""
        return 11 * _REAL * self.tables


@dataclass(frozen=True)
class ByRows:
    """AdamW updates the rows that were read (`row_updates`); their gradients are gathered from all GPUs."""

    dense: int
    tables: int
    rows: int
    """Rows that one GPU reads in a step."""
    row_numbers: int
    """Numbers in these."""
    name: str = "plain tables, AdamW by rows"

    def memory(self, gpus: int) -> dict[str, float]:
        return {
            "dense weights, gradients, AdamW": (_STATE + _REAL) * self.dense,
            "table weights, AdamW": _STATE * self.tables,
            "gradients of rows": gpus * self._gradient,
            **_buckets(gpus, self.dense),
        }

    def sent(self, cluster: Cluster) -> dict[str, Sent]:
        others = (cluster.gpus - 1) * self._gradient
        return {
            "gradients of dense weights": _summed(cluster, self.dense),
            "gradients of rows": Sent(others, cluster.exchanged_seconds(cluster.gpus * self._gradient)),
        }

    @property
    def touched(self) -> float:
        """52 bytes a number of a row, as for whole tables, and it is looked up (4) and its gradients added up (4)."""
        return 13 * _REAL * self.row_numbers

    @property
    def _gradient(self) -> float:
        return _REAL * self.row_numbers + _ID * self.rows


@dataclass(frozen=True)
class Sharded:
    """Each GPU holds an equal share of the item table's rows and, where rows are read, updates them at once by
    Adagrad with one number of state a row (TorchRec, `embedding: torchrec`); other tables are plain."""

    dense: int
    other_tables: int
    """Numbers in tables that are not sharded."""
    items: int
    """Rows of the item table."""
    width: int
    """Numbers in a row."""
    rows: int
    """Rows that one GPU reads in a step."""
    name: str = "item table sharded by rows, row-wise Adagrad"

    def memory(self, gpus: int) -> dict[str, float]:
        own = -(-self.items // gpus)
        return {
            "dense weights, gradients, AdamW": (_STATE + _REAL) * (self.dense + self.other_tables),
            "share of the item table": _REAL * self.width * own,
            "state of its rows": _REAL * own,
            "rows looked up, their gradients": 2 * (2 * self._vectors + _ID * self.rows),
            **_buckets(gpus, self.dense + self.other_tables),
        }

    def sent(self, cluster: Cluster) -> dict[str, Sent]:
        def exchanged(size: float) -> Sent:
            return Sent(cluster.sent_to_exchange(size), cluster.exchanged_seconds(size))

        return {
            "gradients of dense weights": _summed(cluster, self.dense + self.other_tables),
            "ids of rows": exchanged(_ID * self.rows),
            "vectors of rows": exchanged(self._vectors),
            "gradients of rows": exchanged(self._vectors),
        }

    @property
    def touched(self) -> float:
        """20 bytes a number of a row: looked up (4), its gradient written and read (8), the weight read and written
        (8); and 8 for the row's state."""
        return 5 * self._vectors + 2 * _REAL * self.rows

    @property
    def _vectors(self) -> float:
        return _REAL * self.width * self.rows


def _buckets(gpus: int, numbers: int) -> dict[str, float]:
    """Where gradients are put together to be sent."""
    return {"buckets for gradients": _REAL * numbers} if gpus > 1 else {}


def _summed(cluster: Cluster, numbers: int) -> Sent:
    size = _REAL * numbers
    return Sent(cluster.sent_to_sum(size), cluster.summed_seconds(size))
