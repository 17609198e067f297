"""What each table is: its protocol, its columns, its rows, and the numbers that the paper prints."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.facts import FACTS
from benchmarks.references import REFERENCES
from benchmarks.views import RANKING, RETRIEVAL, view_name
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
_OPTIONAL = ("heads", "max_users")
"""Protocol keys that a table may leave out: a model is then read from its retrieval head alone, and all users stay."""
_GROUPS = ("collaborative", "semantic", "ours", "reference")

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
    reads: Mapping[str, tuple[str, str]] | None = None
    """Candidates and metric of each column, where a column is not named after its metric; a column that is left out
    does not apply."""
    costs: tuple[str, ...] = ()
    """Further columns, facts of the records: means over seeds."""

    def reading(self, column: str, head: str, protocol: Mapping[str, Any]) -> tuple[str, str] | None:
        """The name of the ranks and the metric that a column is made of, or None where it does not apply."""
        if self.reads is None:
            return view_name(protocol["candidates"], head), column
        if column not in self.reads:
            return None
        candidates, metric = self.reads[column]
        if head == RANKING and candidates == "full":  # a token for each item and request is too dear
            return None
        return view_name(candidates, head), metric


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
    training: Mapping[str, Any] = field(default_factory=dict)
    """The same for how it is trained."""
    group: str | None = None
    """collaborative or semantic, as the paper groups its rows; ours for a model and reference for a
    bound that the paper does not have."""
    published: str | None = None
    """Key in published.yaml; None where the paper has no such row."""
    head: str = RETRIEVAL
    """Which of the model's heads the row is read from: retrieval or ranking."""
    reference: str | None = None
    """oracle or policy: no model, but what a simulator knows of its own requests."""

    @property
    def subject(self) -> str | None:
        """What a run of this row names as its model."""
        return self.reference or self.model

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
    states: tuple[str, ...] = ()
    """Facts of the records that stand before the numbers of each row."""
    appendix: tuple[str, ...] = ()
    """Facts of the records that a panel behind the numbers shows of each row."""
    remarks: tuple[str, ...] = ()
    """What a reader should know of the paper's numbers."""
    dataset: str = "ml-100k"
    """The data set where none is asked for."""
    compared_with: str | None = None
    """The method that ablations are compared with, where there are such."""
    without_impressions: Mapping[str, Any] = field(default_factory=dict)
    """What replaces the above on a log that does not say what its requests showed."""
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The paper's rows by key: cells by column, under the block's name where the table names its blocks."""

    @property
    def stated(self) -> tuple[str, ...]:
        """All facts of the records that the table shows of each row."""
        return (*self.states, *self.appendix)

    @property
    def qualitative(self) -> bool:
        """Whether the columns are texts, so that no row is ever run."""
        return all(block.task is None for block in self.blocks)

    def fitting(self, impressions: bool) -> "Spec":
        """The table as it is on a log with or without impressions."""
        return self if impressions else replace(self, **self.without_impressions, without_impressions={})

    def paper(self, row: RowSpec, block: Block) -> dict[str, Printed]:
        """What the paper prints for a row in a block, by column."""
        if row.published is None:
            return {}
        cells = self.published[row.published]
        return dict(cells if block.name is None else cells.get(block.name, {}))


def load_spec(number: int) -> Spec:
    """A table by its number: 1 to 4 are the paper's.

    Raises:
        UserError: no such table, or a fault in its file, which the message names.
    """
    files = {path.stem.removeprefix("table"): path for path in (_FOLDER / "specs").glob("table*.yaml")}
    if str(number) not in files:
        raise unknown_name("table", str(number), files)
    path = files[str(number)]
    return parse_spec(_read(path), _read(_FOLDER / "published.yaml").get(f"table{number}", {}), path.name)


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
    if (base := table.get("compared_with")) is not None:
        _among("method", base, methods, f"{where}, compared_with")
    _check_protocol(table["protocol"], where)
    stated = {key: tuple(table.get(key, ())) for key in ("states", "appendix")}
    for key, names in stated.items():
        for name in names:
            _among("fact", name, FACTS, f"{where}, {key}")
    remarks = tuple(table.get("remarks", ()))
    otherwise = _otherwise(table.get("without_impressions", {}), f"{where}, without_impressions")
    parsed = {"blocks": blocks, "rows": rows, **stated, "remarks": remarks, "published": published}
    return Spec(**table | parsed | {"without_impressions": otherwise})


def _otherwise(raw: Any, where: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise UserError(f"{where}: {raw!r} stands where keys with values are expected")
    for key in raw:
        _among("key", key, ("title", "heading", "protocol", "blocks", "remarks"), where)
    parsed = dict(raw)
    if "blocks" in raw:
        parsed["blocks"] = tuple(_block(one, f"{where}, blocks") for one in raw["blocks"])
    if "remarks" in raw:
        parsed["remarks"] = tuple(raw["remarks"])
    _check_protocol(raw.get("protocol", {}), where)
    return parsed


def _check_protocol(protocol: Mapping[str, Any], where: str) -> None:
    for key in protocol:
        _among("protocol key", key, (*_PROTOCOL, *_OPTIONAL), where)
    if protocol and (left_out := set(_PROTOCOL) - set(protocol)):
        raise UserError(f"{where}: the protocol leaves out {', '.join(sorted(left_out))}; add them or leave it empty")


def _block(raw: Any, where: str) -> Block:
    block = _mapping(raw, Block, where)
    if block["task"] is not None:
        _among("task", block["task"], map(str, Task), where)
    reads = block.get("reads")
    for column in reads or ():
        _among("column", column, block["columns"], f"{where}, reads")
    pairs = None if reads is None else {column: (pair[0], pair[1]) for column, pair in reads.items()}
    for name in (costs := tuple(block.get("costs", ()))):
        _among("fact", name, FACTS, f"{where}, costs")
    return Block(**block | {"columns": tuple(block["columns"]), "reads": pairs, "costs": costs})


def _row(raw: Any, published: Mapping[str, Any], where: str) -> RowSpec:
    row = RowSpec(**_mapping(raw, RowSpec, where))
    where = f"{where}, {row.method}"
    _among("task", row.task, [*map(str, Task), "joint"], where)
    if row.group is not None:
        _among("group", row.group, _GROUPS, where)
    _among("head", row.head, (RETRIEVAL, RANKING), where)
    if row.reference is not None:
        _among("reference", row.reference, REFERENCES, where)
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
