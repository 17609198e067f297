"""What a figure of `perf.py` is, how it is timed, and the register of all of them."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Literal

import torch

from synergen.errors import unknown_name


@dataclass(frozen=True)
class Setting:
    """How everything is timed."""

    threads: int
    dtype: torch.dtype  # of matrix products
    repeats: int
    device: str = "cpu"

    def autocast(self) -> torch.autocast:
        """The context in which models run."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)

    def seconds(self, *actions: Callable[[], object]) -> list[list[float]]:
        """Seconds of each repeat (repeats) of each action, which take turns, after one turn that does not count."""
        # Of one thread the processor time, which other programs do not lengthen as they do the wall's.
        alone = self.threads == 1 and self.device == "cpu"
        clock = time.process_time if alone else time.perf_counter
        for action in actions:
            self._timed(action, clock)
        turns = [[self._timed(action, clock) for action in actions] for _ in range(self.repeats)]
        return [list(column) for column in zip(*turns, strict=True)]

    def _timed(self, action: Callable[[], object], clock: Callable[[], float]) -> float:
        start = clock()
        action()
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        return clock() - start


@dataclass(frozen=True)
class Value:
    """What a figure measured, and how near that is to what the machine could do."""

    value: float
    note: str


@dataclass(frozen=True)
class Figure:
    """A number and what it is meant to reach."""

    name: str
    unit: str
    target: float | None  # None where it is only told
    better: str  # higher or lower
    measure: Callable[[Setting], Value]
    dtype: torch.dtype | Literal["training"] | None  # None where there are no matrix products
    threads: int | None  # where they are not those of the command
    needs: str | None  # an environment variable or a package without which it cannot be measured

    @property
    def ready(self) -> bool:
        return self.needs is None or bool(os.environ.get(self.needs)) or find_spec(self.needs) is not None

    def reached(self, value: float) -> bool:
        if self.target is None:
            return True
        return value >= self.target if self.better == "higher" else value <= self.target


@dataclass(frozen=True)
class Measurement:
    """One line of the report."""

    name: str
    value: float
    unit: str
    target: float | None
    better: str
    ok: bool
    note: str
    threads: int
    dtype: str | None
    repeats: int


FIGURES: dict[str, Figure] = {}


def figure(
    unit: str,
    target: float | None,
    better: str,
    dtype: torch.dtype | Literal["training"] | None = "training",
    threads: int | None = None,
    needs: str | None = None,
) -> Callable[[Callable[[Setting], Value]], Callable[[Setting], Value]]:
    """Register a function as the figure of its name, of matrix products of `dtype` (None: it has none) on `threads`
    (None: as many as the command is given), which `needs` an environment variable, a package, or nothing."""

    def register(measure: Callable[[Setting], Value]) -> Callable[[Setting], Value]:
        FIGURES[measure.__name__] = Figure(measure.__name__, unit, target, better, measure, dtype, threads, needs)
        return measure

    return register


def measured(name: str, setting: Setting) -> Measurement:
    """One figure, on its own dtype and threads where it has them.

    Raises:
        UserError: there is no figure of this name.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    one = FIGURES[name]
    setting = replace(
        setting,
        threads=one.threads or setting.threads,
        dtype=one.dtype if isinstance(one.dtype, torch.dtype) else setting.dtype,
    )
    with _threads(setting.threads):
        found = one.measure(setting)
    return Measurement(
        name, found.value, one.unit, one.target, one.better, one.reached(found.value), found.note, setting.threads,
        None if one.dtype is None else str(setting.dtype).removeprefix("torch."), setting.repeats,
    )  # fmt: skip


def median_ratio(above: list[float], below: list[float]) -> float:
    """The median over repeats of above / below."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def milliseconds(seconds: list[float], times: int = 1) -> str:
    """The median in words, of each of `times` in a repeat."""
    return f"{1e3 * statistics.median(seconds) / times:.3g} ms"


_GEMM_SIZE = 2048
GEMM_FLOPS = 2 * _GEMM_SIZE**3


def gemm(dtype: torch.dtype, device: str = "cpu") -> Callable[[], object]:
    """A product of two 2048 x 2048 matrices: what the machine can do."""
    a, b = torch.randn(2, _GEMM_SIZE, _GEMM_SIZE).to(device, dtype)
    return lambda: a @ b


def near(flops: float, seconds: list[float], product: list[float]) -> str:
    """In words, the useful FLOP/s of `seconds` and those of `gemm`, which took the seconds `product`."""
    reached, possible = flops / statistics.median(seconds) / 1e9, GEMM_FLOPS / statistics.median(product) / 1e9
    return f"{reached:.0f} useful GFLOP/s, a GEMM reaches {possible:.0f}"


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
