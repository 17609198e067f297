"""What models cost, on a made-up shop. How long anything takes is not looked at; what is counted is."""

import json
from pathlib import Path

import pytest
import torch
from toys import toy_tables

from benchmarks import cost, perf
from benchmarks.measure import Setting


@pytest.fixture(autouse=True)
def _few_models(monkeypatch) -> None:
    """One model that learns on two tasks' events, and one that does not."""
    monkeypatch.setattr(cost, "MODELS", {name: cost.MODELS[name] for name in ("SASRec", "BM25")})


@pytest.fixture
def shop(tmp_path) -> Path:
    """400 users and 150 items, of which all have five events or more."""
    folder = tmp_path / "shop"
    folder.mkdir()
    interactions, items = toy_tables(users=400, items=150)
    interactions.to_parquet(folder / "interactions.parquet")
    items.to_parquet(folder / "items.parquet")
    return folder


def test_rows_of_table_3_are_measured_one_after_the_other(shop) -> None:
    setting = Setting(threads=1, dtype=torch.float32, repeats=1)
    sasrec, bm25 = cost.costs(str(shop), "shop", setting)
    assert (sasrec.model, bm25.model) == ("SASRec", "BM25")
    assert sasrec.parameters > bm25.parameters == 0
    assert sasrec.seconds_an_epoch is not None
    assert sasrec.seconds_an_epoch > 0
    assert bm25.seconds_an_epoch is None  # nothing is trained
    assert min(sasrec.milliseconds_a_request, bm25.milliseconds_a_request) > 0


def test_the_command_prints_and_keeps_them(shop, tmp_path, capsys) -> None:
    kept = tmp_path / "cost.json"
    assert perf.main(["--cost", str(shop), "--repeats", "1", "--json", str(kept)]) == 0
    printed = capsys.readouterr().out
    assert "cost on shop" in printed
    assert [one["model"] for one in json.loads(kept.read_text())] == ["SASRec", "BM25"]
    assert all(one["model"] in printed for one in json.loads(kept.read_text()))


def test_an_unknown_data_set_is_named(capsys) -> None:
    assert perf.main(["--cost", "ml-100q"]) == 2
    assert "unknown data set 'ml-100q'" in capsys.readouterr().err
