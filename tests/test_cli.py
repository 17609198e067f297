"""The `synergen` command on a small shop."""

import json

import pandas as pd
import pytest
from saved_toys import save_toy_model, toy_dataset, toy_vectors
from toys import toy_tables

from synergen import __version__
from synergen.cli import main
from synergen.model_files import model_folder
from synergen.recommender import Recommender
from synergen.text import encode_texts


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A results folder with a model of the toy log, and that log as a folder."""
    out, folder = tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("data") / "toy"
    save_toy_model(model_folder(out, "0123456789ab"), toy_dataset())
    folder.mkdir()
    interactions, items = toy_tables(users=80)
    interactions.to_parquet(folder / "interactions.parquet")
    items.to_parquet(folder / "items.parquet")
    return out, folder


@pytest.fixture
def ask(trained, monkeypatch, capsys):
    """Runs a command on that model; gives its status, output and complaints, line breaks removed."""
    monkeypatch.setattr("synergen.serving.encode_texts", toy_vectors)
    monkeypatch.setenv("COLUMNS", "200")

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        status = main([name, "--run", "0123456789ab", "--out", str(trained[0]), *arguments])
        printed = capsys.readouterr()
        return status, " ".join(printed.out.split()), " ".join(printed.err.split())

    return run


COMMANDS = [
    *("data stats", "data audit", "data list", "train", "evaluate", "recommend", "search", "rank", "explain"),
    *("compare", "check-table"),
]


@pytest.mark.parametrize("command", [name.split() for name in COMMANDS], ids=COMMANDS)
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
    who = ["--run", trained["run"], "--dataset", shop, "--user", "u3", "--out", str(tmp_path), "--json"]
    assert main(["search", *who, "--query", "something blue"]) == 0  # new, so that it is encoded now
    assert len({one["title"] for one in json.loads(capsys.readouterr().out)["items"]}) == 10
    view = Recommender.load(trained["run"], tmp_path).served.saved.view
    known = view.query_texts[1:4]  # encoded now they are what they were at training, to the rounding of float16
    assert encode_texts(known) == pytest.approx(view.query_vectors[1:4], abs=2e-3)


@pytest.mark.parametrize(
    ("command", "options"),
    [("recommend", []), ("search", ["--query", "red wool"]), ("rank", ["--items", "5, 6,7", "--query", "red"])],
)
def test_a_user_of_the_data_set_is_answered_as_by_the_recommender(ask, trained, command, options):
    # The reference: the same events, written by hand, asked of the Recommender.
    out, folder = trained
    table, _ = toy_tables(users=80)
    events = table[table["user"] == "u3"].head(4)
    at = int(events["ts"].iloc[-1]) + 3600
    who = ["--user", "u3", "--dataset", str(folder), "--at", str(at)]
    status, printed, _ = ask(command, *who, *options, "--json")
    assert status == 0
    given = json.loads(printed)
    recommender = Recommender.load("0123456789ab", out)
    session = recommender.open(events[["item", "ts"]])
    expected = {
        "recommend": lambda: session.recommend(at=at),
        "search": lambda: session.search("red wool", at=at),
        "rank": lambda: session.rank([5, 6, 7], "red", at=at),
    }[command]()
    run = recommender.served.saved.spec.id
    assert given == {"run": run, "items": expected.to_frame().to_dict("records"), "skipped": 0}
    status, printed, _ = ask(command, *who, *options)
    assert status == 0
    assert "user u3: the last 4 of 4 events" in printed
    assert all(one.title in printed for one in expected)


def test_a_history_file_takes_the_place_of_a_user(ask, tmp_path):
    events = pd.DataFrame({"item": [5, 8, "?"], "ts": [10, 20, 30], "query": [None, "red", None]})
    events.to_csv(tmp_path / "history.csv", index=False)
    for arguments in ([], ["--index", "ivf"], ["--at", "1970-01-01T00:00:30"]):
        status, printed, _ = ask("recommend", "--history", str(tmp_path / "history.csv"), "--k", "2", *arguments)
        assert status == 0
        assert "the last 3 of 3 events" in printed
        assert "(unknown item)" in printed
        assert "1 events of unknown items were not read" in printed
    assert "the last 2 of 2 events" in ask("recommend", "--history", str(tmp_path / "history.csv"), "--at", "29")[1]


@pytest.mark.parametrize("options", [[], ["--item", "5"], ["--item", "5", "--query", "red wool"]])
def test_explain_writes_a_picture(ask, trained, tmp_path, options):
    picture = tmp_path / "attention.png"
    who = ["--user", "u3", "--dataset", str(trained[1])]
    status, printed, _ = ask("explain", *who, *options, "--output", str(picture))
    assert status == 0
    assert "attention to 5 events" in printed  # all that u3 did
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["recommend", "--user", "u3", "--query", "red"], "use: synergen search"),
        (["recommend"], "--user U of the run's data set, or --history FILE"),
        (["recommend", "--user", "u3", "--history", "x.csv"], "--user U of the run's data set, or --history FILE"),
        (["recommend", "--user", "u3"], "unknown data set 'toy'"),
        (["recommend", "--user", "u3", "--dataset", "ml-100k"], "ml-100k: its catalogue"),
        (["recommend", "--user", "nobody", "--dataset", "TOY"], "has no user 'nobody'; its 80 users are like 'u0'"),
        (["recommend", "--user", "u3", "--dataset", "TOY", "--k", "0"], "k is 0"),
        (["recommend", "--user", "u3", "--dataset", "TOY", "--at", "noon"], "--at noon: give Unix seconds or a date"),
        (["search", "--user", "u3", "--dataset", "TOY", "--query", ""], "the query is empty"),
        (["rank", "--user", "u3", "--dataset", "TOY", "--items", "5,5"], "candidate 5 is named twice"),
        (["rank", "--user", "u3", "--dataset", "TOY", "--items", ","], "no candidates"),
        (
            ["explain", "--user", "u3", "--dataset", "TOY", "--item", "x", "--output", "a.png"],
            "not in the catalogue: x",
        ),
        (["explain", "--user", "u3", "--dataset", "TOY", "--output", "a.doc"], "ends with .png, .pdf or .svg"),
        (["recommend", "--history", "missing.csv"], "missing.csv: cannot be read"),
    ],
)
def test_mistakes_in_asking_are_named(ask, trained, arguments, message):
    command, *rest = [str(trained[1]) if word == "TOY" else word for word in arguments]
    status, _, complaint = ask(command, *rest)
    assert status == 2
    assert message in complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data", "stats", "ml100k"], "did you mean 'ml-100k'"),
        (["train", "--model", "SASRek"], "did you mean 'SASRec'"),
        (["train", "--model", "SASRec", "--set", "width=3"], "settings.KEY=VALUE"),
        (["train", "--model", "SASRec", "--set", "settings.widht=3"], "unknown key 'widht'"),
        (["train", "--model", "SASRec", "--set", "protocol.negative=3"], "negatives"),
        (["evaluate", "--run", "none"], "no such finished run"),
        (["recommend", "--run", "none", "--user", "1"], "none: there is no trained model"),
    ],
)
def test_mistakes_are_named(arguments, message, tmp_path, capsys):
    out = ["--out", str(tmp_path)] if arguments[0] != "data" else []
    assert main([*arguments, *out]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
