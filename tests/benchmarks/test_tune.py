"""The tuning command on a small shop: what a search writes, and what the tables then do with it."""

import csv
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from optuna.trial import create_trial
from toys import toy_shop

import benchmarks.plan as plan_module
from benchmarks import tune
from benchmarks.job import execute
from benchmarks.plan import make_run, read_yaml, tuned_file, tuning_of
from benchmarks.spec import load_spec
from benchmarks.tuning.plot import pareto_front
from benchmarks.tuning.study import alone, kept, ranked, reached, study_of
from benchmarks.tuning.trial import best_validation
from synergen.errors import UserError
from synergen.runs import RunStore

PROTOCOL = load_spec(2).protocol
FOLDER = Path(plan_module.__file__).parent


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """100 users, 40 items, dense enough for the tables' filter of five events."""
    return toy_shop(tmp_path_factory.mktemp("data") / "shop", users=100, items=40)


@pytest.fixture(scope="module")
def wide_shop(tmp_path_factory) -> Path:
    """400 users, 150 items: enough for pools."""
    return toy_shop(tmp_path_factory.mktemp("wide") / "shop", users=400, items=150)


@pytest.fixture
def files(tmp_path, monkeypatch) -> Path:
    """The configurations in a folder of the test, where tuned ones may be written."""
    for name in ("configs", "specs"):
        shutil.copytree(FOLDER / name, tmp_path / "files" / name)
    monkeypatch.setattr(plan_module, "_FOLDER", tmp_path / "files")
    read_yaml.cache_clear()
    yield tmp_path / "files"
    read_yaml.cache_clear()


def write_tuned(files, model="SASRec", dataset="shop", **changes) -> None:
    content = {
        "settings": {"hidden_dropout": 0.25},
        "training": {"learning_rate": 0.002},
        "fixed": {},
        "task": "recommendation",
        "candidates": "full",
        "trials": 8,
        "scale": "short",
        "study": "0123456789ab",
        "confirmed": None,
    }
    content |= changes
    path = files / "tuned" / dataset / f"{model}.{content['task']}.{content['candidates']}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# header\n" + yaml.safe_dump(content))


def sasrec(scale="short", dataset="shop", **settings):
    return make_run("SASRec", "recommendation", settings, PROTOCOL, dataset, scale, 0)


def test_a_search_from_the_command_to_the_tables(shop, files, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["--model", "SASRec", "--dataset", str(shop), "--scale", "sketch", "--out", str(out), "--trials", "2"]
    command += ["--params", "hidden_dropout", "--workers", "1"]
    assert tune.main(command) == 0
    assert not (files / "tuned").exists()
    assert tune.main([*command, "--save"]) == 0  # nothing is left to train
    assert "goes on: 2 of 2 trials, best N@10" in capsys.readouterr().out
    assert {path.name for path in (out / "studies").iterdir()} == {"shop.SASRec.journal", "shop.SASRec.csv"}
    for name in ("tuning.shop.SASRec.png", "tuning.shop.SASRec.slices.png"):
        assert (out / "plots" / name).stat().st_size > 10_000
    rows = list(csv.DictReader((out / "studies" / "shop.SASRec.csv").open()))
    assert [(row["trial"], row["state"], row["by_hand"]) for row in rows] == [
        ("1", "complete", "True"),
        ("2", "complete", "False"),
    ]

    search = tune._search(tune.parser().parse_args(command))
    with alone(search) as study:
        trials = kept(study)
    best = ranked(trials)[0]
    text = tuned_file("SASRec", "shop", "recommendation", "full").read_text()
    assert f"validation N@10 {best.value:.4f}" in text
    assert str(shop) not in text
    found = yaml.safe_load(text)
    assert found["trials"] == len(trials) == 2
    assert found["study"] == search.id

    run = sasrec("sketch")  # what a table would run
    assert run.settings == search.spec(best).settings
    record = execute(run, str(shop), RunStore(out), "cpu", "sketch", lambda stage, state: None).record
    assert record["tuning"] == {"trials": 2, "scale": "sketch", "study": search.id}
    assert record["training"]["best_metric"] == best.value
    assert list(best.intermediate_values.values()) == [one["N@10"] for one in record["training"]["curve"]]


def test_the_best_are_trained_again_at_a_larger_scale(shop, files, tmp_path, capsys):
    """Two of four and those by hand; what is saved is the best at the larger scale, as a table there then reaches."""
    out = tmp_path / "out"
    command = ["--model", "SASRec", "--dataset", str(shop), "--out", str(out), "--params", "hidden_dropout"]
    command += ["--workers", "1", "--scale", "sketch", "--trials", "4", "--confirm", "smoke", "--save"]
    assert tune.main(command) == 0
    options = tune.parser().parse_args(command)
    early = tune._search(options)
    few = kept(study_of(early))
    assert len(few) == 4
    others = [trial.params for trial in ranked(few) if trial is not few[0]]
    last = replace(tune._search(options, "smoke"), finalists=tuple(others[:2]))
    assert last.id != replace(last, finalists=()).id
    final = kept(study_of(last))
    assert [trial.params for trial in final] == [early.by_hand, *others[:2]]
    best = ranked(final)[0]
    found = yaml.safe_load(text := tuned_file("SASRec", "shop", "recommendation", "full").read_text())
    assert (found["trials"], found["scale"], found["confirmed"]) == (4, "sketch", "smoke")
    words = f"{best.value:.4f} (by hand {final[0].value:.4f}) at scale smoke", "and 3 at scale smoke", "--confirm smoke"
    assert all(word in text for word in words)
    run = sasrec("smoke")
    assert run.settings["hidden_dropout"] == found["settings"]["hidden_dropout"]
    record = execute(run, str(shop), RunStore(out), "cpu", "smoke", lambda stage, state: None).record
    assert record["training"]["best_metric"] == best.value
    assert record["tuning"] == {"trials": 4, "scale": "sketch", "study": early.id, "confirmed": "smoke"}
    capsys.readouterr()
    assert tune.main(command) == 0  # nothing is left to train
    assert "goes on: 3 of 3 trials" in capsys.readouterr().out


def test_a_search_may_begin_elsewhere(shop, tmp_path):
    """With the values given, which are searched all the same; where they lie outside of a range, it is widened."""
    command = ["--model", "SASRec", "--dataset", str(shop), "--out", str(tmp_path), "--trials", "2"]
    search = tune._search(tune.parser().parse_args([*command, "--start", "settings.hidden_dropout=0.9"]))
    assert search.by_hand["settings.hidden_dropout"] == 0.9
    assert search.space["settings.hidden_dropout"].high == 0.9
    assert search.id != tune._search(tune.parser().parse_args(command)).id


def test_both_metrics_apart_and_their_front(wide_shop, files, tmp_path, capsys):
    """Two trials, neither of which is pruned; each has two metrics, whose mean is what one metric would have been."""
    common = [
        "--model",
        "SynerGen",
        "--dataset",
        str(wide_shop),
        "--scale",
        "sketch",
        "--table",
        "3",
        "--task",
        "joint",
    ]
    common += ["--params", "tau", "--trials", "2", "--workers", "1"]
    apart = [*common, "--out", str(tmp_path / "apart"), "--pareto"]
    assert tune.main(apart) == 0
    assert (tmp_path / "apart" / "plots" / "tuning.shop.SynerGen.joint.pareto.png").stat().st_size > 10_000
    assert tune.main([*common, "--out", str(tmp_path / "mean")]) == 0
    searches = [
        tune._search(tune.parser().parse_args(words)) for words in (apart, [*common, "--out", str(tmp_path / "mean")])
    ]
    two, one = (kept(study_of(search)) for search in searches)
    assert [len(trial.values) for trial in two] == [2, 2]
    assert [reached(trial) for trial in two] == pytest.approx([trial.value for trial in one])
    assert tune.main([*apart, "--save"]) == 2
    assert "no single best values" in capsys.readouterr().err


def test_the_front_are_those_that_no_other_beats():
    trials = [
        create_trial(values=values)
        for values in ([1.0, 5.0], [2.0, 4.0], [2.0, 3.0], [3.0, 1.0], [0.5, 5.0], [2.0, 4.0])
    ]
    assert [trial.values for trial in pareto_front(trials)] == [[1, 5], [2, 4], [3, 1], [2, 4]]


def test_a_model_that_learns_nothing_is_validated_once(shop, tmp_path):
    def reached(**settings) -> float:
        run = make_run("ItemKNN", "recommendation", settings, PROTOCOL, "shop", "sketch", 0)
        return best_validation(run, str(shop), "cpu", tmp_path / "x.pt", lambda epoch, metric: None)["N@10"]

    assert reached() > reached(neighbours=1) > 0  # walks of equal steps: the next item is among the neighbours


def test_a_training_that_is_ended_leaves_no_file(shop, tmp_path):
    def stop(epoch: int, metric: float) -> None:
        if epoch == 2:
            assert list(tmp_path.iterdir()) == [tmp_path / "x.pt"]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        best_validation(sasrec(), str(shop), "cpu", tmp_path / "x.pt", stop)
    assert list(tmp_path.iterdir()) == []


def test_tuned_values_lie_over_those_of_the_data_set_and_under_rows_and_budget(files):
    by_hand = sasrec(dataset="ml-100k")
    write_tuned(files, dataset="ml-100k", training={"learning_rate": 0.002, "batch_size": 64})
    tuned = sasrec(dataset="ml-100k")
    assert tuned.settings == by_hand.settings | {"hidden_dropout": 0.25}
    assert tuned.trainer == by_hand.trainer | {"learning_rate": 0.002, "batch_size": 64}  # the data set's is 32
    assert sasrec(dataset="ml-100k", hidden_dropout=0.1).settings["hidden_dropout"] == 0.1
    assert make_run("SASRec", "recommendation", {}, PROTOCOL, "ml-100k", "short", 0, by_hand=True) == by_hand
    assert sasrec(dataset="beauty").settings["hidden_dropout"] == 0.5  # another data set
    assert tuned.trainer["max_epochs"] == 6  # short


def test_values_found_for_a_small_model_do_not_set_the_paper_s(files):
    write_tuned(files, "SynerGen", settings={"dropout": 0.33}, training={})

    def dropout(scale: str) -> float:
        return make_run("SynerGen", "recommendation", {}, PROTOCOL, "shop", scale, 0).settings["dropout"]

    assert (dropout("cpu"), dropout("paper")) == (0.33, 0.1)
    read_yaml.cache_clear()
    for scales in ({"scale": "paper"}, {"scale": "smoke", "confirmed": "paper"}):  # what decided was the large model
        write_tuned(files, "SynerGen", settings={"dropout": 0.33}, training={}, **scales)
        assert (dropout("cpu"), dropout("paper")) == (0.5, 0.33)
        read_yaml.cache_clear()


def test_values_found_for_one_task_or_candidates_do_not_set_others(files):
    write_tuned(files)
    pool = PROTOCOL | {"candidates": "pool", "negatives": 99}
    assert sasrec().settings["hidden_dropout"] == 0.25
    for task, protocol in (("joint", PROTOCOL), ("recommendation", pool)):
        run = make_run("SASRec", task, {}, protocol, "shop", "short", 0)
        assert run.settings["hidden_dropout"] == 0.5  # RecBole's


def test_values_found_beside_others_suit_runs_with_those_others_alone(files):
    """As by `--set settings.n_layers=1 --save`."""
    write_tuned(files, fixed={"settings": {"n_layers": 1}, "training": {}})
    assert sasrec(n_layers=1).settings["hidden_dropout"] == 0.25
    assert sasrec().settings["hidden_dropout"] == 0.5  # by hand
    assert tuning_of(sasrec(n_layers=1), "short") is not None
    assert tuning_of(sasrec(hidden_dropout=0.25), "short") is None


def test_searches_for_two_tables_are_both_kept(files):
    pool = PROTOCOL | {"candidates": "pool", "negatives": 99}
    write_tuned(files)
    write_tuned(files, settings={"hidden_dropout": 0.4}, candidates="pool")
    found = [make_run("SASRec", "recommendation", {}, p, "shop", "short", 0).settings for p in (PROTOCOL, pool)]
    assert [settings["hidden_dropout"] for settings in found] == [0.25, 0.4]


def test_only_runs_with_the_values_found_are_called_tuned(files):
    assert tuning_of(sasrec(), "short") is None
    write_tuned(files)
    said = {"trials": 8, "scale": "short", "study": "0123456789ab"}
    assert tuning_of(sasrec(), "short") == said
    assert tuning_of(sasrec(n_layers=1), "short") == said  # a row's own setting, which was not searched
    assert tuning_of(sasrec(hidden_dropout=0.5), "short") is None
    assert tuning_of(sasrec(hidden_dropout=0.5), "short", {"hidden_dropout"}) == said  # the rest is as found
    assert tuning_of(sasrec(dataset="beauty"), "short") is None


def test_a_damaged_tuned_file_is_named(files):
    write_tuned(files, settings={"hiden_dropout": 0.3})
    path = str(files / "tuned/shop/SASRec.recommendation.full.yaml")
    with pytest.raises(UserError, match=re.escape(path) + ".*'hidden_dropout'"):
        sasrec()
    read_yaml.cache_clear()
    write_tuned(files, trails=8)
    with pytest.raises(
        UserError, match="the keys must be settings, training, fixed, task, candidates, trials, scale, study, confi"
    ):
        sasrec()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "SASRek"], "did you mean 'SASRec'"),
        (["--model", "SASRec", "--dataset", "ml-100q"], "did you mean 'ml-100k'"),
        (["--model", "SASRec", "--scale", "huge"], "unknown scale 'huge'"),
        (["--model", "SASRec", "--params", "dropuot"], "did you mean 'hidden_dropout'"),
        (["--model", "SASRec", "--set", "hidden_dropout=0.2"], "write settings.KEY=VALUE"),
        (
            ["--model", "SASRec", "--start", "hidden_dropout=0.2"],
            "--start hidden_dropout=0.2: write settings.KEY=VALUE",
        ),
        (["--model", "SASRec", "--set", "settings.hidden_dropuot=0.2"], "did you mean 'hidden_dropout'"),
        (["--model", "SASRec", "--task", "joint"], "unknown task 'joint'"),
        (["--model", "SASRec", "--table", "1"], "trains nothing"),
        (["--model", "Popularity"], "nothing to search"),
        (
            ["--model", "SynerGen", "--set", "settings.retrieval_loss=infonce", "--save"],
            "decides which values are read",
        ),
        (["--model", "SASRec", "--trials", "0"], "1 or more"),
        (["--model", "SASRec", "--confirm", "smoke"], "is the scale of the trials"),
        (["--model", "SASRec", "--confirm", "huge"], "unknown scale 'huge'"),
    ],
)
def test_mistakes_are_said(arguments, words, shop, tmp_path, capsys):
    options = ["--trials", "3", "--dataset", str(shop), "--out", str(tmp_path), *arguments]
    assert tune.main(options) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
