"""What reviewers ask for: items never trained on, the long tail, new users, repeats."""

from collections.abc import Iterator, Mapping
from textwrap import fill

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.material import Material
from benchmarks.plots.on_questions import on_questions
from benchmarks.slices import HEAD_SHARE, SHORT_HISTORY, Questions
from synergen.plot_style import TWO_COLUMNS, Mark, plain

_SCHEMA = {
    **{"metric": pl.String, "method": pl.String, "seeds": pl.Int64, "slice": pl.String, "questions": pl.Int64},
    **{"mean": pl.Float64, "low": pl.Float64, "high": pl.Float64},
}


def slices(questions: Questions) -> dict[str, np.ndarray]:
    """(Q,) bool by name; those that are empty, or all of the questions, say nothing and are left out."""
    cold, head = questions.popularity == 0, 100 * HEAD_SHARE
    new = questions.history <= SHORT_HISTORY
    found = {
        "cold items": cold,
        "long tail": questions.in_tail,
        f"top {head:g} % of items": ~cold & ~questions.in_tail,
        f"new users (≤ {SHORT_HISTORY} events)": new,
        "other users": ~new,
        "repeated items": questions.repeated,
        "new items": ~questions.repeated,
    }
    return {"all": np.ones(len(cold), bool)} | {name: one for name, one in found.items() if 0 < one.sum() < len(one)}


def data(material: Material) -> Iterator[Part]:
    """By task: a row a method and slice that two users or more were asked in, means as fractions with 95 % intervals.

    Raises:
        UserError: the data set is not here or not that of the records, or its questions are requests with slates.
    """
    for part, cells in on_questions(material, slices):
        rows = [
            (metric, method, seeds, name, questions, value.mean, value.low, value.high)
            for metric, method, seeds, name, questions, value in cells
        ]
        yield part, pl.DataFrame(rows, _SCHEMA, orient="row")


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a slice, a line a method."""
    names = numbers["slice"].unique(maintain_order=True).to_list()
    methods = [name for name in marks if name in set(numbers["method"])]
    figure = Figure(figsize=(TWO_COLUMNS, 1.1 + 0.17 * len(methods)), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False, sharey=True)[0], names, strict=True):
        one = numbers.filter(pl.col("slice") == name)
        heights = [-methods.index(method) for method in one["method"]]
        means = 100 * one["mean"]
        spread = [means - 100 * one["low"], 100 * one["high"] - means]
        axes.errorbar(means, heights, xerr=spread, fmt="o", color="black", markersize=3, elinewidth=0.8)
        axes.set_title(f"{fill(name, 84 // len(names))}\n{one['questions'][0]:,} questions", fontsize=6.5)
        axes.set_yticks([-at for at in range(len(methods))], methods)
        axes.set_ylim(0.6 - len(methods), 0.6)
        right = 103 * max(one["high"]) or 1.0
        axes.set_xlim(-0.03 * right, right)
        axes.tick_params(labelsize=7)
        plain(axes)
    figure.supxlabel(f"{numbers['metric'][0]} [%]", fontsize=8)
    figure.suptitle(f"{title}: slices of the test questions, 95 % intervals", fontsize=9)
    return figure


def text(numbers: pl.DataFrame) -> str:
    """The same as a Markdown table, percent ± half an interval; the best mean of a slice is bold."""
    names = numbers["slice"].unique(maintain_order=True).to_list()
    counts = dict(zip(numbers["slice"], numbers["questions"], strict=True))
    best = dict(numbers.group_by("slice").agg(pl.col("mean").max()).iter_rows())
    head = [f"{numbers['metric'][0]} [%]", *(f"{name} ({counts[name]:,} questions)" for name in names)]
    lines = [head, ["---", *["---:"] * len(names)]]
    for (method,), own in numbers.group_by("method", maintain_order=True):
        cells = {one["slice"]: one for one in own.iter_rows(named=True)}
        lines.append([str(method), *(_cell(cells.get(name), best[name]) for name in names)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(one: Mapping[str, float] | None, best: float) -> str:
    if one is None:
        return ""
    shown = f"{100 * one['mean']:.2f}"
    return f"{f'**{shown}**' if one['mean'] == best > 0 else shown} ± {50 * (one['high'] - one['low']):.2f}"


PLOT = Plot("cold and long-tail items, new users, repeats; also as a table", data, draw, text)
