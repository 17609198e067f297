"""Tables 2 and 5: what their rows were trained against, how large they are and what they cost, from records alone."""

import csv
import io
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest

from benchmarks.exports import to_csv, to_json
from benchmarks.facts import FACTS
from benchmarks.formats import latex, markdown
from benchmarks.grids import grid
from benchmarks.plan import plan
from benchmarks.tables import Run, Table, build, load_spec
from synergen.model.synergen import SynerGen

REGISTRY = {name: frozenset({"recommendation"}) for name in ("SynerGen", "SASRec", "BERT4Rec", "HSTU", "Popularity")}
SAMPLED = {"retrieval_loss": "infonce", "easy": "uniform", "easy_negatives": 28672, "alpha": 1.0}


def make_run(number: int, model: str, seed: int = 0, /, **changes: Any) -> Run:
    """A run of one user ranked first, of ten epochs in 200 s, 2,000 events each; `changes` replace its record."""
    record = {
        "id": f"{model.lower()}-{seed}",
        "model": model,
        "dataset": "beauty",
        "task": "recommendation",
        "seed": seed,
        "scale": "cpu",
        "protocol": dict(load_spec(number).protocol),
        "settings": {},
        "trainer": {},
        "data": {"hash": "0" * 64, "users": 2, "items": 9, "events": 99},
        "training": trained(10, 8),
        "seconds": 200.0,
        "parameters": {"dense": 123_456, "sparse": 1_000_000},
        "environment": {"accelerator": None},
    }
    return Run(record | changes, {("recommendation", "full"): np.array([1.0, 1.0])})


def trained(epochs: int, best: int, **processor: float) -> dict[str, Any]:
    curve = [{"epoch": epoch, "targets": 2000 * epoch} for epoch in range(1, epochs + 1)]
    return {"epochs": epochs, "best_epoch": best, "stopped": "early stopping", "curve": curve, **processor}


def lines(table: Table, method: str) -> list[list[str]]:
    """The cells of a method in Markdown, a list a block."""
    rows = [
        line.strip("|").split(" | ") for line in markdown(grid(table)).splitlines() if line.startswith(f"| {method} ")
    ]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.fixture
def table() -> Table:
    """Table 2 with three of its rows done."""
    unlearnt = {"training": {"stopped": "nothing to train"}, "parameters": {"dense": 0}, "seconds": 0.0}
    runs = {
        "SynerGen": [make_run(2, "SynerGen", settings=SAMPLED)],
        "SASRec": [make_run(2, "SASRec", seed) for seed in (0, 1)],
        "Popularity": [make_run(2, "Popularity", **unlearnt)],
    }
    return build(load_spec(2), runs, REGISTRY)


def test_budget_and_size_stand_before_the_numbers(table: Table) -> None:
    """1,123,456 parameters are 1.12 M; SASRec has the softmax where its record names no loss; the paper's budgets are
    those of published.yaml, pending or not; nothing was trained for popularity."""
    head = next(line for line in markdown(grid(table)).splitlines() if line.startswith("| Method"))
    assert head.startswith("| Method | Group | Trained against | Params | R@10 |")
    assert lines(table, "SynerGen")[0][:4] == ["SynerGen", "semantic", "28,672 a batch", "1.12 M"]
    assert lines(table, "SASRec")[0][2:4] == ["all items *(512 a position)*", "1.12 M"]
    assert lines(table, "HSTU-large")[0][2:4] == ["*(28,672 a batch)*", ""]
    assert lines(table, "BERT4Rec")[0][2:4] == ["", ""]
    assert lines(table, "Popularity")[0][2:4] == ["–", "–"]


def test_budgets_are_in_all_formats(table: Table) -> None:
    rows = {row["method"]: row for row in csv.DictReader(io.StringIO(to_csv(table)))}
    assert (rows["SASRec"]["trained_against"], rows["SASRec"]["paper_trained_against"]) == (
        "all items",
        "512 a position",
    )
    assert (float(rows["SASRec"]["params"]), rows["HSTU"]["params"]) == (1_123_456, "")
    by_method = {row["method"]: row for row in to_json(table)["rows"]}
    assert by_method["SynerGen"]["facts"] == {"Trained against": "28,672 a batch", "Params": 1_123_456}
    assert by_method["HSTU"]["facts"] == by_method["Popularity"]["facts"] == {}
    assert r"SASRec & all items \textit{(512 a position)} & 1.12 M & " in latex(grid(table), "x")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"retrieval_loss": "full_softmax"}, "all items"),
        (SAMPLED, "28,672 a batch"),
        (SAMPLED | {"alpha": 0.1}, "28,672 a batch, 16 a position"),
        ({"alpha": 0.1, "hard": "mined", "hard_negatives": 8}, "the batch's items, 8 a position (mined)"),
        ({"alpha": 0.1, "hard": "impressions"}, "the batch's items, impressions"),
        ({"alpha": 0.0}, "16 a position"),
    ],
)
def test_what_synergen_is_trained_against(settings: dict[str, Any], said: str) -> None:
    """α weighs the easy negatives, 1 - α the hard ones (paper, section 3.5), so those of weight 0 go unsaid."""
    assert SynerGen.trained_against(settings) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0"), (999, "999"), (999_499, "999 k"), (999_500, "1 M"), (1_123_456, "1.12 M"), (2.2e9, "2.2 B")],
)
def test_counts_are_shown_by_three_digits(number: float, said: str) -> None:
    assert FACTS["Params"].shown(number) == said


def test_costs_by_hand() -> None:
    """Seed 0 by the clock: 200 s, 20 s an epoch, 20,000 events in 200 s. Seed 1 by the processor: 20 epochs, the best
    one 18, in 160 s and so 8 an epoch, 40,000 events in 100 s without validation. Printed is the latter where a row has
    both, and the mean of two of a kind: of the second row, 15 and 18, and 160 s and 240 s."""
    timed = trained(20, 18, processor_seconds=160.0, training_processor_seconds=100.0)
    slower = trained(20, 15, processor_seconds=240.0, training_processor_seconds=200.0)
    runs = {
        "SASRec: softmax of dot products": [make_run(5, "SASRec", 0), make_run(5, "SASRec", 1, training=timed)],
        "BERT4Rec: softmax": [make_run(5, "BERT4Rec", 2, training=timed), make_run(5, "BERT4Rec", 3, training=slower)],
        "SASRec: gBCE": [make_run(5, "SASRec", 4)],
    }
    table = build(load_spec(5), runs, REGISTRY)
    assert lines(table, "SASRec: softmax of dot products")[0][-4:] == ["18.0", "160", "8.0", "400"]
    assert lines(table, "BERT4Rec: softmax")[0][-4:] == ["16.5", "200", "10.0", "300"]
    assert lines(table, "HSTU: no bias")[0][1:] == ["", "pending", "pending", "", "", "", ""]
    by_column = {
        row["metric"]: row
        for row in csv.DictReader(io.StringIO(to_csv(table)))
        if row["method"] == "SASRec: softmax of dot products"
    }
    assert list(by_column) == ["R@10", "N@10", "Best epoch", "Seconds", "Seconds/epoch", "Positions/s"]
    assert (float(by_column["Positions/s"]["mean"]), by_column["Positions/s"]["low"]) == (400.0, "")
    clock = [note for note in table.notes if "the clock's" in note]
    assert len(clock) == 1
    assert clock[0].startswith("Seconds are the processor's, except of SASRec: gBCE: ")
    assert "\\cmidrule" not in latex(grid(table), "x")
    assert "paper" not in grid(table).legend
    assert not any("not the paper's" in note for note in table.notes)


def test_costs_are_of_one_kind_of_machine() -> None:
    """Seed 0 on a processor, ten epochs in 200 s; seeds 1 and 3 on a GPU, in 20 s: the processor's are told. A row with
    runs on a GPU alone has theirs."""
    gpu = {"environment": {"accelerator": "a GPU"}, "seconds": 20.0}
    runs = {
        "SASRec: gBCE": [make_run(5, "SASRec", 0), make_run(5, "SASRec", 1, **gpu), make_run(5, "SASRec", 3, **gpu)],
        "BERT4Rec: gBCE": [make_run(5, "BERT4Rec", 0, **gpu)],
    }
    table = build(load_spec(5), runs, REGISTRY)
    assert lines(table, "SASRec: gBCE")[0][-4:] == ["8.0", "200", "20.0", "100"]
    assert lines(table, "BERT4Rec: gBCE")[0][-4:] == ["8.0", "20", "2.0", "1,000"]
    (said,) = [note for note in table.notes if note.startswith("Trained on a GPU: ")]
    assert "SASRec: gBCE, seeds 1, 3; BERT4Rec: gBCE, seed 0." in said


def test_an_accelerator_is_timed_by_the_clock() -> None:
    """Its time is not the processor's."""
    timed = trained(10, 8, processor_seconds=1.0, training_processor_seconds=1.0)
    run = make_run(5, "HSTU", training=timed, environment={"accelerator": "a GPU"})
    assert FACTS["Seconds"].read(run) == 200.0
    assert FACTS["Positions/s"].read(run) == 100.0


def test_a_search_is_told_whatever_the_age_of_the_run() -> None:
    """BERT4Rec's search on beauty confirmed the settings by hand, with which it had been trained before; the row that
    reads text has its values. Of HSTU one seed's record says that it was searched."""
    spec = load_spec(2)
    (plain,) = plan(spec, "beauty", "cpu", 1, ["BERT4Rec"])["BERT4Rec"]
    (text,) = plan(spec, "beauty", "cpu", 1, ["BERT4Rec (text)"])["BERT4Rec (text)"]
    runs = {
        method: [make_run(2, "BERT4Rec", **asdict(run), id=run.id)]
        for method, run in (("BERT4Rec", plain), ("BERT4Rec (text)", text))
    }
    searched = {"settings": {"width": 8}, "tuning": {"trials": 3, "scale": "short", "study": "s"}}
    runs["HSTU"] = [make_run(2, "HSTU", 0, settings={"width": 8}), make_run(2, "HSTU", 1, **searched)]
    runs["SASRec"] = [make_run(2, "SASRec", settings={"width": 8})]
    notes = build(spec, runs, REGISTRY).notes
    (line,) = [note for note in notes if note.startswith("Settings ")]
    assert line == (
        "Settings found by 3 trials of Optuna on validation at scale short for HSTU: HSTU; found by 8 trials of Optuna "
        "on validation at scale smoke, the best of these and those by hand once more at scale cpu, for BERT4Rec: "
        "BERT4Rec (text), BERT4Rec; set by hand: SASRec."
    )


def test_models_that_learn_from_some_targets_are_named() -> None:
    runs = {"HSTU": [make_run(2, "HSTU", settings={"requests_per_sequence": 3})], "SASRec": [make_run(2, "SASRec")]}
    notes = build(load_spec(2), runs, REGISTRY).notes
    (line,) = [note for note in notes if note.startswith("Random requests")]
    assert "of each training sequence in an epoch: HSTU 3; the other models learn from all" in line


def test_recipes_share_the_runs_of_table_2() -> None:
    """A recipe that a model of Table 2 follows is one run for both tables: the same id. Every other one is a run of its
    own."""
    rows, recipes = (plan(load_spec(number), "beauty", "cpu", 1, None) for number in (2, 5))
    assert len({runs[0].id for runs in recipes.values()}) == len(recipes) == len(load_spec(5).rows)
    shared = {
        "SASRec": "SASRec: softmax of dot products",
        "BERT4Rec": "BERT4Rec: softmax",
        "HSTU": "HSTU: softmax of cosines",
        "HSTU (no next time)": "HSTU: next time withheld",
    }
    for method, recipe in shared.items():
        assert rows[method][0].id == recipes[recipe][0].id
    others = {recipe: runs[0].id for recipe, runs in recipes.items() if recipe not in shared.values()}
    assert not set(others.values()) & {runs[0].id for runs in rows.values()}


def test_a_name_of_a_method_is_not_that_of_its_model() -> None:
    """SASRec is a row of Table 2, beside its variant with text; in Table 5 it is the model of seven rows."""
    assert list(plan(load_spec(2), "beauty", "cpu", 1, ["SASRec"])) == ["SASRec"]
    assert len(plan(load_spec(5), "beauty", "cpu", 1, ["SASRec"])) == 7
    (text,) = plan(load_spec(2), "beauty", "cpu", 1, ["SASRec (text)"])["SASRec (text)"]
    assert (text.model, text.settings["inputs"]) == ("SASRec", "text")
