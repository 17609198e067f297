"""What a run takes of a cluster: FLOPs, memory of each GPU, what GPUs send one another, hours; for each way to hold its
tables.

All of it is counted. Only the share of their peak at which GPUs work has to be measured, see `utilisation`.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch

from baselines.hllm.cost import step_cost
from baselines.hllm.settings import HLLMSettings
from baselines.registry import settings_type
from benchmarks.inputs import Known, reads_text
from benchmarks.planning.cluster import Cluster
from benchmarks.planning.counted_step import CountedStep, count_step
from benchmarks.planning.holding import ByRows, Holding, Plain, Sharded
from benchmarks.planning.workload import UNKNOWN_QUERIES, Workload, made_up_batch
from benchmarks.size import MOST_ITEMS, Size, catalogue_of, size_of, text_width
from synergen.errors import UserError
from synergen.runs import RunSpec

USABLE = 0.9
"""Of a GPU's memory. The rest is left to the context of CUDA, the buffers of NCCL, what a kernel needs for a moment,
and the gaps of the allocator."""

SHARDED_MODELS = ("SynerGen",)
"""Models whose item table can be sharded by rows."""

_MOST_GPUS = 4096
_FLOAT16 = 2


@dataclass(frozen=True)
class Way:
    """A run with its tables held in one way."""

    holding: Holding
    memory: dict[str, float]
    """Bytes on each GPU at the largest step, by what they are for."""
    fits: bool
    least_gpus: int | None
    """The fewest of these GPUs on which the batch fits; None where no number of them will do."""
    largest_batch: int | None
    """The largest batch size that fits on the cluster, 0 where none does; None where activations do not grow with it,
    as with checkpoints, which keep those of one pass."""

    @property
    def bytes(self) -> float:
        return sum(self.memory.values())


@dataclass(frozen=True)
class Bill:
    """What a run takes."""

    spec: RunSpec
    known: Known
    work: Workload
    cluster: Cluster

    @property
    def batch_size(self) -> int:
        """Over all GPUs."""
        return self.spec.trainer["batch_size"]

    @property
    def number(self) -> str:
        """What products are computed in."""
        return "fp32" if self.spec.trainer["precision"] == "fp32" else "bf16"

    @property
    def usable(self) -> float:
        """Bytes of a GPU."""
        return USABLE * 1e9 * self.cluster.gpu.memory_gb

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return math.ceil(self.work.windows / self.batch_size)

    @property
    def busy(self) -> int:
        """GPUs that have a window of each batch."""
        return min(self.cluster.gpus, self.batch_size)

    @property
    def by_formula(self) -> bool:
        """Steps are not counted, but their largest is known by formula: counting two language models takes too long."""
        return settings_type(self.spec.model) is HLLMSettings

    @cached_property
    def size(self) -> Size:
        return size_of(self.spec, self.known)

    @cached_property
    def step(self) -> CountedStep:
        """Of one GPU, with windows of average size."""
        return self._counted(math.ceil(self.batch_size / self.cluster.gpus))

    @cached_property
    def frozen_bytes(self) -> float:
        """Of the text vectors, which each GPU holds in float16."""
        rows = self.known.items + 1 + len(self.known.queries) + 1
        return _FLOAT16 * rows * text_width(self.spec.protocol) if reads_text(self.spec) else 0

    def ways(self, sharded: bool = False) -> list[Way]:
        """The ways to hold the tables.

        Args:
            sharded: only sharded ones.

        Raises:
            UserError: `sharded`, and the run's tables cannot be.
        """
        refusal, only = why_not_sharded(self.spec), sharded or self.spec.settings.get("embedding") == "torchrec"
        if refusal and only:
            raise UserError(f"{self.spec.model}: {refusal}; leave out --sharded, or name other --models")
        found: list[Holding] = []
        dense, tables, step = self.size.dense, self.size.tables, self.step
        if not only:
            by_rows = self.spec.trainer.get("row_updates")
            found.append(ByRows(dense, tables, step.rows, step.row_numbers) if by_rows else Plain(dense, tables))
        if not refusal:
            width = self.spec.settings["width"]
            items = self.known.items + 1
            found.append(Sharded(dense, tables - width * items, items, width, step.rows))
        return [self._way(holding) for holding in found]

    def compute_seconds(self, utilisation: float) -> float:
        """Of a step, matrix products at such a share of the GPUs' peak."""
        return self.step.flops / (1e12 * self.cluster.gpu.tflops[self.number] * utilisation)

    def sending_seconds(self, way: Way) -> float:
        """Of a step."""
        return sum(sent.seconds for sent in way.holding.sent(self.cluster).values())

    def table_seconds(self, way: Way) -> float:
        """Of a step, for a GPU's memory to go through what changes in the tables."""
        return way.holding.touched / (1e9 * self.cluster.gpu.memory_gb_s)

    def step_seconds(self, way: Way, utilisation: float) -> float:
        """As if nothing of a step overlapped."""
        return self.compute_seconds(utilisation) + self.sending_seconds(way) + self.table_seconds(way)

    def epoch_hours(self, way: Way, utilisation: float) -> float:
        """Without validation."""
        return self.steps * self.step_seconds(way, utilisation) / 3600

    def _way(self, holding: Holding) -> Way:
        def memory(gpus: int, full: int) -> dict[str, float]:
            parts = {
                "frozen text vectors": self.frozen_bytes,
                "other buffers": self.size.buffer_bytes,
                "activations, at most": self._activations(full),
            }
            return {name: size for name, size in (holding.memory(gpus) | parts).items() if size}

        def fits(gpus: int) -> bool:
            return sum(memory(gpus, self._full(gpus)).values()) <= self.usable

        gpus = self.cluster.gpus
        free = self.usable - sum(memory(gpus, 1).values())
        each = self._activations(2) - self._activations(1)
        windows = (1 + math.floor(free / each) if each else None) if free >= 0 else 0
        return Way(
            holding,
            memory(gpus, self._full(gpus)),
            fits(gpus),
            next(filter(fits, range(1, _MOST_GPUS)), None),
            None if windows is None else math.floor(windows * self.work.full[1] / self.work.targets) * gpus,
        )

    def _full(self, gpus: int) -> int:
        """The most full windows of one GPU in a step."""
        return self.work.full_windows(max(1.0, self.batch_size / gpus))

    def _activations(self, full: int) -> float:
        """Bytes that the backward pass of so many full windows needs."""
        if self.by_formula:
            return self._hllm(full).kept_bytes
        first, each = self._by_windows
        return first + (full - 1) * each

    @cached_property
    def _by_windows(self) -> tuple[float, float]:
        """Bytes kept of one full window, and of each further one: they grow along a line."""
        few = 4  # one alone would differ from the line by what a batch has in common
        fewer, more = (self._counted(windows, full=True).kept_bytes for windows in (few, 2 * few))
        each = (more - fewer) / few
        return fewer - (few - 1) * each, each

    def _counted(self, windows: int, full: bool = False) -> CountedStep:
        """A step with made-up windows; over a catalogue of more than `MOST_ITEMS` as many products as are in line with
        two smaller ones."""
        spec = self.spec
        if self.by_formula:
            return self._hllm(windows)

        def of(items: int) -> CountedStep:
            known = Known(items, self.known.users, self.known.queries or UNKNOWN_QUERIES)
            batch = made_up_batch(self.work, windows, spec, known, full)
            dtype = torch.bfloat16 if self.number == "bf16" else None
            return count_step(spec.model, spec.settings, catalogue_of(known, text_width(spec.protocol)), batch, dtype)

        if self.known.items <= MOST_ITEMS:
            return of(self.known.items)
        fewer, more = of(MOST_ITEMS // 2), of(MOST_ITEMS)
        further = (self.known.items - MOST_ITEMS) / (MOST_ITEMS // 2)
        flops = more.flops + further * (more.flops - fewer.flops)
        kept = more.kept_bytes + further * (more.kept_bytes - fewer.kept_bytes)
        return CountedStep(flops, int(kept), more.rows, more.row_numbers)

    def _hllm(self, windows: int) -> CountedStep:
        cost = step_cost(HLLMSettings(**self.spec.settings), windows, 4 if self.number == "fp32" else 2)
        return CountedStep(cost.flops, int(cost.activation_bytes), 0, 0)


def why_not_sharded(spec: RunSpec) -> str | None:
    """Why the item table of a run cannot be sharded, if it cannot."""
    if spec.model not in SHARDED_MODELS:
        return f"its tables cannot be sharded by rows, those of {', '.join(SHARDED_MODELS)} can"
    if spec.settings["inputs"] == "text":
        return "items of text alone have no table to be sharded"
    if spec.settings["retrieval_loss"] == "full_softmax":
        return "a softmax over all items reads the whole table; a sharded one takes retrieval_loss: infonce"
    if spec.settings["hard"] == "mined" and spec.settings["alpha"] < 1:
        return "mined negatives are searched in the whole table; a sharded one takes another kind of hard ones"
    return None
