"""The `synergen` command on a small shop."""

import json

import pytest
from toys import toy_tables

from synergen import __version__
from synergen.cli import main


@pytest.fixture
def shop(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    interactions, items = toy_tables(users=400, items=150)
    interactions.to_csv(folder / "interactions.csv", index=False)
    items.to_csv(folder / "items.csv", index=False)
    return str(folder)


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"synergen {__version__}\n"


@pytest.mark.parametrize("command", [["data", "stats"], ["data", "audit"], ["train"], ["evaluate"], ["data", "list"]])
def test_help_teaches_by_an_example(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert f"example: synergen {' '.join(command)}" in " ".join(capsys.readouterr().out.split())


def test_list_names_the_embedded_data_set_and_the_folder_format(capsys):
    assert main(["data", "list"]) == 0
    printed = capsys.readouterr().out
    assert "ml-100k" in printed
    assert "interactions.parquet|csv" in printed


def test_statistics_print_sizes_and_the_query_rule(shop, capsys):
    assert main(["data", "stats", shop, "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["users"] == 400
    assert "title" in values["query rule"]
    assert 0 <= values["items without a query"] <= 1
    assert main(["data", "stats", shop]) == 0
    assert "items without a query" in capsys.readouterr().out


def test_audit_prints_shares(shop, capsys):
    assert main(["data", "audit", shop, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test targets in own history"] == 0


def test_train_then_evaluate_gives_the_same_numbers(shop, tmp_path, capsys):
    out = str(tmp_path / "out")
    arguments = ["train", "--model", "SASRec", "--dataset", shop, "--out", out, "--json"]
    assert main([*arguments, "--set", "training.max_epochs=2", "--set", "settings.hidden_size=16"]) == 0
    trained = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "--run", trained["run"], "--dataset", shop, "--out", out, "--json"]) == 0
    tested = json.loads(capsys.readouterr().out)
    assert tested == trained


def test_synergen_learns_both_tasks_from_text_and_ids(shop, tmp_path, capsys):
    arguments = ["train", "--model", "SynerGen", "--task", "joint", "--dataset", shop, "--out", str(tmp_path), "--json"]
    small = ["settings.width=16", "settings.ffn_width=32", "settings.dropout=0.1", "training.max_epochs=10"]
    assert main([*arguments, *(word for change in small for word in ("--set", change))]) == 0
    trained = json.loads(capsys.readouterr().out)
    for task in ("recommendation", "search"):
        # 10 of 100 candidates by chance; users walk along the catalogue, and queries are words of the title
        assert trained["metrics"][task]["pool"]["R@10"] > 0.2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "stats", "ml100k"], "did you mean 'ml-100k'"),
        (["train", "--model", "SASRek"], "did you mean 'SASRec'"),
        (["train", "--model", "SASRec", "--set", "width=3"], "settings.KEY=VALUE"),
        (["train", "--model", "SASRec", "--set", "settings.widht=3"], "unknown key 'widht'"),
        (["train", "--model", "SASRec", "--set", "protocol.negative=3"], "negatives"),
        (["evaluate", "--run", "none"], "no such finished run"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, capsys):
    out = ["--out", str(tmp_path)] if arguments[0] != "data" else []
    assert main([*arguments, *out]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
