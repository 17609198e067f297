"""Search spaces: what is written beside a model, what is searched of it, and what is refused."""

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from baselines.registry import MODELS, tasks_of
from benchmarks.plan import make_run, model_file, read_yaml, scales
from benchmarks.spec import load_spec
from benchmarks.tuning.space import changed, search_space
from synergen.errors import UserError


def base(model="SASRec", dataset="x", scale="cpu", **settings):
    task = str(sorted(tasks_of(model))[0])
    return make_run(model, task, settings, load_spec(2).protocol, dataset, scale, 0, by_hand=True)


@pytest.mark.parametrize("scale", sorted(scales()))
@pytest.mark.parametrize("dataset", ["ml-100k", "beauty", "book-review", "sessions-10k"])
@pytest.mark.parametrize("model", [model for model in sorted(MODELS) if "search" in read_yaml(model_file(model))])
def test_every_shipped_space_fits_its_model(model, dataset, scale):
    section = read_yaml(model_file(model))["search"]
    space = search_space(section, base(model, dataset, scale), (), None, model)
    assert set(space) <= set(section)


def test_ranges_and_choices_take_the_type_of_the_setting():
    section = {
        "settings.hidden_dropout": [0.1, 0.6],
        "settings.n_layers": [1, 4],
        "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
        "settings.hidden_size": {"choices": [32, 64]},
    }
    assert search_space(section, base(), (), None, "here") == {
        "settings.hidden_dropout": FloatDistribution(0.1, 0.6),
        "settings.n_layers": IntDistribution(1, 4),
        "training.learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
        "settings.hidden_size": CategoricalDistribution([32, 64]),
    }


def test_a_range_is_widened_to_the_value_by_hand():
    section = {"settings.hidden_dropout": [0.6, 0.8], "settings.hidden_size": {"choices": [32, 128]}}
    space = search_space(section, base(hidden_dropout=0.25), (), None, "here")  # hidden_size is 64 by hand
    assert space["settings.hidden_dropout"] == FloatDistribution(0.25, 0.8)
    assert space["settings.hidden_size"] == CategoricalDistribution([32, 128, 64])


def test_only_what_the_loss_reads_is_searched():
    section = read_yaml(model_file("SynerGen"))["search"]
    softmax, infonce = base("SynerGen", "beauty"), base("SynerGen", "beauty", retrieval_loss="infonce")
    papers = {"settings.alpha", "settings.lambda_pair", "settings.temperature"}  # section 4.3 of the paper
    assert papers - set(search_space(section, softmax, (), None, "here")) == {"settings.alpha"}
    assert set(search_space(section, infonce, (), ["alpha", "lambda", "tau"], "here")) == papers
    with pytest.raises(UserError, match=r"add --set settings.retrieval_loss=infonce or leave settings.alpha out"):
        search_space(section, softmax, (), ["alpha"], "here")


def test_fixed_places_are_not_searched():
    section = {"settings.hidden_dropout": [0.1, 0.6], "settings.attention_dropout": [0.1, 0.6]}
    assert set(search_space(section, base(), ["settings.hidden_dropout"], None, "x")) == {"settings.attention_dropout"}
    with pytest.raises(UserError, match="nothing to search for SASRec"):
        search_space(section, base(), list(section), None, "here")


@pytest.mark.parametrize(
    ("section", "only", "message"),
    [
        ({"settings.hiden_dropout": [0, 1]}, None, "unknown place.*did you mean 'settings.hidden_dropout'"),
        (
            {"settings.hidden_dropout": {"low": 0, "high": 1, "when": {"settings.los": 1}}},
            None,
            "'settings.los' in here",
        ),
        ({"settings.hidden_dropout": [0.1, 0.6]}, ["hiden_dropout"], "did you mean 'hidden_dropout'"),
        ({"settings.hidden_dropout": [0.6, 0.1]}, None, "low must be less than high"),
        ({"settings.hidden_dropout": {"low": 0.0, "high": 0.5, "log": True}}, None, "above 0"),
        ({"settings.hidden_dropout": [0.1, 1.5]}, None, "must be 0 or more, and less than 1"),
        ({"settings.hidden_size": {"choices": [64, 65]}}, None, "hidden_size is 65; it must be a multiple"),
        ({"settings.hidden_dropout": 0.3}, None, "is no range"),
        ({"settings.hidden_dropout": {"low": 0.1, "hihg": 0.3}}, None, "is no range"),
        ({"training.precision": ["a", "b"]}, None, "must be numbers"),
        ({"training.max_epochs": [10, 20]}, None, "the same for all models"),
        ({"settings.max_history": [10, 20]}, None, "the same for all models"),
        ({}, None, "nothing to search"),
    ],
)
def test_wrong_spaces_are_refused(section, only, message):
    with pytest.raises(UserError, match=message):
        search_space(section, base(), (), only, "here")


def test_a_changed_run_keeps_the_rest_and_no_later_defaults():
    run = base()
    other = changed(run, {"settings.hidden_dropout": 0.25, "training.learning_rate": 0.002})
    assert other.settings == run.settings | {"hidden_dropout": 0.25}
    assert other.trainer == run.trainer | {"learning_rate": 0.002}
    assert changed(run, {}) == run
