"""How much a model's retrieval token attends to past events, by how long ago they were: what time RoPE is to shape
(paper, section 3.4). Needs trained models, which are kept beside the records but not shipped with them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from benchmarks.inputs import tasks_of_run
from benchmarks.plots.by_bin import name_of_gap
from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import small_multiples
from benchmarks.plots.material import Material
from benchmarks.slices import GAP_EDGES, bins
from synergen.contract import Requests, Task
from synergen.data.batches import questions
from synergen.data.dataset import Dataset
from synergen.data.slates import slate_question
from synergen.data.splits import Part as SplitPart
from synergen.data.splits import TimeSplit
from synergen.errors import UserError
from synergen.evaluation.intervals import interval
from synergen.explain import attention
from synergen.model.synergen import SynerGen
from synergen.model_files import SavedModel, load_model, model_folder
from synergen.plot_style import GREY, Mark, marks

REQUESTS = 256
"""Test requests, drawn once: the same of each model."""

_SCHEMA = {
    **{"method": pl.String, "run": pl.String, "task": pl.String, "layer": pl.Int64, "at": pl.Int64, "bin": pl.String},
    **{"events": pl.Int64, "mean": pl.Float64, "low": pl.Float64, "high": pl.Float64},
}


def data(material: Material) -> Iterator[Part]:
    """Of the first SynerGen of each method that is on disk, by layer and time since the event: the attention of the
    retrieval token, averaged over heads, as a multiple of what an event would get if all of the history got the same;
    the mean over users with its 95 % interval.

    Raises:
        UserError: there is no such model, or no such data set, or they do not belong together.
    """
    saved = list(_models(material))
    if not saved:
        raise UserError(
            f"{material.folder / 'models'}: no trained SynerGen of this table; runs on this machine leave theirs"
        )
    dataset = material.dataset()
    rows = [row for method, run_id, model in saved for row in _rows(method, run_id, model, dataset, material.source)]
    yield "", pl.DataFrame(rows, _SCHEMA, orient="row")


def _models(material: Material) -> Iterator[tuple[str, str, SavedModel]]:
    seen = set()
    for method, runs in material.runs.items():
        for run in runs:
            folder = model_folder(material.folder, run.record["id"])
            if run.record["model"] == "SynerGen" and folder.exists() and run.record["id"] not in seen:
                seen.add(run.record["id"])
                yield method, run.record["id"], load_model(folder)
                break


def _rows(method: str, run_id: str, saved: SavedModel, dataset: Dataset, source: str) -> Iterator[tuple[Any, ...]]:
    saved.refuse_other_items(dataset.log.item_ids, source)
    model = saved.model.eval()
    assert isinstance(model, SynerGen)
    task = tasks_of_run(saved.spec)[0]
    lifts: list[np.ndarray] = []  # (L, T) of each request
    ages: list[np.ndarray] = []  # (T,) seconds
    for requests in _requests(dataset, task, model.config.max_history):
        if not requests.history.valid.any():
            continue
        encoded = model.encode(requests.history)
        events = attention(model, encoded, requests).events  # (L, T)
        lifts.append(events / np.maximum(events.mean(1, keepdims=True), np.finfo(np.float32).tiny))
        ages.append((requests.times - encoded.times[0])[encoded.valid[0]].numpy())
    age, lift = np.concatenate(ages), np.concatenate(lifts, axis=1)  # (N,), (L, N)
    request = np.repeat(np.arange(len(ages)), [len(one) for one in ages])  # (N,)
    for at, one in enumerate(bins(age, GAP_EDGES)):
        places, own = np.unique(request[one.chosen], return_inverse=True)
        if len(places) < 2:
            continue
        for layer, values in enumerate(lift, start=1):
            means = np.bincount(own, values[one.chosen]) / np.bincount(own)  # a request each
            found = interval([means])
            about = (method, run_id, str(task), layer, at, name_of_gap(one), int(one.chosen.sum()))
            yield (*about, found.mean, found.low, found.high)


def _requests(dataset: Dataset, task: Task, max_history: int) -> Iterator[Requests]:
    """Single requests of the test part."""
    split, random = dataset.split, np.random.default_rng(0)
    if isinstance(split, TimeSplit):
        asked = split.requests(SplitPart.TEST, task is Task.SEARCH, 0)
        for at in random.permutation(asked)[:REQUESTS]:
            yield slate_question(split, np.array([at]), task, 1, max_history).requests
        return
    count = len(split.questions(SplitPart.TEST, task))
    some = random.permutation(count)[:REQUESTS]
    for question in questions(dataset.log, split, SplitPart.TEST, task, max_history, 1, some):
        yield question.requests


def draw(numbers: pl.DataFrame, title: str, table_marks: Mapping[str, Mark]) -> Figure:
    """A panel a method, a line a layer."""
    layers = marks(map(str, numbers["layer"].unique().sort()))
    figure, panels = small_multiples(numbers["method"].unique(maintain_order=True), 2.2)
    for method, axes in panels.items():
        for name, mark in layers.items():
            one = numbers.filter((pl.col("method") == method) & (pl.col("layer") == int(name)))
            spread = [one["mean"] - one["low"], one["high"] - one["mean"]]
            look: dict[str, Any] = {"linestyle": mark.line, "linewidth": 0.9, "elinewidth": 0.6, "markersize": 4}
            axes.errorbar(one["at"], one["mean"], yerr=spread, label=f"layer {name}", **mark.points, **look)
        axes.axhline(1, color=GREY, linewidth=0.6)
    ticks = numbers.unique("at").sort("at")
    figure.axes[0].set_xticks(ticks["at"], ticks["bin"].to_list())
    figure.axes[0].set_ylim(bottom=0)
    for axes in figure.axes:
        axes.tick_params(axis="x", labelrotation=90)
    figure.supxlabel("time between event and request", fontsize=8)
    figure.supylabel("attention, 1: all events alike", fontsize=8)
    figure.suptitle(f"{title}, {numbers['task'][0]}\nattention of the retrieval token", fontsize=9)
    figure.axes[0].legend(frameon=False, fontsize=7, handlelength=3)
    return figure


PLOT = Plot("attention by the time since an event; of models that are here", data, draw)
