"""How validation depends on α, λ and τ, from the trials of searches."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
import polars as pl
from matplotlib.figure import Figure
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from benchmarks.plots.drawing import Part, Plot
from benchmarks.plots.layout import logarithmic
from benchmarks.plots.material import Material
from benchmarks.tuning.study import BY_HAND, CANDIDATES, TASK, reached, values_of
from synergen.errors import UserError
from synergen.plot_style import ONE_COLUMN, TWO_COLUMNS, Mark, plain

PLACES = {"settings.alpha": "α", "settings.lambda_pair": "λ", "settings.temperature": "τ"}
"""What the paper tunes (section 4.3), by its place in the settings."""

_STATES = {TrialState.COMPLETE: "trained to its end", TrialState.PRUNED: "pruned"}
_BY_HAND = "settings by hand"
_LOOKS = {
    "trained to its end": {"marker": "o", "color": "#0072B2", "markersize": 4},
    "pruned": {"marker": "o", "color": "#666666", "markerfacecolor": "white", "markersize": 4},
    _BY_HAND: {"marker": "*", "color": "black", "markersize": 7},
}
_SCHEMA = {
    **{"model": pl.String, "study": pl.String, "trial": pl.Int64, "state": pl.String},
    **{"parameter": pl.String, "at": pl.Float64, "value": pl.Float64},
}


def data(material: Material) -> Iterator[Part]:
    """By model of the table that a search on this data set is kept of: a row a trial and parameter, of the study with
    the most trials that searched α, λ or τ for a task of the table among its candidates; `value` is what validation
    came to, a fraction.

    Raises:
        UserError: no such search is kept.
    """
    folder, dataset, found = material.folder / "studies", material.table.dataset, False
    for model, tasks in _models(material).items():
        journal = folder / f"{dataset}.{model}.journal"
        rows = _trials(journal, model, tasks, material.table.protocol["candidates"]) if journal.exists() else []
        if rows:
            found = True
            yield model, pl.DataFrame(rows, _SCHEMA, orient="row")
    if not found:
        raise UserError(
            f"{folder}: no search of a model of this table on {material.table.dataset} varied α, λ or τ; "
            "benchmarks/tune.py --params alpha,lambda,tau makes one"
        )


def _models(material: Material) -> dict[str, set[str]]:
    """The models of a table's rows, and what they are trained for."""
    found: dict[str, set[str]] = {}
    for row in material.table.spec.rows:
        if row.model:
            found.setdefault(row.model, set()).add(row.task)
    return found


def _trials(journal: Path, model: str, tasks: set[str], candidates: str) -> list[tuple[Any, ...]]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    rows_by_study: list[list[tuple[Any, ...]]] = []
    for study in storage.get_all_studies():
        name = study.study_name.rpartition(".")[2]
        if study.user_attrs.get(TASK) not in tasks or study.user_attrs.get(CANDIDATES) != candidates:
            continue
        shown = [trial for trial in storage.get_all_trials(study._study_id) if trial.values and trial.state in _STATES]
        rows_by_study.append(
            [
                (model, name, trial.number, _state(trial), letter, values_of(trial)[place], reached(trial))
                for place, letter in PLACES.items()
                for trial in shown
                if place in trial.params
            ]
        )
    return max(rows_by_study, key=len, default=[])


def _state(trial: FrozenTrial) -> str:
    return _BY_HAND if BY_HAND in trial.user_attrs else _STATES[trial.state]


def draw(numbers: pl.DataFrame, title: str, marks: Mapping[str, Mark]) -> Figure:
    """A panel a parameter, a point a trial."""
    names = numbers["parameter"].unique(maintain_order=True).to_list()
    width = ONE_COLUMN if len(names) == 1 else TWO_COLUMNS
    figure = Figure(figsize=(width, 2.9), layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        for state, look in _LOOKS.items():
            one = numbers.filter((pl.col("parameter") == name) & (pl.col("state") == state))
            if len(one):
                axes.plot(one["at"], 100 * one["value"], linestyle="", label=state, **look)
        axes.set_xlabel(name)
        logarithmic(axes.xaxis)
        plain(axes)
    panels[0].set_ylabel("validation metric [%]")
    trials = numbers["trial"].n_unique()
    figure.suptitle(
        f"{title}: {trials} trials of {numbers['model'][0]}\n(other settings vary, too; study {numbers['study'][0]})",
        fontsize=8,
    )
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=7, handletextpad=0.2)
    return figure


PLOT = Plot("validation against α, λ and τ, from the trials of searches", data, draw)
