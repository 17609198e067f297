"""A table on disk: Markdown, LaTeX, and plain values as CSV and JSON."""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.differences import Compared
from benchmarks.formats import latex, markdown
from benchmarks.gains import Gain
from benchmarks.grids import grid
from benchmarks.tables import Row, Table, readings_of
from synergen.files import write_json, write_text

_CSV_COLUMNS = (
    *("table", "dataset", "method", "group", "block", "metric"),
    *("status", "seeds", "mean", "low", "high", "paper", "runs"),
)
_CSV_DIFFERENCES = ("difference", "difference_low", "difference_high", "p_value", "paper_difference", "sign")
"""Further columns of a table that compares its rows."""
_CSV_GAINS = (
    *("ranking", "best_other", "gain", "gain_low", "gain_high", "gain_p_value", "gain_p_holm", "effect"),
    *("users_won", "users_lost", "users_compared", "seeds_compared"),
)
"""Further columns of a table of numbers: what is ranked, and the row against the best other one."""


def write(table: Table, folder: Path, stem: str) -> list[Path]:
    """Write `stem`.md, .csv, .tex and .json, each whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    shown = grid(table)
    texts = {"md": markdown(shown), "csv": to_csv(table), "tex": latex(shown, stem)}
    paths = [folder / f"{stem}.{suffix}" for suffix in (*texts, "json")]
    for path, text in zip(paths, texts.values(), strict=False):
        write_text(path, text)
    write_json(paths[-1], to_json(table))
    return paths


def to_json(table: Table) -> dict[str, Any]:
    """The table as plain values: ours as fractions, the paper's in percent as printed, nothing rounded. A table that
    states facts of its methods has these as the `facts` of its rows."""
    return {
        "table": table.spec.number,
        "dataset": table.dataset,
        "protocol": dict(table.protocol),
        "rows": [
            {
                "method": row.method.method,
                "block": row.block.name,
                "status": row.status,
                "seeds": row.seeds,
                "metrics": {name: asdict(value) for name, value in row.metrics.items()},
                **({} if table.spec.qualitative else {"gains": _gains(row.gains)}),
                "paper": row.paper,
                "runs": list(row.runs),
                **({"facts": row.facts} if table.spec.stated or row.block.costs else {}),
                **({"differences": _plain(row.differences)} if table.spec.compared_with else {}),
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _plain(differences: Mapping[str, Compared]) -> dict[str, Any]:
    return {column: asdict(one.ours) | {"paper": one.paper, "sign": one.verdict} for column, one in differences.items()}


def _gains(gains: Mapping[str, Gain]) -> dict[str, Any]:
    return {column: asdict(one) | {"verdict": one.verdict} for column, one in gains.items()}


def to_csv(table: Table) -> str:
    """One line a method, block and column; ours as fractions, the paper's in percent as printed, costs as means. Facts
    of a method are columns behind these, and so are the paper's where it has any."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    compares = table.spec.compared_with is not None
    states = table.spec.stated
    papers = [name for name in states if any(name in row.paper for row in table.rows)]
    stated = [*map(_csv_name, states), *(f"paper_{_csv_name(name)}" for name in papers)]
    tests = _CSV_GAINS if not table.spec.qualitative else ()
    writer.writerow([*_CSV_COLUMNS, *tests, *(_CSV_DIFFERENCES if compares else ()), *stated])
    for row in table.rows:
        for column in (*row.block.columns, *row.block.costs):
            ours = row.metrics.get(column)
            writer.writerow(
                [
                    table.spec.number,
                    table.dataset,
                    row.method.method,
                    row.method.group,
                    row.block.name,
                    column,
                    row.status,
                    row.seeds,
                    *((ours.mean, ours.low, ours.high) if ours else (row.facts.get(column, ""), "", "")),
                    row.paper.get(column, ""),
                    " ".join(row.runs),
                    *(_csv_gain(table, row, column) if tests else ()),
                    *(_csv_difference(row.differences.get(column)) if compares else ()),
                    *(row.facts.get(name, "") for name in states),
                    *(row.paper.get(name, "") for name in papers),
                ]
            )
    return out.getvalue()


def _csv_name(fact: str) -> str:
    return fact.lower().replace(" ", "_")


def _csv_gain(table: Table, row: Row, column: str) -> tuple[Any, ...]:
    ranking, _ = readings_of(row.method, row.block, table.protocol).get(column, ("", ""))
    one = row.gains.get(column)
    if one is None:
        return ranking, *("",) * (len(_CSV_GAINS) - 1)
    ends = (one.difference.mean, one.difference.low, one.difference.high)
    users = (one.wins, one.losses, one.users, one.seeds)
    return ranking, one.other, *ends, one.p_value, one.p_holm, one.effect, *users


def _csv_difference(one: Compared | None) -> tuple[Any, ...]:
    if one is None:
        return ("",) * len(_CSV_DIFFERENCES)
    return one.ours.mean, one.ours.low, one.ours.high, one.ours.p_value, one.paper, one.verdict
