"""A training step counted without being computed: FLOPs, what the backward pass needs, and the rows that are read.

The model's own `loss` runs on torch's fake tensors, which have shapes and no numbers, forward and backward: at full
size, in seconds, and for every model that learns, without a formula for any. Whatever follows from the batch alone
(masks, places of targets, negatives that are drawn) is computed for real, so that shapes that depend on it are right.
Number formats are those of a processor's autocast; a GPU's keeps the weights of an attention in float32, too.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from baselines.copps import CoPPS
from baselines.registry import build
from benchmarks.size import with_plain_tables
from synergen.contract import Batch, DataView, Recommender
from synergen.errors import UserError
from synergen.model.dropout import Dropout

_aten = torch.ops.aten
_IS_META = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined]
_FILLED = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_INDEXED = (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default)


@dataclass(frozen=True)
class CountedStep:
    """Forward and backward of one batch, the optimiser aside."""

    flops: float
    """Of matrix products, as torch's own counter has them."""
    kept_bytes: int
    """What autograd keeps for the backward pass, each storage once and parameters aside."""
    rows: int
    """Distinct rows that are looked up in embedding tables, each table on its own."""
    row_numbers: int
    """Numbers in these rows."""


def count_step(
    model: str, settings: Mapping[str, Any], data: DataView, batch: Batch, dtype: torch.dtype | None
) -> CountedStep:
    """Count a step of a registered model.

    Args:
        data: a catalogue, of which no more than its size need be known.
        dtype: of autocast, None for none.

    Raises:
        UserError: the settings make no model, or what the loss computes depends on more than shapes.
    """
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with _Unfilled(fake), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # by copy.deepcopy
        built = build(model, data, _alike(settings))
    if isinstance(built, CoPPS):  # it would search all items for those with like texts
        built._nearest = torch.zeros(data.n_items + 1, built.settings.neighbours, dtype=torch.int64)
    use_byte_masks(built)
    with fake:
        _lengthen_text(built, data.n_items + 1)
    return step_of(built.train(), batch, dtype)


def step_of(model: Recommender, batch: Batch, dtype: torch.dtype | None) -> CountedStep:
    """Count a step of a model that is built, of fake tensors or of real ones.

    Raises:
        UserError: as `count_step`.
    """
    read: dict[nn.Embedding | nn.EmbeddingBag, list[Tensor]] = {}

    def note(table: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(table, nn.Embedding | nn.EmbeddingBag)
        read.setdefault(table, []).append(inputs[0].detach().flatten())

    tables = [module for module in model.modules() if isinstance(module, nn.Embedding | nn.EmbeddingBag)]
    hooks = [table.register_forward_pre_hook(note) for table in tables if table.weight.requires_grad]
    kept = _Kept(model)
    counter = FlopCounterMode(display=False)
    try:
        with _RealMasks(), counter, torch.autograd.graph.saved_tensors_hooks(kept.pack, kept.unpack):
            with torch.autocast(batch.targets.device.type, dtype=dtype, enabled=dtype is not None):
                terms = model.loss(batch)
            torch.stack([term.float() for term in terms.values()]).sum().backward()
    except RuntimeError as error:
        raise UserError(f"{type(model).__name__}: its step cannot be counted by shapes ({error})") from error
    finally:
        for hook in hooks:
            hook.remove()
    distinct = [(len(torch.cat(ids).unique()), table) for table, ids in read.items()]
    rows = sum(count for count, _ in distinct)
    numbers = sum(count * table.embedding_dim for count, table in distinct)
    return CountedStep(counter.get_total_flops(), kept.bytes, rows, numbers)


def _alike(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the same shapes that need neither an index of the catalogue nor other processes."""
    mined = {"hard": "sampled"} if settings.get("hard") == "mined" else {}
    return with_plain_tables(settings) | mined


class _Unfilled(TorchFunctionMode):
    """Makes real-valued tensors fake that a model fills itself, its weights; tables of ids keep their numbers."""

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()
        self.fake = fake

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func == _IS_META and isinstance(args[0], FakeTensor):
            return True  # so that nothing is drawn until it fits: there are no numbers
        dtype = kwargs.get("dtype") or torch.get_default_dtype()
        if func in _FILLED and dtype.is_floating_point:
            with self.fake:
                return func(*args, **kwargs)
        return func(*args, **kwargs)


class _RealMasks(TorchDispatchMode):
    """Lets real masks and places choose among fake numbers, which have too little to tell how many there are."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _INDEXED:
            places: list[Tensor | None] = []
            for index in args[1]:
                is_mask = index is not None and index.dtype is torch.bool and not isinstance(index, FakeTensor)
                places += index.nonzero(as_tuple=True) if is_mask else (index,)
            args = (args[0], places, *args[2:])
        elif func is _aten.bincount.default and len(args) > 1 and isinstance(args[1], FakeTensor):
            bins = torch.bincount(args[0], minlength=args[2] if len(args) > 2 else 0)
            return args[1].new_empty(len(bins), dtype=torch.float64)
        return func(*args, **(kwargs or {}))


class _Kept:
    """The storages that autograd was given to keep."""

    def __init__(self, model: nn.Module) -> None:
        parameters = [parameter.untyped_storage() for parameter in model.parameters()]
        self._own = {storage._cdata: storage for storage in parameters}
        self._found: dict[int, torch.UntypedStorage] = {}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._own:
            self._found[storage._cdata] = storage  # held, so that its place is not given away
        return tensor

    def unpack(self, tensor: Tensor) -> Tensor:
        return tensor

    @property
    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._found.values())


class _ByteMask(nn.Module):
    """Dropout as GPUs have it: a byte an element is kept, where processors keep a number."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return torch.native_dropout(x, self.p, True)[0] if self.p else x


def _lengthen_text(model: nn.Module, rows: int) -> None:
    """Text vectors that were left empty, with as many rows as there are items. Queries are read one by one: how many
    rows they have makes no difference."""
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if buffer.dim() == 2 and buffer.is_floating_point() and not len(buffer):
                setattr(module, name, buffer.new_empty(rows, buffer.shape[1]))


def use_byte_masks(model: nn.Module) -> None:
    """Put `_ByteMask` in the place of dropout."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout | nn.Dropout):
                setattr(module, name, _ByteMask(child.p))
