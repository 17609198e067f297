"""Every shipped YAML loads, budgets are the same for all, and wrong keys are named."""

from dataclasses import fields
from pathlib import Path

import pytest

import benchmarks.plan as plan_module
from baselines.registry import MODELS
from benchmarks.plan import complete_values, make_run, model_config, plan, scales
from benchmarks.spec import load_spec
from synergen.errors import UserError
from synergen.model.config import SynerGenConfig
from synergen.training.trainer import TrainingConfig

FOLDER = Path(plan_module.__file__).parent
BUDGET = {"max_epochs", "patience"}


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.yaml")), ids=lambda path: path.name)
def test_every_yaml_begins_with_a_header(path):
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("scale", sorted(scales()))
@pytest.mark.parametrize("dataset", ["ml-100k", "beauty", "sessions-10k", "never-heard-of"])
@pytest.mark.parametrize("model", sorted(MODELS))
def test_every_configuration_is_valid_and_leaves_the_budget_to_the_scale(model, dataset, scale):
    config = model_config(model, dataset, scale)
    assert {key: config["training"][key] for key in scales()[scale]} == scales()[scale]
    own = plan_module.read_yaml(FOLDER / "configs" / f"{model}.yaml")
    layers = [
        own,
        own.get("searches", {}),
        *(layer for kind in ("scales", "datasets") for layer in own.get(kind, {}).values()),
    ]
    assert not any(BUDGET & set(layer.get("training", {})) for layer in layers)


@pytest.mark.parametrize("number", [2, 3])
def test_models_of_a_table_share_budget_protocol_and_seeds(number):
    spec = load_spec(number)
    runs = [run for row in plan(spec, "beauty", "cpu", 2, None).values() for run in row]
    assert {run.seed for run in runs} == {0, 1}
    assert all(run.protocol == dict(spec.protocol) for run in runs)
    budgets = {tuple(run.trainer[key] for key in sorted(scales()["cpu"])) for run in runs if run.trainer}
    assert len(budgets) == 1
    assert all(run.settings.get("max_history", 50) == spec.protocol["max_history"] for run in runs)


def test_a_run_holds_every_value_that_it_depends_on():
    run = plan(load_spec(2), "x", "smoke", 1, ["SynerGen-ID"])["SynerGen-ID"][0]
    assert set(run.settings) == {field.name for field in fields(SynerGenConfig) if not field.metadata.get("later")}
    assert set(run.trainer) == {field.name for field in fields(TrainingConfig) if not field.metadata.get("later")}
    smoke, cpu = (plan(load_spec(3), "x", scale, 1, ["BM25"])["BM25"][0] for scale in ("smoke", "cpu"))
    assert smoke.id == cpu.id  # nothing is trained, so the scale changes nothing


def test_tables_without_runs_plan_none():
    assert plan(load_spec(1), "ml-100k", "smoke", 1, None) == {}


def test_rows_may_be_chosen_by_method_or_model():
    spec = load_spec(2)
    assert set(plan(spec, "x", "smoke", 1, ["SynerGen-ID"])) == {"SynerGen-ID"}
    assert set(plan(spec, "x", "smoke", 1, ["SASRec", "Popularity"])) == {"SASRec", "Popularity"}
    with pytest.raises(UserError, match=r"unknown model 'SASRek' in table 2: did you mean 'SASRec'"):
        plan(spec, "x", "smoke", 1, ["SASRek"])


def test_wrong_keys_and_values_are_named():
    protocol = load_spec(2).protocol
    with pytest.raises(UserError, match="did you mean 'hidden_size'"):
        make_run("SASRec", "recommendation", {"hiden_size": 8}, protocol, "x", "smoke", 0)
    with pytest.raises(UserError, match=r"must be a float like 0\.001 \(in YAML write 1\.0e-3"):
        make_run("SASRec", "recommendation", {}, protocol, "x", "smoke", 0, {"learning_rate": "1e-3"})
    with pytest.raises(UserError, match="unknown scale 'huge'"):
        make_run("SASRec", "recommendation", {}, protocol, "x", "huge", 0)


def test_an_unknown_key_in_a_model_file_is_refused(tmp_path, monkeypatch):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "SASRec.yaml").write_text("# header\nsetings: {}\n")
    monkeypatch.setattr(plan_module, "_FOLDER", tmp_path)
    monkeypatch.setattr(plan_module, "scales", lambda: {"smoke": {}})
    with pytest.raises(UserError, match=r"unknown key 'setings'.*did you mean 'settings'"):
        model_config("SASRec", "x", "smoke")


def test_what_is_for_searches_holds_where_the_protocol_makes_some():
    """Expected: configs/SynerGen.yaml, whose scale `paper` has the paper's input whatever is asked."""

    def residual(table: int, dataset: str, scale: str) -> bool:
        run = plan(load_spec(table), dataset, scale, 1, ["SynerGen"])["SynerGen"][0]
        return bool(complete_values(run)["settings"]["query_residual"])

    assert residual(3, "beauty", "cpu")
    assert not residual(2, "beauty", "cpu")
    assert not residual(3, "ml-100k", "cpu")
    assert not residual(3, "beauty", "paper")
