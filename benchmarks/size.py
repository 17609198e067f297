"""What a run needs, known before there are data: parameters, memory, and where there is a formula, FLOPs."""

import json
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from baselines.hllm.cost import StepCost, step_cost
from baselines.hllm.settings import HLLMSettings
from baselines.registry import build, settings_type
from benchmarks.inputs import Known, known_of
from synergen.contract import DataView
from synergen.errors import UserError
from synergen.files import canonical_json
from synergen.runs import RunSpec
from synergen.text import Encoder

_STATE_BYTES = 4 * 4
"""Of a parameter in float32: weight, gradient, and the two moments of AdamW."""

_TEXT_WIDTH = 384  # of the default text encoder

MOST_ITEMS = 1_000_000
"""Of a catalogue that is made up in memory. Everything about a model is linear in larger ones."""


@dataclass(frozen=True)
class Size:
    """Trained parameters, and the largest step where there is a formula for it."""

    dense: int
    tables: int
    buffer_bytes: int
    """Of what is not trained, text vectors aside."""
    batch_size: int
    step: StepCost | None

    @property
    def state_bytes(self) -> int:
        """Weights, gradients and the state of AdamW."""
        return _STATE_BYTES * (self.dense + self.tables)

    def __str__(self) -> str:
        parts = [
            f"{short(self.dense, ' kMB')} dense parameters and {short(self.tables, ' kMB')} in embedding tables",
            f"{short(self.state_bytes)}B of weights, gradients and AdamW",
        ]
        if self.step:
            parts.append(
                f"a step of {self.batch_size} windows at most {short(self.step.flops)}FLOP and "
                f"{short(self.step.activation_bytes)}B of activations"
            )
        return ", ".join(parts)


def planned_size(spec: RunSpec, source: str) -> str:
    """One line for the plan."""
    if not spec.trainer:
        return "nothing to train"
    known = known_of(source, spec.protocol)
    if known is None:
        return "size not known before the data set is prepared"
    try:
        return str(size_of(spec, known))
    except UserError as error:
        return f"size not known: {error}"


def size_of(spec: RunSpec, known: Known) -> Size:
    """The size of a run's model, which is built on the meta device: no weights are read and none are made.

    Raises:
        UserError: settings out of range, or a language model whose shape is not known here.
    """
    settings = canonical_json(with_plain_tables(spec.settings))
    counted = _parameters(spec.model, settings, known, text_width(spec.protocol))
    batch_size = spec.trainer["batch_size"]
    return Size(*counted, batch_size, _step(spec, batch_size))


def out_of_memory(spec: RunSpec, known: Known, memory: int) -> UserError:
    """The error for a training that met the end of the `memory` bytes of its GPU: what it needs, and what would fit."""
    size, place = size_of(spec, known), f"training.batch_size in benchmarks/configs/{spec.model}.yaml"
    message = f"{spec.model}: the GPU's {short(memory)}B are used up; the plan is {size}. "
    if size.step is None:
        return UserError(f"{message}Lower {place}, now {size.batch_size}")
    fits = _largest_batch(spec, memory - size.state_bytes)
    if fits:
        return UserError(f"{message}By this estimate {place} may be {fits} at most, now {size.batch_size}")
    return UserError(f"{message}By this estimate no batch fits: choose smaller language models, or a larger GPU")


def device_memory(device: str) -> int:
    """Bytes of a GPU."""
    return torch.cuda.get_device_properties(device).total_memory


def _largest_batch(spec: RunSpec, free: int) -> int:
    """The largest batch size, up to one less than the run's, whose activations fit into `free` bytes; 0 for none."""

    def needed(batch_size: int) -> int:
        step = _step(spec, batch_size)
        assert step is not None
        return step.activation_bytes

    return bisect_right(range(1, spec.trainer["batch_size"]), free, key=needed)


def _step(spec: RunSpec, batch_size: int) -> StepCost | None:
    if settings_type(spec.model) is not HLLMSettings:
        return None
    return step_cost(HLLMSettings(**spec.settings), batch_size, 4 if spec.trainer["precision"] == "fp32" else 2)


def with_plain_tables(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the same model without sharded tables, which take several processes to build."""
    return {key: value for key, value in settings.items() if key != "embedding"}


def text_width(protocol: Mapping[str, Any]) -> int:
    """Of the vectors that a protocol's encoder gives, where it is the default one or says so."""
    return Encoder.parse(protocol["encoder"]).dimensions or _TEXT_WIDTH


def _parameters(model: str, settings: str, known: Known, width: int) -> tuple[int, int, int]:
    """Trained parameters of a model, dense ones and those of embedding tables, and bytes of buffers."""
    if known.items <= MOST_ITEMS:
        return _built_parameters(model, settings, known, width)
    more, fewer = (
        _built_parameters(model, settings, replace(known, items=items), width) for items in (MOST_ITEMS, MOST_ITEMS - 1)
    )
    beyond = known.items - MOST_ITEMS
    dense, tables, buffers = (many + beyond * (many - few) for many, few in zip(more, fewer, strict=True))
    return dense, tables, buffers


@lru_cache
def _built_parameters(model: str, settings: str, known: Known, width: int) -> tuple[int, int, int]:
    with torch.device("meta"):
        built = build(model, catalogue_of(known, width), with_plain_tables(json.loads(settings)))
    groups = built.parameter_groups()
    dense, tables = (sum(parameter.numel() for parameter in groups[name]) for name in ("dense", "sparse"))
    return dense, tables, sum(buffer.nbytes for buffer in built.buffers())


def catalogue_of(known: Known, width: int = _TEXT_WIDTH, rows: bool = False) -> DataView:
    """Data of which nothing else is known, text vectors being zero.

    Args:
        rows: whether items and queries have such vectors; they are no parameters, and to know their width takes none.
    """
    queries = known.queries or ("",)
    return DataView(
        n_items=known.items,
        n_queries=len(queries),
        n_actions=1,
        item_texts=[""] * (known.items + 1),
        query_texts=["", *queries],
        item_counts=np.zeros(known.items + 1, dtype=np.int64),
        item_vectors=np.zeros((known.items + 1 if rows else 0, width), dtype=np.float16),
        query_vectors=np.zeros((len(queries) + 1 if rows else 0, width), dtype=np.float16),
        n_users=known.users,
    )


def short(number: float, prefixes: str = " kMGTP") -> str:
    """Three digits and the prefix of a thousand's power: 1.1 G."""
    power = 0
    while number >= 999.5 and power + 1 < len(prefixes):
        number, power = number / 1000, power + 1
    return f"{number:.3g} {prefixes[power].strip()}"
