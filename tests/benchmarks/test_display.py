"""Tables on a terminal, rendered to text at a fixed width."""

import io

import numpy as np
from rich.console import Console

from benchmarks.display import console_table
from benchmarks.tables import Run, build, load_spec

REGISTRY = {"SASRec": frozenset({"recommendation"}), "BERT4Rec": frozenset({"recommendation"})}


def rendered(number: int, color: bool = False) -> str:
    """Table `number` with one SASRec run: of users ranked 1 and 2 in recommendation."""
    spec = load_spec(number)
    record = {
        "id": "x", "model": "SASRec", "dataset": "ml-100k", "task": "recommendation", "seed": 0, "scale": "smoke",
        "protocol": dict(spec.protocol),
        "data": {"hash": "0" * 64, "users": 2, "items": 9, "events": 99},
        "training": {"stopped": "early stopping", "epochs": 1, "best_epoch": 1, "curve": [{"targets": 9}]},
        "settings": {}, "trainer": {}, "parameters": {"dense": 1}, "seconds": 2.0,
    }  # fmt: skip
    ranks = {("recommendation", str(spec.protocol.get("candidates"))): np.array([1.0, 2.0])}
    method = next((row.method for row in spec.rows if row.model == "SASRec"), None)
    runs = {method: [Run(record, ranks)]} if method else {}
    out = io.StringIO()
    screen = Console(file=out, width=140, force_terminal=color, color_system="standard" if color else None)
    for part in console_table(build(spec, runs, REGISTRY)):
        screen.print(part)
    return out.getvalue()


def test_ours_beside_the_papers_and_the_rest_visible() -> None:
    """R@1 of ranks 1 and 2 is ½, users' se ½: 50 ± 98 percent. Other rows: pending, or – in the other task."""
    lines = [line.strip() for line in rendered(3).splitlines()]
    sasrec = [line for line in lines if line.startswith("SASRec ")]
    assert len(sasrec) == 5  # both tasks in the pool, among all items, and what it costs
    assert "50.00 ± 98.00 20.59" in sasrec[0]
    assert sasrec[1].split()[1:] == ["–"] * 5
    assert any(line.startswith("UniSAR") and "pending 30.10" in line for line in lines)
    assert any(line.startswith("Data set is ml-100k, not the paper's ebook-search") for line in lines)


def test_the_papers_number_is_dim_and_the_best_bold() -> None:
    """ANSI codes: 1 is bold, 2 is dim; dim text beside a bold cell is not bold."""
    text = rendered(3, color=True)
    assert "\x1b[1m50.00 ± 98.00\x1b[0m" in text
    assert "\x1b[2m 20.59\x1b[0m" in text


def test_every_method_of_every_table_is_shown() -> None:
    """Names are never cut at this width."""
    for number in range(1, 8):
        text = rendered(number)
        for row in load_spec(number).rows:
            assert row.method in text
