"""How figures for a paper look. Nothing here touches pyplot, so importing it chooses no backend for anybody else."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from synergen.files import write_atomically

GREY = "#666666"
MARKS = (  # colours of Okabe and Ito, which the colour-blind can tell apart
    ("#0072B2", "o"),
    ("#D55E00", "s"),
    ("#009E73", "^"),
    ("#CC79A7", "D"),
    ("#E69F00", "v"),
    ("#56B4E9", "P"),
)
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
}
ONE_COLUMN, TWO_COLUMNS = 3.4, 7.0
"""Inches."""

_COLOURS = (*(colour for colour, _ in MARKS), "black")
_MARKERS = (*(marker for _, marker in MARKS), "X", "<", "*", ">", "p", "h")
_LINES = ("solid", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)))


@dataclass(frozen=True)
class Mark:
    """How one of many is drawn: marker and face tell them apart without colours."""

    colour: str
    marker: str
    line: Any
    filled: bool

    @property
    def points(self) -> dict[str, Any]:
        """Arguments of a plot of points."""
        face = self.colour if self.filled else "white"
        return {"color": self.colour, "marker": self.marker, "markerfacecolor": face, "markeredgecolor": self.colour}


def marks(names: Iterable[str]) -> dict[str, Mark]:
    """A mark for each name, by its place; the first 24 differ in marker or face."""
    counts = (len(_COLOURS), len(_MARKERS), len(_LINES))
    found = {}
    for at, name in enumerate(names):
        colour, marker, line = (at % count for count in counts)
        found[name] = Mark(_COLOURS[colour], _MARKERS[marker], _LINES[line], at // len(_MARKERS) % 2 == 0)
    return found


def plain(axes: Axes) -> None:
    """No frame on top and on the right, and a faint grid behind everything."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.5)
    axes.set_axisbelow(True)


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure to `path` (PNG) and beside it as PDF.

    Raises:
        UserError: the folder cannot be written.
    """
    pdf = path.with_suffix(".pdf")
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=200))
    write_atomically(pdf, lambda file: figure.savefig(file, format="pdf", metadata={"CreationDate": None}))
    return [path, pdf]
