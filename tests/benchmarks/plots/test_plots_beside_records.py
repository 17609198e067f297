"""Figures that need more than records: the log, searches, trained models. Expected values by hand."""

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import optuna
import polars as pl
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial
from plot_records import drawn, make_run, material_of, shows
from saved_toys import save_toy_model, toy_dataset

from benchmarks.plots import by_bin, calibration, sensitivity, slices, time_rope
from benchmarks.plots.material import Material
from benchmarks.slices import Bin, questions_of
from benchmarks.tuning.study import BY_HAND, CANDIDATES, TASK
from synergen.contract import Task
from synergen.data.dataset import Dataset
from synergen.errors import UserError
from synergen.evaluation.calibration import reliability
from synergen.evaluation.metrics import metric_values
from synergen.model_files import load_model, model_folder


@pytest.fixture
def toys(tmp_path, monkeypatch) -> tuple[Material, Dataset]:
    """SASRec ranks each user's item at 1 plus the number of the user, among 80 users."""
    dataset = toy_dataset()
    ranks = np.arange(1.0, dataset.log.n_users + 1)
    run = make_run("SASRec", 0, {"recommendation": ranks}, data_hash=dataset.log.data_hash)
    monkeypatch.setattr("benchmarks.plots.material.load_for", lambda source, protocol: dataset)
    monkeypatch.setattr("benchmarks.plots.material.find_source", lambda source: None)
    monkeypatch.setattr("benchmarks.plots.material.source_hash", lambda source: "")
    return material_of({"SASRec": [run]}, tmp_path), dataset


def test_by_history_length(toys):
    material, dataset = toys
    [(part, numbers, figure)] = drawn(by_bin.BY_HISTORY, material)
    assert part == "recommendation"
    asked = questions_of(dataset, Task.RECOMMENDATION)
    lengths = np.diff(dataset.log.offsets) - 1  # leave-one-out: all but the last event
    values = metric_values(np.arange(1.0, 81), "N@10")
    assert numbers["bin"].to_list() == ["3-5", "6-10"]  # histories of the toy shop have 4 to 10 events
    assert numbers["questions"].to_list() == [(lengths < 6).sum(), (lengths >= 6).sum()]
    assert numbers["mean"].to_list() == pytest.approx([values[lengths < 6].mean(), values[lengths >= 6].mean()])
    assert len(asked.events) == numbers["questions"].sum()
    assert shows(figure.axes[0], list(zip(numbers["at"], 100 * numbers["mean"], strict=True)))


def test_names_of_bins():
    none = np.zeros(0, bool)
    assert [by_bin._whole(Bin(*ends, none)) for ends in ((0, 0), (1, 2), (2, 5), (500, np.inf))] == [
        "0",
        "1",
        "2-4",
        "500+",
    ]
    ends = ((0, 1), (1, 3_600), (86_400, np.inf))
    assert [by_bin.name_of_gap(Bin(*one, none)) for one in ends] == ["0", "1 s-1 h", "1 d+"]


def test_slices_as_figure_and_table(toys):
    material, dataset = toys
    [(_, numbers, figure)] = drawn(slices.PLOT, material)
    asked = questions_of(dataset, Task.RECOMMENDATION)
    cold = asked.popularity == 0
    by_name = {one["slice"]: one for one in numbers.iter_rows(named=True)}
    assert by_name["all"]["questions"] == 80
    assert by_name["cold items"]["questions"] == cold.sum() > 1
    values = metric_values(np.arange(1.0, 81), "N@10")
    assert by_name["cold items"]["mean"] == pytest.approx(values[cold].mean())
    assert "repeated items" not in by_name  # nobody buys twice in the toy shop
    assert by_name["long tail"]["questions"] + by_name["top 20 % of items"]["questions"] == 80 - cold.sum()
    for axes, name in zip(figure.axes, by_name, strict=True):
        assert shows(axes, [(100 * by_name[name]["mean"], 0)])
    half = (by_name["all"]["high"] - by_name["all"]["low"]) / 2
    table = (material.folder / "plots" / "t.x.recommendation.md").read_text()
    assert f"| SASRec | **{100 * values.mean():.2f}** ± {100 * half:.2f} |" in table


def test_other_data_than_those_of_the_records_are_refused(toys):
    material, _ = toys
    other = [make_run("SASRec", 0, {"recommendation": [1, 2]}, data_hash="f" * 64)]
    with pytest.raises(UserError, match="not that of the records"):
        list(slices.PLOT.data(replace(material, runs={"SASRec": other})))


def test_data_that_are_not_here_are_missing(material):
    with pytest.raises(UserError, match="shop"):
        list(by_bin.BY_GAP.data(material))


def study(
    material: Material,
    model: str,
    name: str,
    trials: Sequence[tuple[dict[str, float], float, TrialState]],
    made_for: tuple[str, str] = ("joint", "pool"),
) -> None:
    folder = material.folder / "studies"
    folder.mkdir(exist_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / f"shop.{model}.journal")))
    made = optuna.create_study(storage=storage, study_name=f"shop.{model}.{name}", direction="maximize")
    for attribute, value in zip((TASK, CANDIDATES), made_for, strict=True):
        made.set_user_attr(attribute, value)
    for at, (params, value, state) in enumerate(trials):
        made.add_trial(
            create_trial(
                params=params,
                distributions={place: FloatDistribution(0.01, 9) for place in params},
                value=value,
                state=state,
                user_attrs={} if at else {BY_HAND: True},
            )
        )


def test_sensitivity(material):
    """The first study searched neither; of the second, what was trained at all counts."""
    study(material, "SynerGen", "aaa", [({"settings.dropout": 0.5}, 0.3, TrialState.COMPLETE)])
    both = [{"settings.temperature": tau, "settings.lambda_pair": tau / 2} for tau in (1.0, 2.0, 4.0)]
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.COMPLETE)
    study(material, "SynerGen", "bbb", list(zip(both, (0.1, 0.2, 0.3), states, strict=True)))
    [(model, numbers, figure)] = drawn(sensitivity.PLOT, material)
    assert model == "SynerGen"
    assert numbers.select("study", "trial", "state", "parameter", "at", "value").rows() == [
        ("bbb", trial, state, letter, at, value)
        for letter, ats in (("λ", (0.5, 1, 2)), ("τ", (1, 2, 4)))
        for trial, (state, at, value) in enumerate(
            zip(("settings by hand", "pruned", "trained to its end"), ats, (0.1, 0.2, 0.3), strict=True)
        )
    ]
    assert [axes.get_xlabel() for axes in figure.axes] == ["λ", "τ"]
    for point in ((1, 10), (2, 20), (4, 30)):
        assert shows(figure.axes[1], [point])


@pytest.mark.parametrize("made_for", [("recommendation", "pool"), ("joint", "full")])
def test_a_study_of_another_task_or_candidates_is_not_the_tables(material, made_for):
    """Table 3 trains SynerGen for both tasks and ranks among a pool."""
    study(material, "SynerGen", "aaa", [({"settings.alpha": 0.1}, 0.3, TrialState.COMPLETE)], made_for)
    with pytest.raises(UserError, match="varied α, λ or τ"):
        list(sensitivity.PLOT.data(material))


def test_calibration_is_drawn_from_the_record(tmp_path):
    """Two bins: predictions of .1 and .4, of which none and half came true."""
    curve = reliability(np.repeat([0.1, 0.4], 10), np.repeat([0, 0, 1], [10, 5, 5]), bins=2)
    spec = SimpleNamespace(rows=[SimpleNamespace(method="it", head="ranking")], number=4)
    run = make_run("SynerGen", 3, {"search": [1]}, calibration={"reliability": {"ranking head": vars(curve)}})
    table = SimpleNamespace(spec=spec, dataset="shop")
    material = Material(table, {"it": [run]}, "shop", tmp_path)  # type: ignore[arg-type]
    [(_, numbers, figure)] = drawn(calibration.PLOT, material)
    of_bins = numbers.filter(pl.col("quantile").is_null())
    assert of_bins.select("seed", "observed", "counts").rows() == [(3, 0.0, 10), (3, 0.5, 10)]
    assert of_bins["predicted"].to_list() == pytest.approx([0.1, 0.4])
    assert numbers["quantile"].drop_nulls().to_list() == list(curve.quantiles)
    assert shows(figure.axes[0], [(0.1, 0), (0.4, 0.5)])


def test_without_calibration_there_is_no_figure(material):
    with pytest.raises(UserError, match="no run on record has a calibration"):
        list(calibration.PLOT.data(material))


@pytest.fixture
def trained(toys) -> tuple[Material, str]:
    """A random SynerGen under the id of a run of the table."""
    material, dataset = toys
    run = make_run("SynerGen", 0, {"recommendation": np.ones(80)}, data_hash=dataset.log.data_hash)
    save_toy_model(model_folder(material.folder, run.record["id"]), dataset)
    return material_of({"SynerGen": [run]}, material.folder), run.record["id"]


def test_a_decoder_of_zeros_attends_to_all_events_alike(trained, monkeypatch):
    """Equal logits: each event has the mean attention, whenever it was."""
    material, run_id = trained

    def silenced(folder):
        saved = load_model(folder)
        for parameter in saved.model.decoder.parameters():
            parameter.data.zero_()
        return saved

    monkeypatch.setattr(time_rope, "load_model", silenced)
    [(_, numbers, figure)] = drawn(time_rope.PLOT, material)
    assert numbers["mean"].to_list() == pytest.approx([1.0] * len(numbers))
    assert set(numbers["bin"]) == {"1 d-7 d"}  # an event a day, of which six are read
    assert set(numbers["run"]) == {run_id}
    assert shows(figure.axes[0], [(0, 1)])


def test_attention_averages_to_one_over_all_events(trained, monkeypatch):
    """Where all events are in one bin, whatever the weights."""
    material, _ = trained
    monkeypatch.setattr(time_rope, "GAP_EDGES", (0,))
    [(_, numbers)] = time_rope.PLOT.data(material)
    assert numbers["mean"].to_list() == pytest.approx([1.0] * len(numbers), abs=1e-5)


def test_without_models_there_is_no_attention(material):
    with pytest.raises(UserError, match="no trained SynerGen"):
        list(time_rope.PLOT.data(material))
