"""The arithmetic check of the paper's tables and of ours."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.consistency import paper_rows, refuse_impossible, remarks
from benchmarks.spec import load_spec
from benchmarks.tables import Row
from synergen.evaluation.intervals import Interval
from synergen.evaluation.metrics import metrics


def test_the_papers_two_impossible_rows_and_no_other() -> None:
    """By hand: N@200 ≥ 7.15 + (30.48 - 19.29) / log2(201) = 8.61; N@5 ≤ 31.17 + (66.16 - 31.17) / log2(3) = 53.25 and
    N@10 ≤ that + (77.07 - 66.16) / log2(7) = 57.13, with half a unit of the last digit each 57.14."""
    found = [line for number in (1, 2, 3, 4, 5, 6, 7) for line in remarks(load_spec(number))]
    assert found == [
        "The paper's SynerGen row cannot be of one run: its R@50, R@200 and N@50 force N@200 to be 8.61 or more, 8.43 "
        "is printed.",
        "The paper's CoPPS (search) row cannot be of one run: its R@1 and R@5 allow N@5 to be 53.25 at most, 62.81 is "
        "printed; its R@1, R@5 and R@10 allow N@10 to be 57.14 at most, 65.70 is printed.",
    ]


def test_columns_of_other_pools_are_no_evidence_against_one_another() -> None:
    """Table 4's R@300 is of all items, its MRR and R@1 of what was shown: two rankings, of 1 and 2 numbers."""
    sizes = {len(row.values) for row in paper_rows(load_spec(4)) if row.name == "w/o time-based RoPE (search)"}
    assert sizes == {1, 2}


def row_with(values: dict[str, float]) -> Row:
    """A finished row of Table 3 with these means."""
    spec = load_spec(3)
    metrics = {column: Interval(mean, mean, mean) for column, mean in values.items()}
    return Row(spec.rows[0], spec.blocks[0], "done", 1, metrics, {}, ("0123456789ab",))


def test_metrics_of_ranks_are_possible_ties_included() -> None:
    """Every rank 1½, the middle of a tie: N@5 is more than whole ranks behind the first would allow."""
    values = metrics(np.full(10, 1.5), ("R@1", "R@5", "R@10", "N@5", "N@10"))
    refuse_impossible([row_with(values)], load_spec(3).protocol)


def test_an_impossible_row_of_ours_is_an_internal_error() -> None:
    """R@5 above R@10; with slates, whose requests have several answers, nothing is said."""
    row = row_with({"R@5": 0.5, "R@10": 0.4})
    with pytest.raises(
        RuntimeError, match=r"internal error: SynerGen, recommendation: its R@5 forces R@10 .* 0123456789"
    ):
        refuse_impossible([row], load_spec(3).protocol)
    refuse_impossible([replace(row)], load_spec(3).protocol | {"candidates": "slate"})
