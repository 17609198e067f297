"""The page itself: contents poured into a template that needs nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.report.claims import Finding, findings, write_reproducibility
from benchmarks.report.contents import SUBJECT, Contents, Table, contents
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.files import write_text
from synergen.runs import RunStore

_FOLDER = Path(__file__).resolve().parent
_CURVE_WIDTH, _CURVE_HEIGHT = 320, 90


def write_report(results: Path) -> list[Path]:
    """Write report.html and REPRODUCIBILITY.md of a results folder and return their paths.

    Raises:
        UserError: there are no tables, one cannot be read, or the folder cannot be written.
    """
    page, claims = results / "report.html", results / "REPRODUCIBILITY.md"
    shown = contents(results)
    found = findings(shown.tables, RunStore(results))
    write_text(page, html(shown, found))
    write_reproducibility(found, claims)
    return [page, claims]


def html(shown: Contents, found: Sequence[Finding] = ()) -> str:
    """The page as text."""
    templates = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"percent": _percent, "points": _points, "p": _p_value, "yaml": _yaml, "curve": _curve}
    template = templates.get_template("page.html.j2")
    known = {record["id"] for record in shown.runs}
    return template.render(
        shown=shown,
        findings=found,
        subject=SUBJECT,
        known=known,
        missing=list(_missing(shown.tables)),
        marks=_marks,
        style=(_FOLDER / "style.css").read_text(encoding="utf-8"),
        script=(_FOLDER / "page.js").read_text(encoding="utf-8"),
    )


def _missing(tables: Sequence[Table]) -> list[tuple[str, list[str]]]:
    """What of the paper's tables is not here, and why, by table."""
    found = []
    for number in sorted({table.spec.number for table in tables}):
        own = [table for table in tables if table.spec.number == number]
        spec, lines = own[0].spec, []
        if not spec.published:
            continue
        if spec.paper_dataset and spec.paper_dataset not in {table.dataset for table in own}:
            lines.append(f"The paper's data set, {spec.paper_dataset}, was not run: {_why_not(spec.paper_dataset)}.")
        for table in own:
            pending = dict.fromkeys(method for block in table.blocks for method in block.pending)
            if pending and spec.qualitative:
                lines.append(f"Not built here: {', '.join(pending)}.")
            elif pending:
                lines.append(f"{table.dataset}: no run of {', '.join(pending)} is on record.")
        if lines:
            found.append((f"Table {number}", lines))
    return found


def _why_not(dataset: str) -> str:
    try:
        find_source(dataset)
    except UserError:
        return "it is not public"
    return f"it is public (`synergen data prepare {dataset}`), but takes the GPUs that --scale paper is for"


def _marks(table: Table) -> dict[tuple[str, str, str], str]:
    """By block, method and column, the classes of models' cells that stand out: best, second, and won where the best is
    significantly better than the next. Means that print alike share a place."""
    references = {row.method for row in table.spec.rows if row.reference}
    marks = {}
    for block in table.blocks:
        for column in block.columns:
            rows = [row for row in block.rows if column in row["metrics"] and row["method"] not in references]
            printed = {row["method"]: _percent(row["metrics"][column]["mean"]) for row in rows if "gains" in row}
            places = dict(zip(sorted(set(printed.values()), key=float, reverse=True), ("best", "second"), strict=False))
            for row in rows:
                if mark := places.get(printed.get(row["method"], "")):
                    won = mark == "best" and row["gains"].get(column, {}).get("verdict") == "won"
                    marks[block.name, row["method"], column] = f"{mark} won" if won else mark
    return marks


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f}"


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _yaml(values: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def _curve(points: Sequence[Mapping[str, float]]) -> dict[str, Any] | None:
    """A validation curve as the points of a drawing, and what its corners stand for."""
    if len(points) < 2:
        return None
    epochs, metrics = [point["epoch"] for point in points], [point["metric"] for point in points]
    low, high = min(metrics), max(metrics)
    across, up = _CURVE_WIDTH / (epochs[-1] - epochs[0]), _CURVE_HEIGHT / ((high - low) or 1)
    places = ((across * (e - epochs[0]), _CURVE_HEIGHT - up * (m - low)) for e, m in zip(epochs, metrics, strict=True))
    return {
        "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        "width": _CURVE_WIDTH,
        "height": _CURVE_HEIGHT,
        "low": f"{low:.4f}",
        "high": f"{high:.4f}",
        "epochs": (int(epochs[0]), int(epochs[-1])),
    }
