"""A table of texts as Markdown and as LaTeX."""

import re
from dataclasses import dataclass
from itertools import chain, groupby

NOT_APPLICABLE = "–"

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "%": r"\%",
        "&": r"\&",
        "_": r"\_",
        "#": r"\#",
        "$": r"\$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
        "±": r"$\pm$",
        "½": r"$\frac{1}{2}$",
        "·": r"$\cdot$",
        "×": r"$\times$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "√": r"$\surd$",
        "†": r"$^{\dagger}$",
    }
)
_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\|*_<>[]`"})


@dataclass(frozen=True)
class Cell:
    """What a cell says: ours, and the paper's number, if any."""

    ours: str
    paper: str = ""
    best: bool = False
    second: bool = False
    dagger: bool = False
    """Whether it is significantly better than the best other."""


@dataclass(frozen=True)
class Columns:
    """Columns under a common name, or under none."""

    name: str | None
    titles: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """A row: one list of cells for each `Columns`."""

    method: str
    group: str | None
    cells: tuple[tuple[Cell, ...], ...]
    states: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Panel:
    """Rows and columns, under a name where a table has several panels; states are columns before all others."""

    columns: tuple[Columns, ...]
    lines: tuple[Line, ...]
    name: str | None = None
    states: tuple[str, ...] = ()

    @property
    def grouped(self) -> bool:
        """Whether any row belongs to a group."""
        return any(line.group for line in self.lines)


@dataclass(frozen=True)
class Grid:
    """A table as a reader sees it, before a format is chosen."""

    name: str
    """The word table and its number."""
    title: str
    heading: str
    legend: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


def markdown(grid: Grid) -> str:
    """One Markdown table for each panel and group of columns, then the notes as a list."""
    text = [f"# {grid.name}: {grid.title.translate(_MARKDOWN)}", grid.heading.translate(_MARKDOWN), grid.legend]
    for panel in grid.panels:
        level = "##"
        if panel.name:
            text.append(f"## {panel.name.translate(_MARKDOWN)}")
            level = "###"
        for at, columns in enumerate(panel.columns):
            if columns.name:
                text.append(f"{level} {columns.name.capitalize()}")
            text.append(_markdown_table(panel, at))
    text.append("\n".join(f"- {note.translate(_MARKDOWN)}" for note in grid.notes))
    return "\n\n".join(part for part in text if part) + "\n"


def _markdown_table(panel: Panel, at: int) -> str:
    def row(cells: list[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def shown(cell: Cell) -> str:
        ours = cell.ours.translate(_MARKDOWN)
        ours = f"**{ours}**" if cell.best else f"<u>{ours}</u>" if cell.second else ours
        ours += "†" * cell.dagger
        return f"{ours} *({cell.paper.translate(_MARKDOWN)})*".lstrip() if cell.paper else ours

    head = ["Method", *(["Group"] if panel.grouped else []), *panel.states, *panel.columns[at].titles]
    table = [row(head), row(["---"] * len(head))]
    for line in panel.lines:
        group = [line.group or ""] if panel.grouped else []
        table.append(row([line.method.translate(_MARKDOWN), *group, *map(shown, (*line.states, *line.cells[at]))]))
    return "\n".join(table)


def latex(grid: Grid, label: str) -> str:
    """`table` environments, of two tabulars each at most, for a document that loads booktabs and graphicx. Notes on the
    protocol, the data and the marks are printed; the others are comments, to be uncommented where a paper has room."""
    about = " ".join(part for part in (f"{grid.title}.", grid.heading, grid.legend) if part)
    notes = [(note.startswith(_PRINTED_NOTES), rf"{note.translate(_LATEX)}\par") for note in grid.notes]
    below = [
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}\scriptsize\raggedright",
        *(line if printed else f"% {line}" for printed, line in notes),
        r"\end{minipage}",
    ]
    lines = [r"% Needs \usepackage{booktabs} and \usepackage{graphicx}."]
    parts = [(panel, part) for panel in grid.panels for part in _parts(panel)]
    for number, (panel, part) in enumerate(parts, start=1):
        what = panel.name or " and ".join(name for at in chain(*part) if (name := panel.columns[at].name))
        caption = about if number == 1 else f"{grid.title}: {what}."
        name = label if number == 1 else f"{label}-{number}"
        lines += [
            r"\begin{table}[tp]",
            r"\centering\footnotesize",
            rf"\caption{{{caption.translate(_LATEX)}}}",
            rf"\label{{tab:{re.sub('[^A-Za-z0-9.:-]+', '-', name)}}}",
            *chain.from_iterable((r"\par\medskip", *_tabular(panel, stack)) for stack in part),
            *(below if number == 1 else ()),
            r"\end{table}",
        ]
    return "\n".join([*lines, ""])


_PRINTED_NOTES = ("Protocol:", "Data:", "Data set is", "†:")
_MOST_COLUMNS = 6
"""Beside one another, each with an interval and the paper's number: more are too small to be read."""


def _parts(panel: Panel) -> list[list[list[int]]]:
    """The panel's groups of columns, by number, in as many tabulars as it takes, two of which share a page."""
    stacks: list[list[int]] = [[]]
    for at, columns in enumerate(panel.columns):
        taken = sum(len(panel.columns[before].titles) for before in stacks[-1])
        if taken and taken + len(columns.titles) > _MOST_COLUMNS:
            stacks.append([])
        stacks[-1].append(at)
    return [stacks[at : at + 2] for at in range(0, len(stacks), 2)]


def _tabular(panel: Panel, stack: list[int]) -> list[str]:
    """Some of a panel's groups of columns, without rows to which none of these applies."""

    def shown(cell: Cell) -> str:
        ours = cell.ours.translate(_LATEX)
        ours = rf"\textbf{{{ours}}}" if cell.best else rf"\underline{{{ours}}}" if cell.second else ours
        ours += r"$^{\dagger}$" * cell.dagger
        return rf"{ours} \textit{{({cell.paper.translate(_LATEX)})}}".lstrip() if cell.paper else ours

    def row(cells: list[str]) -> str:
        return " & ".join(cells) + r" \\"

    groups = [panel.columns[at] for at in stack]
    left = 1 + len(panel.states)
    width = left + sum(len(columns.titles) for columns in groups)
    body = []
    if any(columns.name for columns in groups):
        start, rules, names = left + 1, [], [""] * left
        for columns in groups:
            end = start + len(columns.titles) - 1
            names.append(rf"\multicolumn{{{end - start + 1}}}{{c}}{{{(columns.name or '').translate(_LATEX)}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{end}}}")
            start = end + 1
        body += [row(names), " ".join(rules)]
    titles = (*panel.states, *chain.from_iterable(columns.titles for columns in groups))
    body.append(row(["Method", *(title.translate(_LATEX) for title in titles)]))
    chosen = [(line, [cell for at in stack for cell in line.cells[at]]) for line in panel.lines]
    applying = [(line, cells) for line, cells in chosen if any(cell.ours != NOT_APPLICABLE for cell in cells)]
    for group, lines in groupby(applying, key=lambda one: one[0].group):
        body.append(r"\midrule")
        if group:
            body.append(row([rf"\multicolumn{{{width}}}{{l}}{{\emph{{{group}}}}}"]))
        body += [row([line.method.translate(_LATEX), *map(shown, (*line.states, *cells))]) for line, cells in lines]
    return [
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'l' * left}{'c' * (width - left)}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
    ]
