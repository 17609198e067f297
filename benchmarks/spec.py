"""What each table of the paper is: its protocol, its columns, its rows, and the numbers that the paper prints."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from synergen.contract import Task
from synergen.errors import UserError, unknown_name

_FOLDER = Path(__file__).resolve().parent
_PROTOCOL = (
    "split",
    "filter",
    "min_count",
    "max_history",
    "encoder",
    "candidates",
    "negatives",
    "validation",
    "search_share",
)
_GROUPS = ("collaborative", "semantic", "ours")

Printed = float | str
"""A cell of the paper: percent, or a text."""


@dataclass(frozen=True)
class Block:
    """Columns of one task."""

    name: str | None
    """What stands above the columns; None where a table has one block only."""
    task: str | None
    """recommendation or search; None where the columns are texts of the paper."""
    columns: tuple[str, ...]


@dataclass(frozen=True)
class RowSpec:
    """A method of a table."""

    method: str
    model: str | None
    """Its name in the registry of models, whether or not the registry has it by now; None where no model is meant."""
    task: str
    """What it is trained and tested on: recommendation, search or joint."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What this row sets otherwise than the model's configuration."""
    group: str | None = None
    """collaborative or semantic, as the paper groups its rows; ours for a row that the paper does not have."""
    published: str | None = None
    """Key in published.yaml; None where the paper has no such row."""

    @property
    def tasks(self) -> frozenset[str]:
        """The tasks of the blocks that apply."""
        return frozenset(map(str, Task)) if self.task == "joint" else frozenset({self.task})


@dataclass(frozen=True)
class Spec:
    """A table before anything has run."""

    number: int
    title: str
    paper_dataset: str | None
    heading: str
    protocol: Mapping[str, Any]
    """Empty where nothing is run."""
    blocks: tuple[Block, ...]
    rows: tuple[RowSpec, ...]
    remarks: tuple[str, ...] = ()
    """What a reader should know of the paper's numbers."""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The paper's rows by key: cells by column, under the block's name where the table names its blocks."""

    @property
    def qualitative(self) -> bool:
        """Whether the columns are texts, so that no row is ever run."""
        return all(block.task is None for block in self.blocks)

    def paper(self, row: RowSpec, block: Block) -> dict[str, Printed]:
        """What the paper prints for a row in a block, by column."""
        if row.published is None:
            return {}
        cells = self.published[row.published]
        return dict(cells if block.name is None else cells.get(block.name, {}))


def load_spec(number: int) -> Spec:
    """A table of the paper.

    Raises:
        UserError: no such table, or a fault in its file, which the message names.
    """
    files = {path.stem.removeprefix("table"): path for path in (_FOLDER / "specs").glob("table*.yaml")}
    if str(number) not in files:
        raise unknown_name("table", str(number), files)
    path = files[str(number)]
    return parse_spec(_read(path), _read(_FOLDER / "published.yaml")[f"table{number}"], path.name)


def parse_spec(raw: Any, published: Mapping[str, Mapping[str, Any]], where: str) -> Spec:
    """A specification from plain values.

    Raises:
        UserError: an unknown or missing key, or a value that is not among the possible ones.
    """
    table = _mapping(raw, Spec, where, loaded=("published",))
    blocks = tuple(_block(one, f"{where}, blocks") for one in table["blocks"])
    rows = tuple(_row(one, published, f"{where}, rows") for one in table["rows"])
    methods = [row.method for row in rows]
    for method in methods:
        if methods.count(method) > 1:
            raise UserError(f"{where}: method '{method}' has two rows; rename one")
    for key in table["protocol"]:
        _among("protocol key", key, _PROTOCOL, where)
    if table["protocol"] and (left_out := set(_PROTOCOL) - set(table["protocol"])):
        raise UserError(f"{where}: the protocol leaves out {', '.join(sorted(left_out))}; add them or leave it empty")
    remarks = tuple(table.get("remarks", ()))
    return Spec(**table | {"blocks": blocks, "rows": rows, "remarks": remarks, "published": published})


def _block(raw: Any, where: str) -> Block:
    block = _mapping(raw, Block, where)
    if block["task"] is not None:
        _among("task", block["task"], map(str, Task), where)
    return Block(**block | {"columns": tuple(block["columns"])})


def _row(raw: Any, published: Mapping[str, Any], where: str) -> RowSpec:
    row = RowSpec(**_mapping(raw, RowSpec, where))
    where = f"{where}, {row.method}"
    _among("task", row.task, [*map(str, Task), "joint"], where)
    if row.group is not None:
        _among("group", row.group, _GROUPS, where)
    if row.published is not None:
        _among("row of published.yaml", row.published, published, where)
    return row


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _mapping(raw: Any, kind: type, where: str, loaded: tuple[str, ...] = ()) -> dict[str, Any]:
    """`raw` as arguments of the dataclass `kind`, the fields in `loaded` aside."""
    if not isinstance(raw, dict):
        raise UserError(f"{where}: {raw!r} stands where keys with values are expected")
    known = {one.name: one for one in fields(kind) if one.name not in loaded}
    for key in raw:
        _among("key", key, known, where)
    for name, one in known.items():
        required = one.default is MISSING and one.default_factory is MISSING
        if required and name not in raw:
            raise UserError(f"{where}: key '{name}' is missing; add it")
    return dict(raw)


def _among(kind: str, name: Any, known: Iterable[str], where: str) -> None:
    names = list(known)
    if name not in names:
        raise unknown_name(kind, str(name), names, where=where)
