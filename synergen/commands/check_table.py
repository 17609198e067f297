"""`synergen check-table`: are the numbers of a printed table possible?"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from synergen.commands.common import command
from synergen.errors import UserError
from synergen.evaluation.quoted_rows import QuotedRow, quoted_rows
from synergen.evaluation.table_cells import read_cells

PAPER = "paper"


def add(commands: Any) -> None:
    """Add the command."""
    check = command(
        commands,
        "check-table",
        "find rows of a table whose recalls, NDCGs and MRR no ranking has: one relevant item a question",
        _check,
        "synergen check-table table.tex",
    )
    check.add_argument(
        "table",
        metavar=f"FILE|{PAPER}",
        help=f"a .csv, .tsv, .md or .tex file with tables, in percent or fractions; or {PAPER}: the tables of the "
        "SynerGen paper. Columns under one heading are taken to be of one ranking",
    )
    check.add_argument(
        "--half-ranks",
        action="store_true",
        help="ties share their mean rank, as in the tables of benchmarks/run.py; without it, ranks are whole numbers",
    )
    check.add_argument("--json", action="store_true", help="print JSON")


def _check(options: argparse.Namespace, screen: Console) -> None:
    rows = list(_paper() if options.table == PAPER else _file(Path(options.table), options.half_ranks))
    told = [row for row in rows if row.values]
    if not told:
        raise UserError(f"{options.table}: no column is called R@k, Recall@k, HR@k, N@k, NDCG@k or MRR")
    wrong = [(row, found) for row in told if (found := row.conflicts())]
    if options.json:
        impossible = [{"row": row.name, "conflicts": [one.said(row.percent) for one in found]} for row, found in wrong]
        print(json.dumps({"rows": len(told), "impossible": impossible}, ensure_ascii=False))
    else:
        for row, found in wrong:
            for one in found:
                screen.print(f"{row.name}: {one.said(row.percent)}", soft_wrap=True, markup=False)
        numbers = sum(len(row.values) for row in told)
        screen.print(f"{len(told)} rows with {numbers} numbers: {len(told) - len(wrong)} possible, {len(wrong)} not")
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(told)} rows cannot be of one ranking of the same questions, of one relevant item "
            "each, however their digits were rounded"
        )


def _file(path: Path, half_ranks: bool) -> Iterator[QuotedRow]:
    for cells in read_cells(path):
        yield from quoted_rows(cells, half_ranks)


def _paper() -> Iterator[QuotedRow]:
    from benchmarks.consistency import paper_rows
    from benchmarks.spec import load_spec

    for number in (2, 3, 4):
        for row in paper_rows(load_spec(number)):
            yield QuotedRow(f"Table {number}, {row.name}", row.values, row.percent)
