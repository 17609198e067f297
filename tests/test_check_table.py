"""`synergen check-table` on the paper and on files."""

import json
from pathlib import Path

from synergen.cli import main


def test_the_papers_tables(capsys) -> None:
    """Two rows fail; the bound by hand is 7.15 + (30.48 - 19.29) / log2(201) = 8.61."""
    assert main(["check-table", "paper", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert [one["row"] for one in found["impossible"]] == ["Table 2, SynerGen", "Table 3, CoPPS (search)"]
    assert found["impossible"][0]["conflicts"] == [
        "its R@50, R@200 and N@50 force N@200 to be 8.61 or more, 8.43 is printed"
    ]


def test_a_possible_table_ends_well(tmp_path: Path, capsys) -> None:
    """N@5 of ⅓ first and ⅓ second is (1 + 1 / log2(3)) / 3 = 0.5436."""
    (tmp_path / "a.csv").write_text("method,R@1,R@5,N@5\nA,0.3333,0.6667,0.5436\n")
    assert main(["check-table", str(tmp_path / "a.csv")]) == 0
    assert "1 rows with 3 numbers: 1 possible, 0 not" in capsys.readouterr().out


def test_an_impossible_table_ends_in_failure_and_says_why(tmp_path: Path, capsys) -> None:
    """More than with every new hit at rank 2. With tied ranks of 1½ it may be: up to 1/3 + 1/3 / log2(2.5) = 0.585."""
    (tmp_path / "a.md").write_text("| M | R@1 | R@5 | N@5 |\n|---|---|---|---|\n| A | 33.33 | 66.67 | 56.00 |\n")
    assert main(["check-table", str(tmp_path / "a.md")]) == 2
    printed = capsys.readouterr()
    assert "A: its R@1 and R@5 allow N@5 to be 54.37 at most, 56.00 is printed" in " ".join(printed.out.split())
    assert "1 of 1 rows cannot be of one ranking" in " ".join(printed.err.split())
    assert main(["check-table", str(tmp_path / "a.md"), "--half-ranks"]) == 0


def test_a_table_of_something_else_is_no_success(tmp_path: Path, capsys) -> None:
    (tmp_path / "a.csv").write_text("method,accuracy\nA,0.5\n")
    assert main(["check-table", str(tmp_path / "a.csv")]) == 2
    assert "no column is called R@k" in " ".join(capsys.readouterr().err.split())


def test_the_tables_here_are_possible(capsys) -> None:
    """All of results/, as csv: ours without exception, the paper's but for the two rows."""
    folder = Path(__file__).resolve().parents[1] / "results" / "tables"
    for path in sorted(folder.glob("table[2-4].*.csv")):
        main(["check-table", str(path), "--json"])
        found = json.loads(capsys.readouterr().out)
        assert all(one["row"].endswith(", the paper's") for one in found["impossible"]), path
        assert len(found["impossible"]) == (1 if path.name.startswith(("table2", "table3")) else 0), path
