"""The specifications of the tables: they load, they hold the paper's numbers, and faults in them are named."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import spec as module
from benchmarks.spec import load_spec, parse_spec
from synergen.errors import UserError

FOLDER = Path(module.__file__).parent
PUBLISHED = yaml.safe_load((FOLDER / "published.yaml").read_text())
HEADER = ("# Expected metric: ", "# Source: ", "# Hardware: ", "# Duration: ", "# Command: ")


@pytest.mark.parametrize("path", [*(f"specs/table{n}.yaml" for n in range(1, 8)), "published.yaml"])
def test_every_file_begins_with_its_header(path: str) -> None:
    """Expected metric, source, hardware, duration, command, in comments before the first key."""
    lines = (FOLDER / path).read_text().splitlines()
    comments = lines[: next(i for i, line in enumerate(lines) if line and not line.startswith("#"))]
    for key in HEADER:
        assert any(line.startswith(key) for line in comments), key


@pytest.mark.parametrize("number", range(1, 8))
def test_the_rows_of_the_paper_are_all_there_once(number: int) -> None:
    """Every key of published.yaml is the row of one method, in the paper's order, and every cell has a column. Tables 5
    to 7 are not of the paper."""
    spec = load_spec(number)
    assert spec.number == number
    assert [row.published for row in spec.rows if row.published] == list(PUBLISHED.get(f"table{number}", {}))
    for row in spec.rows:
        if row.published is None:
            assert row.group == ("reference" if row.reference else "ours" if number < 5 else None)
            continue
        cells = PUBLISHED[f"table{number}"][row.published]
        shown = {(block.name, column) for block in spec.blocks for column in spec.paper(row, block)}
        if spec.blocks[0].name is None:
            assert shown == {(None, column) for column in cells}
        else:
            assert shown == {(name, column) for name, columns in cells.items() for column in columns}
        assert shown <= {(block.name, column) for block in spec.blocks for column in (*block.columns, *spec.states)}


@pytest.mark.parametrize(
    ("number", "method", "block", "column", "value"),
    [
        (2, "SynerGen-ID", None, "R@200", 30.39),
        (2, "BERT4Rec (text)", None, "N@10", 1.94),
        (2, "HLLM", None, "N@200", 8.89),
        (2, "HSTU-large", None, "Trained against", "28,672 a batch"),
        (3, "SynerGen", "search", "R@1", 63.35),
        (3, "SASRec", "recommendation", "N@10", 42.25),
        (3, "CoPPS", "search", "N@5", 62.81),
        (4, "Full model (ranking head)", "search", "MRR", 58.20),
        (4, "w/o ranking head", "search", "R@300", 73.36),
    ],
)
def test_numbers_are_those_of_the_paper(
    number: int, method: str, block: str | None, column: str, value: float | str
) -> None:
    """Read off the paper (arXiv 2509.21777), a few cells of each table, and off the README of HLLM's repository."""
    spec = load_spec(number)
    row = next(row for row in spec.rows if row.method == method)
    columns = next(one for one in spec.blocks if one.name == block)
    assert spec.paper(row, columns)[column] == value


@pytest.mark.parametrize(
    ("number", "block", "total"),
    [
        (2, None, 448.21),
        (3, "recommendation", 1648.11),
        (3, "search", 2051.72),
        (4, "recommendation", 485.32),
        (4, "search", 883.29),
    ],
)
def test_sums_of_the_paper(number: int, block: str | None, total: float) -> None:
    """A slip of a digit anywhere in a block shows in its sum; the sums are of a second transcription of the paper."""
    spec = load_spec(number)
    columns = next(one for one in spec.blocks if one.name == block)
    papers = [spec.paper(row, columns) for row in spec.rows]
    cells = [float(paper[column]) for paper in papers for column in columns.columns if column in paper]
    assert sum(cells) == pytest.approx(total, abs=1e-6)


def test_settings_and_tasks() -> None:
    """SynerGen-ID is SynerGen on ids alone; a joint row serves both tasks."""
    rows = {row.method: row for row in load_spec(2).rows}
    assert (rows["SynerGen-ID"].model, dict(rows["SynerGen-ID"].settings)) == ("SynerGen", {"inputs": "id"})
    rows = {row.method: row for row in load_spec(3).rows}
    assert rows["SynerGen"].tasks == {"recommendation", "search"}
    assert rows["SASRec"].tasks == {"recommendation"}
    assert [load_spec(number).qualitative for number in range(1, 8)] == [True] + [False] * 6


def test_unknown_tables_are_refused() -> None:
    """The paper has four, and three are ours."""
    with pytest.raises(UserError, match="unknown table '8': known: 1, 2, 3, 4, 5, 6, 7"):
        load_spec(8)


def _with(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(yaml.safe_load((FOLDER / "specs/table3.yaml").read_text()))
    place = raw
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("titel",), "x", "unknown key 'titel' in t.yaml: did you mean 'title'"),
        (("title",), None, "t.yaml: key 'title' is missing"),
        (("rows", 0, "modle"), "x", "unknown key 'modle' in t.yaml, rows: did you mean 'model'"),
        (("rows", 0, "task"), "searching", "unknown task 'searching' in t.yaml, rows, SynerGen: did you mean 'search'"),
        (("rows", 0, "group"), "theirs", "unknown group 'theirs'"),
        (("rows", 0, "published"), "SynrGen", "unknown row of published.yaml 'SynrGen'.*did you mean 'SynerGen'"),
        (("rows", 0, "method"), "SASRec", "method 'SASRec' has two rows"),
        (("rows", 0), "SynerGen", "'SynerGen' stands where keys with values are expected"),
        (("blocks", 0, "task"), "joint", "unknown task 'joint' in t.yaml, blocks"),
        (("states",), ["Params", "Trained agains"], "unknown fact 'Trained agains' in t.yaml, states: did you mean"),
        (("blocks", 0, "costs"), ["Second"], "unknown fact 'Second' in t.yaml, blocks, costs: did you mean 'Seconds'"),
        (("protocol", "negative"), 9, "unknown protocol key 'negative' in t.yaml: did you mean 'negatives'"),
        (("protocol", "split"), None, "the protocol leaves out split"),
    ],
)
def test_faults_in_a_specification_are_named(path: tuple[Any, ...], value: Any, message: str) -> None:
    """One fault at a time in Table 3; None removes the key."""
    with pytest.raises(UserError, match=message):
        parse_spec(_with(path, value), PUBLISHED["table3"], "t.yaml")
