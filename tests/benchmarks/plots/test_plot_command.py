"""benchmarks/plot.py on a small shop with records of two models that train nothing."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from toys import toy_shop

from benchmarks import plot, run
from benchmarks.campaign import Campaign
from benchmarks.inputs import load_for
from benchmarks.plots.registry import PLOTS
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.evaluation.metrics import metrics
from synergen.runs import Run


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return toy_shop(tmp_path_factory.mktemp("data") / "shop", users=400, items=150)


@pytest.fixture
def out(shop, tmp_path):
    """Results with records of Popularity and ItemKNN of Table 2, two seeds each, as run.py would name them."""
    folder = tmp_path / "results"
    asked = ["--table", "2", "--dataset", str(shop), "--models", "Popularity,ItemKNN", "--seeds", "2", "--out"]
    campaign = Campaign.on_record(run.parser().parse_args([*asked, str(folder)]))
    log = load_for(str(shop), campaign.spec.protocol).log
    data = {"hash": log.data_hash, "source_hash": source_hash(find_source(str(shop))), "users": log.n_users}
    data |= {"items": log.n_items, "events": log.n_events}
    about = {"scale": None, "training": {}, "parameters": {}, "seconds": 0.1, "environment": {"accelerator": None}}
    for spec in (spec for specs in campaign.wanted.values() for spec in specs):
        ranks = np.random.default_rng(spec.seed).integers(1, log.n_items, log.n_users).astype(float)
        kept = {"recommendation": {"full": metrics(ranks, ["N@10"])}}
        record = asdict(spec) | about | {"id": spec.id, "data": data, "metrics": kept}
        campaign.store.save(Run(record, {("recommendation", "full"): ranks}))
    return folder


def said(capsys, *arguments) -> list[str]:
    assert plot.main(list(map(str, arguments))) == 0
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_all_figures_of_a_table_in_one_go(shop, out, capsys):
    lines = said(capsys, "--table", 2, "--dataset", shop, "--out", out)
    assert "4 runs on record" in lines[0]  # both seeds, without --seeds
    by_name = {name: line for line in lines[1:-1] for name in [line.partition(":")[0]]}
    assert list(by_name) == list(PLOTS)
    left_out = {name: line for name, line in by_name.items() if ": not drawn: " in line}
    assert set(left_out) == {"learning-curves", "tradeoff", "ablations", "sensitivity", "calibration", "time-rope"}
    files = {path.name for path in (out / "plots").iterdir()}
    for suffix in ("png", "pdf", "csv"):
        assert f"table2.shop.recall.{suffix}" in files
        assert f"table2.shop.by-popularity.{suffix}" in files
    assert "table2.shop.slices.md" in files
    assert not any(name.startswith(".") for name in files)


def test_only_some(shop, out, capsys):
    lines = said(capsys, "--table", 2, "--dataset", shop, "--out", out, "--only", "recall")
    assert lines[1] == "recall: table2.shop.recall"
    assert len(lines) == 3


def test_nothing_on_record_is_no_crash(shop, tmp_path, capsys):
    lines = said(capsys, "--table", 3, "--dataset", shop, "--out", tmp_path)
    assert "0 runs on record" in lines[0]
    assert all(": not drawn: " in line for line in lines[1:-1])
    assert not (tmp_path / "plots").exists()


def test_records_without_their_data_still_have_curves_of_recall(out, capsys):
    """The data set is named, and its folder is elsewhere."""
    lines = said(capsys, "--table", 2, "--dataset", "shop", "--out", out, "--only", "recall,by-gap")
    assert lines[1] == "recall: table2.shop.recall"
    assert lines[2].startswith("by-gap: not drawn: ")
    assert "shop" in lines[2]


def test_an_unknown_figure_is_named(shop, out, capsys):
    assert plot.main(["--table", "2", "--dataset", str(shop), "--out", str(out), "--only", "recal"]) == 2
    assert "did you mean 'recall'" in capsys.readouterr().err


def test_records_of_other_data_are_refused(shop, out, capsys):
    for path in (out / "runs").glob("*.json"):
        record = json.loads(path.read_text())
        record["data"]["source_hash"] = "0" * 64
        path.write_text(json.dumps(record))
    assert plot.main(["--table", "2", "--dataset", str(shop), "--out", str(out)]) == 2
    assert "other contents" in capsys.readouterr().err


def test_a_table_of_texts_has_no_figures(tmp_path, capsys):
    assert plot.main(["--table", "1", "--out", str(tmp_path)]) == 2
    assert "no numbers to draw" in capsys.readouterr().err


def test_help_names_every_figure(capsys):
    with pytest.raises(SystemExit):
        plot.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in PLOTS)
