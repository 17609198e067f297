"""A table on a terminal."""

from typing import Literal

from rich import box
from rich.console import RenderableType
from rich.table import Table as Rich
from rich.text import Text

from benchmarks.formats import Cell
from benchmarks.tables import Table, grid


def console_table(table: Table) -> list[RenderableType]:
    """What to print, in order: a rich table for each block, the paper's numbers dim beside ours; the notes as lines."""
    shown = grid(table)
    parts: list[RenderableType] = [Text(f"{shown.name}: {shown.title}", style="bold"), Text(shown.heading)]
    if shown.legend:
        parts.append(Text(shown.legend, style="dim"))
    justify: Literal["left", "right"] = "left" if table.spec.qualitative else "right"
    for panel in shown.panels:
        if panel.name:
            parts.append(Text(panel.name, style="bold"))
        for at, columns in enumerate(panel.columns):
            drawn = Rich(title=columns.name, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
            drawn.add_column("Method", no_wrap=True)
            for title in columns.titles:
                drawn.add_column(title, justify=justify)
            for line, following in zip(panel.lines, (*panel.lines[1:], None), strict=True):
                ends = following is not None and following.group != line.group
                drawn.add_row(Text(line.method), *map(_text, line.cells[at]), end_section=ends)
            parts.append(drawn)
    parts += [Text(note) for note in shown.notes]
    return parts


def _text(cell: Cell) -> Text:
    text = Text(cell.ours, style="bold" if cell.best else "")
    return text.append(f" {cell.paper}", style="dim not bold") if cell.paper else text
