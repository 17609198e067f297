"""A figure on disk: PNG, PDF, and the CSV that it is drawn from."""

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.material import Material
from synergen.files import write_text
from synergen.plot_style import STYLE, Mark, save

Part = tuple[str, pl.DataFrame]
"""The name of a part of a figure, `""` where it has none, and its numbers."""
Draw = Callable[[pl.DataFrame, str, Mapping[str, Mark]], Figure]
"""Makes a figure of numbers, a title, and the marks of the table's methods."""


@dataclass(frozen=True)
class Plot:
    """A figure that a table may have."""

    about: str
    """What it shows, in a few words."""
    data: Callable[[Material], Iterator[Part]]
    """Its numbers.

    Raises:
        UserError: what it needs is not there."""
    draw: Draw
    text: Callable[[pl.DataFrame], str] | None = None
    """The numbers as Markdown, for figures that are tables as well."""

    def write(self, parts: Iterable[Part], material: Material, stem: str, name: str) -> list[Path]:
        """Write each part to plots/ of the results as `stem`.`name`[.part], whole or not at all: the numbers as CSV,
        and the figure drawn from that CSV as PNG and PDF.

        Raises:
            UserError: the folder cannot be written.
        """
        written: list[Path] = []
        for part, numbers in parts:
            path = material.folder / "plots" / f"{'.'.join(filter(None, [stem, name, part]))}.png"
            text, table = numbers.write_csv(), path.with_suffix(".csv")
            with matplotlib.rc_context(STYLE):
                figure = self.draw(
                    pl.read_csv(io.StringIO(text), schema=numbers.schema), material.title, material.marks
                )
                written += save(figure, path)
            write_text(table, text)
            written.append(table)
            if self.text:
                written.append(path.with_suffix(".md"))
                write_text(written[-1], self.text(numbers))
        return written
