"""A table on a terminal."""

from typing import Any, Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table as Rich
from rich.text import Text

from benchmarks.formats import Cell
from benchmarks.grids import grid
from benchmarks.tables import Table

_TIGHT: dict[str, Any] = {"show_edge": False, "padding": (0, 1, 0, 0)}
_STATE_WIDTH = 12
"""Characters of a text before the numbers, which is broken into lines: a wide table then keeps its numbers on one."""


def console_table(table: Table) -> list[RenderableType]:
    """What to print, in order: a rich table for each block, the paper's numbers dim beside ours; the notes as lines."""
    shown = grid(table)
    parts: list[RenderableType] = [Text(f"{shown.name}: {shown.title}", style="bold"), Text(shown.heading)]
    if shown.legend:
        parts.append(Text(shown.legend, style="dim"))
    justify: Literal["left", "right"] = "left" if table.spec.qualitative else "right"
    for panel in shown.panels:
        if panel.name:
            parts += [Text(), Text(panel.name, style="bold")]
        for at, columns in enumerate(panel.columns):
            drawn = Rich(title=columns.name, title_justify="left", box=box.SIMPLE_HEAD, **_TIGHT)
            drawn.add_column("Method", no_wrap=True)
            for title in panel.states:
                drawn.add_column(title, max_width=_STATE_WIDTH)
            for title in columns.titles:
                drawn.add_column(title, justify=justify)
            for line, following in zip(panel.lines, (*panel.lines[1:], None), strict=True):
                ends = following is not None and following.group != line.group
                cells = (*line.states, *line.cells[at])
                drawn.add_row(Text(line.method), *map(_text, cells), end_section=ends)
            parts += [Text(), drawn]
    parts += [Text(), *(Text(note) for note in shown.notes)]
    return parts


def _text(cell: Cell) -> Text:
    text = Text(cell.ours, style="bold" if cell.best else "underline" if cell.second else "")
    text.append("†" * cell.dagger, style="not underline")
    between = " " if cell.ours and cell.paper else ""
    return text.append(f"{between}{cell.paper}", style="dim not bold not underline")
