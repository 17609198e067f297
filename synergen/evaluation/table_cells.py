"""The cells of tables in csv, Markdown and LaTeX as plain text: marks are dropped, spanning cells repeated.

What stands above or below the line keeps `^{…}` and `_{…}` around it, so that it is not read as a part of a number.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from synergen.errors import UserError

Cells = list[list[str]]

_OPTION = r"(?:\[[^\]]*\])?"
_ARGUMENT = r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"
_UNPRINTED = r"cite\w*|cellcolor|rowcolor|label|[vh]space\*?|footnotemark|tnote|color"
_RULES = re.compile(
    rf"\\(?:top|mid|bottom)rule{_OPTION}|\\hline|\\cline\s*{_ARGUMENT}|\\cmidrule\s*(?:\([^)]*\))?\s*{_ARGUMENT}"
)
_LATEX_STEPS = (
    (re.compile(rf"\\(?:{_UNPRINTED})\s*{_OPTION}\s*{_ARGUMENT}"), ""),
    (re.compile(rf"\\textcolor{_OPTION}\{{[^{{}}]*\}}"), ""),
    (re.compile(r"\\textsuperscript\s*\{"), "^{"),
    (re.compile(r"\\textsubscript\s*\{"), "_{"),
    (re.compile(r"\\pm\b"), "±"),
    (re.compile(r"\\d?dag(?:ger)?\b"), "†"),
    (re.compile(r"\\([%&_#$])"), r"\1"),
    (re.compile(rf"\\addlinespace{_OPTION}|\\[,;:! ]"), " "),
    (re.compile(r"\\[a-zA-Z]+\*?"), ""),
    (re.compile(r"(?<![\^_])\{((?:[^{}]|(?<=[\^_])\{[^{}]*\})*)\}"), r"\1"),
)
_TABULAR = re.compile(
    rf"\\begin\{{(?:(tabular|longtable|array)\}}|(tabular[xy*])\}}\s*{_ARGUMENT})\s*{_OPTION}\s*{_ARGUMENT}"
    r"(.*?)\\end\{(?:\1|\2)\}",
    re.DOTALL,
)
_BROKEN = re.compile(
    rf"\\(?:shortstack|makecell|thead){_OPTION}\{{(?P<cell>[^{{}}]*)\}}"
    rf"|\\begin\{{tabular\}}{_OPTION}\{{@\{{\}}\w@\{{\}}\}}(?P<small>.*?)\\end\{{tabular\}}",
    re.DOTALL,
)
"""Cells of several lines, whose \\\\ ends no row."""
_SPAN = re.compile(rf"\s*\\multicolumn\s*\{{(\d+)\}}\s*{_ARGUMENT}\s*(.*)", re.DOTALL)
_DOWN = re.compile(rf"\s*\\multirow\s*{_OPTION}\s*\{{(\d+)\}}\s*{_OPTION}\s*{_ARGUMENT}\s*{_OPTION}\s*(.*)", re.DOTALL)


def read_cells(path: Path) -> list[Cells]:
    """All tables of a file, rows of plain cells each.

    Raises:
        UserError: the file cannot be read, is of another kind, or has no table.
    """
    readers = {".csv": _csv, ".tsv": _csv, ".md": _markdown, ".markdown": _markdown, ".tex": _latex}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"{path}: a table is read from .csv, .tsv, .md or .tex; save it as one of these")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); give a text file in UTF-8") from None
    tables = [table for table in reader(text) if table]
    if not tables:
        raise UserError(f"{path}: no table was found in it; check that its kind is what its name says")
    return tables


def _csv(text: str) -> Iterator[Cells]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    yield [[cell.strip() for cell in row] for row in csv.reader(text.splitlines(), delimiter=delimiter) if any(row)]


def _markdown(text: str) -> Iterator[Cells]:
    block: list[str] = []
    for line in [*text.splitlines(), ""]:
        if "|" in line:
            block.append(line)
            continue
        rules = [bool(re.fullmatch(r"[\s|:-]*-[\s|:-]*", one)) for one in block]
        if any(rules):
            yield [_markdown_row(one) for one, is_rule in zip(block, rules, strict=True) if not is_rule]
        block = []


def _markdown_row(line: str) -> list[str]:
    cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|"))
    return [_without_markdown(cell) for cell in (cells[:-1] if not cells[-1].strip() else cells)]


def _without_markdown(cell: str) -> str:
    cell = re.sub(r"<(sup|sub)>(.*?)</\1>", lambda tag: f"{'^' if tag[1] == 'sup' else '_'}{{{tag[2]}}}", cell)
    cell = re.sub(r"</?[a-zA-Z][^>]*>|(?<!\\)[*`$]|~~", "", cell)
    return re.sub(r"\\(.)", r"\1", cell).strip().strip("_").strip()


def _latex(text: str) -> Iterator[Cells]:
    text = re.sub(r"(?<!\\)%.*", "", text)
    text = _BROKEN.sub(lambda cell: (cell["cell"] or cell["small"] or "").replace(r"\\", " "), text)
    for found in _TABULAR.finditer(text):
        yield _latex_rows(found[3])


def _latex_rows(body: str) -> Cells:
    rows: Cells = []
    hanging: dict[int, tuple[int, str]] = {}  # by column, for how many more rows a cell reaches down
    for line in re.split(r"\\\\(?:\s*\[[^\]]*\])?|\\tabularnewline", body):
        cells: list[str] = []
        for raw in re.split(r"(?<!\\)&", line):
            raw = _RULES.sub("", raw)
            width, raw = (int(span[1]), span[2]) if (span := _SPAN.fullmatch(raw)) else (1, raw)
            height, raw = (int(down[1]), down[2]) if (down := _DOWN.fullmatch(raw)) else (1, raw)
            cell, column = _without_latex(raw), len(cells)
            left, above = hanging.pop(column, (0, ""))
            if height > 1:
                hanging[column] = (height - 1, cell)
            elif left and not cell:
                cell = above
                if left > 1:
                    hanging[column] = (left - 1, above)
            cells += [cell] * width
        if any(cells):
            rows.append(cells)
    return rows


def _without_latex(cell: str) -> str:
    for pattern, plain in _LATEX_STEPS:
        while (simpler := pattern.sub(plain, cell)) != cell:
            cell = simpler
    return re.sub(r"\s+", " ", cell.replace("$", "").replace("~", " ")).strip()
