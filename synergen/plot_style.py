"""How figures for a paper look. Nothing here touches pyplot, so importing it chooses no backend for anybody else."""

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
ONE_COLUMN = 3.4
"""Inches."""


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
    write_atomically(path, lambda file: figure.savefig(file, format="png", dpi=300))
    write_atomically(pdf, lambda file: figure.savefig(file, format="pdf", metadata={"CreationDate": None}))
    return [path, pdf]
