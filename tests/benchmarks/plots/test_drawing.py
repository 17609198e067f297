"""Figures on disk: whole or absent, drawn from their CSV."""

import polars as pl
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from benchmarks.plots.drawing import Plot
from benchmarks.plots.layout import logarithmic, short
from synergen.errors import UserError
from synergen.plot_style import marks

NUMBERS = pl.DataFrame({"name": ["a", "b"], "at": [0.1 + 0.2, None], "n": [1, 2], "best": [True, False]})


def drawing(seen: list[pl.DataFrame]) -> Plot:
    def draw(numbers, title, marks) -> Figure:
        seen.append(numbers)
        figure = Figure()
        figure.subplots().plot(numbers["n"], numbers["n"])
        return figure

    return Plot("two points", lambda material: iter([("", NUMBERS)]), draw, lambda numbers: f"{len(numbers)} rows\n")


def test_a_figure_is_drawn_from_what_its_csv_says(material):
    """All digits, types and gaps come back."""
    seen: list[pl.DataFrame] = []
    plot = drawing(seen)
    written = plot.write([("", NUMBERS), ("part", NUMBERS[:1])], material, "table3.shop", "x")
    names = [f"table3.shop.x{part}.{suffix}" for part in ("", ".part") for suffix in ("png", "pdf", "csv", "md")]
    assert [path.name for path in written] == names
    assert seen[0].equals(NUMBERS)
    assert seen[1].equals(NUMBERS[:1])
    assert written[2].read_text() == "name,at,n,best\na,0.30000000000000004,1,true\nb,,2,false\n"
    assert imread(written[0]).std() > 0  # something is drawn
    assert written[1].read_bytes().startswith(b"%PDF")
    assert written[3].read_text() == "2 rows\n"


def test_the_same_numbers_make_the_same_files(material):
    """So that results change in git where numbers do."""
    plot = drawing([])
    first = [path.read_bytes() for path in plot.write([("", NUMBERS)], material, "t", "x")]
    assert [path.read_bytes() for path in plot.write([("", NUMBERS)], material, "t", "x")] == first


def test_nothing_is_left_of_a_figure_that_cannot_be_written(material):
    (material.folder / "plots").write_text("a file where a folder should be")
    with pytest.raises(UserError, match="cannot write"):
        drawing([]).write([("", NUMBERS)], material, "t", "x")
    assert [path.name for path in material.folder.iterdir()] == ["plots"]


def test_marks_differ_without_their_colours():
    found = marks(map(str, range(24))).values()
    assert len({(mark.marker, mark.filled) for mark in found}) == 24


@pytest.mark.parametrize(
    ("value", "text"), [(20, "20"), (0.05, "0.05"), (5_000, "5 k"), (1.5e6, "1.5 M"), (2e9, "2 G")]
)
def test_numbers_of_an_axis(value, text):
    assert short(value) == text


def test_a_logarithmic_axis_has_few_labels():
    """From 100 to 1,000,000: the decades, as 1, 2 and 5 would be 13 labels."""
    axes = Figure().subplots()
    axes.plot([100, 1_000_000], [0, 1])
    axes.margins(0)
    logarithmic(axes.xaxis, most=5)
    assert list(axes.get_xticks()) == pytest.approx([1e2, 1e3, 1e4, 1e5, 1e6])
    assert axes.get_xscale() == "log"
