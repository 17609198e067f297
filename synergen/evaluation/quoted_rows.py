"""The numbers of a printed table by row: which cell is which measure of which method, and in which unit."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from synergen.evaluation.rank_bounds import Conflict, Measure, Quoted, conflicts
from synergen.evaluation.table_cells import Cells

_NUMBER = re.compile(r"[^\w.,+−–-]*((?:\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE][+-]?\d+)?)\s*(%?)")
"""Without a sign: what has one is a difference."""
_RAISED = re.compile(r"[\^_](?:\{[^{}]*\}|\S)")
_NOT_A_METHOD = re.compile(
    r"(?:abs\.|rel\.|relative)?\s*(?:improv|impr\.|gain|Δ|diff|p-?val|std|rank\b)", re.IGNORECASE
)
_OWN_CSV = ["table", "dataset", "method", "group", "block", "metric"]
_LEAST_HALF_UNIT = 1e-6
"""Numbers with all their digits are not taken at more than these."""


@dataclass(frozen=True)
class QuotedRow:
    """What a table prints of one ranking."""

    name: str
    values: dict[Measure, Quoted]
    percent: bool
    half_ranks: bool = False
    """Ties share their mean rank; as this project has it."""

    def conflicts(self) -> list[Conflict]:
        """The numbers that are impossible beside the others."""
        return conflicts(self.values, self.half_ranks)


@dataclass(frozen=True)
class _Number:
    """As printed."""

    value: float
    half_unit: float
    percent: bool
    """Whether a % stands behind it."""


def quoted_rows(cells: Cells, half_ranks: bool = False) -> list[QuotedRow]:
    """The rows of a table with methods as lines or as columns, or of a csv file of `benchmarks/run.py`.

    Columns under one heading are taken to be of one ranking. Numbers are in percent where one has the sign or is above
    1, else fractions; ± and what stands in brackets, above or below the line is passed over, and so are differences.
    """
    if cells[0][: len(_OWN_CSV)] == _OWN_CSV:
        return _of_own_csv(cells)
    found = list(_by_lines(cells)) or list(_by_columns(cells))
    numbers = [number for _, values in found for number in values.values()]
    percent = any(number.percent or number.value > 1 for number in numbers)
    return [QuotedRow(name, _quoted(values, percent), percent, half_ranks) for name, values in found if values]


def _quoted(values: dict[Measure, _Number], percent: bool) -> dict[Measure, Quoted]:
    unit = 100 if percent else 1
    return {
        measure: Quoted(one.value / unit, max(one.half_unit / unit, _LEAST_HALF_UNIT))
        for measure, one in values.items()
    }


def _number(cell: str) -> _Number | None:
    found = _NUMBER.match(_RAISED.sub("", cell))
    if found is None:
        return None
    exact = Decimal(found[1].replace(",", "."))
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int)
    return _Number(float(exact), 10.0**exponent / 2, bool(found[2]))


def _by_lines(cells: Cells) -> Iterator[tuple[str, dict[Measure, _Number]]]:
    """Methods are lines, measures are columns, under one or several lines of headings, which may come again."""
    headings: Cells = []
    columns: dict[int, tuple[str, Measure]] = {}
    found: dict[int, tuple[str, Measure]] = {}
    filled = True
    for row in cells:
        if not any(_number(row[at]) for at in columns if at < len(row)):
            # Below headings that are whole, a line without numbers and measures is a method's or a title of others.
            anew = filled or (found and not any(map(Measure.parse, row)))
            headings = [row] if anew else [*headings, row]
            filled = False
            found = _columns(headings)
            columns = found or columns
            continue
        filled = True
        first = min(columns)
        label = _named(row[:first]) or "a line without a name"
        if _NOT_A_METHOD.match(label):
            continue
        groups: dict[str, dict[Measure, _Number]] = {}
        for at, (group, measure) in columns.items():
            if at < len(row) and (number := _number(row[at])):
                groups.setdefault(group, {})[measure] = number
        for group, values in groups.items():
            yield (f"{label} ({group})" if group else label), values


def _columns(headings: Cells) -> dict[int, tuple[str, Measure]]:
    """By column that holds a measure, what stands above it and the measure. A measure that comes again under the same
    words begins the next group."""
    width = max(map(len, headings))
    rows = [[*row, *[""] * (width - len(row))] for row in headings]
    for row in rows[:-1]:  # a heading reaches to the next one
        for at in range(1, width):
            row[at] = row[at] or (row[at - 1] if rows[-1][at] else "")
    found: dict[int, tuple[str, Measure]] = {}
    times: dict[tuple[str, Measure], int] = {}
    for at in range(width):
        texts = [row[at] for row in rows if row[at]]
        for place in reversed(range(len(texts))):
            used = [place] if Measure.parse(texts[place]) else [max(0, place - 1), place]
            measure = Measure.parse("".join(texts[one] for one in used))  # also Recall above @5
            if measure is None:
                continue
            group = " ".join(
                dict.fromkeys(text for one, text in enumerate(texts) if one not in used and not Measure.parse(text))
            )
            times[group, measure] = again = times.get((group, measure), 0) + 1
            found[at] = (f"{group} {again}".strip() if again > 1 else group, measure)
            break
    return found


def _named(texts: Sequence[str]) -> str:
    """Different texts as one, without marks."""
    bare = (_RAISED.sub("", text).strip(" ^†‡*") for text in texts)
    return " ".join(dict.fromkeys(text for text in bare if text))


def _by_columns(cells: Cells) -> Iterator[tuple[str, dict[Measure, _Number]]]:
    """Measures are lines, methods are columns; texts left of the measures (data sets) hold until the next one."""
    width = max(map(len, cells))
    counts = [sum(Measure.parse(row[at]) is not None for row in cells if at < len(row)) for at in range(width)]
    if max(counts) < 2:
        return
    named = counts.index(max(counts))
    first = next(number for number, row in enumerate(cells) if named < len(row) and Measure.parse(row[named]))
    titles = [_named([row[at] for row in cells[:first] if at < len(row)]) for at in range(width)]
    groups: dict[tuple[str, int], dict[Measure, _Number]] = {}
    above = [""] * named
    for row in cells[first:]:
        if len(row) <= named:
            continue
        above = [cell or old for cell, old in zip(row, above, strict=False)]
        measure = Measure.parse(row[named])
        for at in range(named + 1, len(row)):
            number = _number(row[at])
            if measure and number and not _NOT_A_METHOD.match(titles[at]):
                groups.setdefault((" ".join(filter(None, above)), at), {})[measure] = number
    for (group, at), values in groups.items():
        title = titles[at] or f"column {at + 1}"
        yield (f"{title} ({group})" if group else title), values


def _of_own_csv(cells: Sequence[list[str]]) -> list[QuotedRow]:
    """Ours are fractions, the paper's percent; columns of one block may be read from several rankings."""
    at = {name: number for number, name in enumerate(cells[0])}
    ours: dict[str, dict[Measure, _Number]] = {}
    papers: dict[str, dict[Measure, _Number]] = {}
    for row in cells[1:]:
        measure = Measure.parse(row[at["metric"]])
        place = ", ".join(filter(None, (row[at["block"]], row[at["ranking"]] if "ranking" in at else "")))
        name = f"{row[at['method']]} ({place})" if place else row[at["method"]]
        for column, found in (("mean", ours), ("paper", papers)):
            number = _number(row[at[column]])
            if measure and number:
                found.setdefault(name, {})[measure] = number
    return [QuotedRow(name, _quoted(values, False), False, True) for name, values in ours.items()] + [
        QuotedRow(f"{name}, the paper's", _quoted(values, True), True) for name, values in papers.items()
    ]
