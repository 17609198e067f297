"""What the page shows, read from a results folder: tables as they were written, figures, and the runs behind them."""

import base64
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.spec import Spec, load_spec
from synergen.errors import UserError
from synergen.runs import RunStore

SUBJECT = "SynerGen"
"""The method whose standing the page is about."""

_WIDTH, _COLOURS = 840, 48
"""Of a figure on the page: lines and text need no more, and the page stays small."""


@dataclass(frozen=True)
class Standing:
    """Where SynerGen stands in a block, by one metric."""

    block: str
    metric: str
    place: int
    rows: int
    mean: float
    other: str | None
    """The best other row, where there is one that shares seeds."""
    gain: Mapping[str, Any] | None


@dataclass(frozen=True)
class Block:
    """The rows of a table that answer one question."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @property
    def pending(self) -> list[str]:
        return [row["method"] for row in self.rows if row["status"] == "pending"]


@dataclass(frozen=True)
class Figure:
    """A picture, ready for the page."""

    name: str
    png: str  # base64
    width: int
    height: int


@dataclass(frozen=True)
class Table:
    """A table of the results folder with its figures."""

    stem: str
    spec: Spec
    dataset: str
    protocol: Mapping[str, Any]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...]
    figures: tuple[Figure, ...]

    @property
    def standings(self) -> Iterator[Standing]:
        """One a block of numbers that SynerGen is in."""
        for block in self.blocks:
            done = [row for row in block.rows if row["metrics"]]
            own = next((row for row in done if row["method"] == SUBJECT), None)
            if own is None or len(done) < 2 or "gains" not in own:
                continue
            metric = "N@10" if "N@10" in own["metrics"] else next(iter(own["metrics"]))
            mean = own["metrics"][metric]["mean"]
            rivals = [row for row in done if metric in row["metrics"]]
            place = 1 + sum(row["metrics"][metric]["mean"] > mean for row in rivals)
            gain = own["gains"].get(metric)
            yield Standing(block.name, metric, place, len(rivals), mean, gain and gain["other"], gain)


@dataclass(frozen=True)
class Contents:
    """Everything on the page."""

    tables: tuple[Table, ...]
    other_figures: tuple[Figure, ...]
    runs: tuple[Mapping[str, Any], ...]
    """Records of the runs that a table names, by model, data set and seed."""


def contents(results: Path) -> Contents:
    """Read a results folder.

    Raises:
        UserError: there are no tables, or one that cannot be read.
    """
    paths = sorted((results / "tables").glob("table*.json"))
    if not paths:
        raise UserError(f"{results / 'tables'}: there are no tables; make one by benchmarks/run.py --table N")
    pictures = sorted((results / "plots").glob("*.png"))
    stems = sorted((path.stem for path in paths), key=len, reverse=True)

    def owner(picture: Path) -> str | None:
        return next((stem for stem in stems if picture.name.startswith(f"{stem}.")), None)

    tables = tuple(_table(path, [one for one in pictures if owner(one) == path.stem]) for path in paths)
    named = {run for table in tables for block in table.blocks for row in block.rows for run in row["runs"]}
    records = [record for record in RunStore(results).records() if record["id"] in named]
    records.sort(key=lambda record: (record["model"], record["dataset"], record["task"], record["seed"], record["id"]))
    return Contents(tables, tuple(_figure(one) for one in pictures if owner(one) is None), tuple(records))


def _table(path: Path, pictures: Sequence[Path]) -> Table:
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        spec = load_spec(written["table"])
        names = dict.fromkeys(row["block"] for row in written["rows"])
        blocks = tuple(_block(name, [row for row in written["rows"] if row["block"] == name]) for name in names)
        figures = tuple(_figure(picture, drop=f"{path.stem}.") for picture in pictures)
        return Table(path.stem, spec, written["dataset"], written["protocol"], blocks, tuple(written["notes"]), figures)
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error!r}); make the table again by benchmarks/run.py") from error


def _block(name: str, rows: list[dict[str, Any]]) -> Block:
    shown = tuple(row for row in rows if row["status"] != "not applicable")
    columns = dict.fromkeys(column for row in shown for column in (*row["paper"], *row["metrics"]))
    printed = {column for row in shown for column in row["metrics"]} or set(columns)
    return Block(name, tuple(column for column in columns if column in printed), shown)


def _figure(path: Path, drop: str = "") -> Figure:
    with Image.open(path) as picture:
        height = round(picture.height * _WIDTH / picture.width)
        small = (
            picture.convert("RGB")
            .resize((_WIDTH, height), Image.Resampling.LANCZOS)
            .quantize(_COLOURS, Image.Quantize.MAXCOVERAGE)
        )
    out = io.BytesIO()
    small.save(out, format="png", optimize=True)
    name = path.stem.removeprefix(drop).replace(".", ", ").replace("-", " ")
    return Figure(name, base64.b64encode(out.getvalue()).decode("ascii"), _WIDTH, height)
