"""Tables from hand-made runs: what is computed, what is said beside it, and what is refused."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baselines.registry import settings_type
from benchmarks.exports import to_csv, to_json, write
from benchmarks.formats import latex, markdown
from benchmarks.grids import grid
from benchmarks.tables import Run, Spec, Table, build, load_spec
from benchmarks.views import QUESTIONS_OF_PAIRS
from synergen.errors import UserError
from synergen.evaluation.slates import SlateRanks
from synergen.runs import RunStore

REGISTRY = {
    "SynerGen": frozenset({"recommendation", "search"}),
    "SASRec": frozenset({"recommendation"}),
    "BERT4Rec": frozenset({"recommendation"}),
    "Popularity": frozenset({"recommendation", "search"}),
    "BM25": frozenset({"search"}),
}
WHOLE = load_spec(3)
TABLE3 = replace(WHOLE, blocks=WHOLE.blocks[:2], appendix=())
"""Without the blocks that rank all items, and without costs."""


def make_run(model: str, seed: int, ranks: dict[str, list[float]], **changes: Any) -> Run:
    """A run of Table 3 with ranks by task; `changes` replace parts of its record."""
    record = {
        "id": f"{model.lower()}-{seed}",
        "model": model,
        "dataset": "ml_100k",
        "task": "joint",
        "seed": seed,
        "scale": "smoke",
        "protocol": dict(TABLE3.protocol),
        "data": {
            "hash": "0123456789abcdef",
            "users": 4,
            "items": 1682,
            "events": 100_000,
            "audit": {"targets in own history": 0.25, "R@10 of most popular": 0.1 * (seed + 1)},
        },
        "training": {"epochs": 7, "best_epoch": 5, "stopped": "early stopping"},
        "settings": asdict(settings_type(model)()),
        "trainer": {},
        "parameters": {"dense": 100, "sparse": 900},
        "seconds": 14.0,
        "environment": {"accelerator": None},
    }
    by_key = {(task, "pool"): np.array(values) for task, values in ranks.items()}
    return Run(record | changes, by_key)


SYNERGEN = [
    make_run("SynerGen", 1, {"recommendation": [1, 4, 3, 12], "search": [1, 1, np.nan, 2]}),
    make_run("SynerGen", 0, {"recommendation": [2, 1, 9, 12], "search": [1, 3, np.nan, 1]}),
]
RECOMMENDING = {("SynerGen", "recommendation"), ("SASRec", "recommendation")}
"""Rows that have another one to be compared with."""
SASREC = [make_run("SASRec", 0, {"recommendation": [1, 2.5, 30, 12]})]


@pytest.fixture
def table() -> Table:
    """Table 3 with SynerGen on two seeds and SASRec on one."""
    return build(TABLE3, {"SynerGen": SYNERGEN, "SASRec": SASREC}, REGISTRY)


def row_of(table: Table, method: str, block: str | None) -> dict[str, Any]:
    """One row of the JSON."""
    found = [row for row in to_json(table)["rows"] if (row["method"], row["block"]) == (method, block)]
    assert len(found) == 1
    return found[0]


def notes_of(table: Table) -> str:
    return "\n".join(table.notes)


def test_numbers_by_hand(table: Table) -> None:
    """R@1 of the seeds: ¼ and ¼. R@5: ¾ and ½, so the mean is ⅝; users' means 1, 1, ½, 0 (sd √(11/48)), seeds' se ⅛."""
    row = row_of(table, "SynerGen", "recommendation")
    assert (row["status"], row["seeds"]) == ("done", 2)
    assert row["runs"] == ["synergen-0", "synergen-1"]
    assert row["metrics"]["R@1"]["mean"] == 0.25
    half = np.hypot(1.96 * np.sqrt(11 / 48 / 4), 12.706204736432095 / 8)
    assert row["metrics"]["R@5"] == pytest.approx({"mean": 0.625, "low": 0.625 - half, "high": 0.625 + half})
    assert row["paper"] == {"R@1": 31.36, "R@5": 59.36, "R@10": 70.72, "N@5": 46.13, "N@10": 49.83}


def test_users_without_a_search_are_left_out(table: Table) -> None:
    """Three users of four were asked: R@1 is ⅔ on either seed."""
    assert row_of(table, "SynerGen", "search")["metrics"]["R@1"]["mean"] == pytest.approx(2 / 3)


def test_json_has_exactly_the_documented_shape(table: Table) -> None:
    """The schema that readers of the JSON rely on."""
    value = json.loads(json.dumps(to_json(table), allow_nan=False))
    assert value.keys() == {"table", "dataset", "protocol", "rows", "notes"}
    assert (value["table"], value["dataset"], value["protocol"]) == (3, "ml_100k", dict(TABLE3.protocol))
    assert [(row["method"], row["block"]) for row in value["rows"]] == [
        (row.method, block.name) for row in TABLE3.rows for block in TABLE3.blocks
    ]
    for row in value["rows"]:
        assert row.keys() == {"method", "block", "status", "seeds", "metrics", "gains", "paper", "runs"}
        columns = {"R@1", "R@5", "R@10", "N@5", "N@10"}
        assert row["metrics"].keys() == (columns if row["status"] == "done" else set())
        assert row["paper"].keys() in (columns, set())
        assert (row["seeds"] > 0) == (row["status"] == "done") == (len(row["runs"]) > 0)
        for ours in row["metrics"].values():
            assert ours.keys() == {"mean", "low", "high"}
        compared = columns if (row["method"], row["block"]) in RECOMMENDING else set()
        assert row["gains"].keys() == compared
        for gain in row["gains"].values():
            assert gain.keys() == {
                *("other", "difference", "p_value", "p_holm", "effect", "wins", "losses", "users", "seeds", "verdict")
            }


def test_status(table: Table) -> None:
    """done: has ranks; pending: registered or not, no ranks; not applicable: another task."""
    status = {(row["method"], row["block"]): row["status"] for row in to_json(table)["rows"]}
    assert status["SASRec", "recommendation"] == "done"
    assert status["SASRec", "search"] == "not applicable"
    assert status["BERT4Rec", "recommendation"] == "pending"
    assert status["UniSAR", "search"] == "pending"
    assert status["TEM", "recommendation"] == "not applicable"
    assert status["BM25", "recommendation"] == "not applicable"
    assert {status["Popularity", block] for block in ("recommendation", "search")} == {"pending"}


def test_a_joint_row_is_not_applicable_where_its_model_does_not_serve_the_task() -> None:
    """The registry knows better than the specification."""
    table = build(TABLE3, {}, REGISTRY | {"USER": frozenset({"search"})})
    assert row_of(table, "USER", "recommendation")["status"] == "not applicable"
    assert row_of(table, "USER", "search")["status"] == "pending"


def test_notes_say_how_the_numbers_were_made(table: Table) -> None:
    """Protocol, data, warning, audit (means over seeds: 0.25, and (0.1 + 0.2)/2), pending rows, the paper's faults."""
    notes = notes_of(table)
    for part in (
        "leave-one-out split (k-core filter of 5)",
        "the positive and 99 items drawn uniformly",
        "early stopping on validation N@10",
        "rank = 1 + #better + ½·#ties",
        "seeds: 1 to 2;",
        "over users only where a row has one seed",
        "4 users, 1,682 items, 100,000 events, sha256 0123456789ab",
        "Data set is ml_100k, not the paper's ebook-search: levels are not comparable",
        "targets in own history: 0.25",
        "R@10 of most popular: 0.15",
        "Pending, model not in the registry: UnifiedSSR, UniSAR, USER, SESRec, TEM, CoPPS, Dense, RRF.",
        "Pending, no finished run: BERT4Rec, Popularity, BM25.",
        "CoPPS (search) row cannot be of one run: its R@1 and R@5 allow N@5 to be 53.25 at most, 62.81 is printed",
    ):
        assert part in notes
    assert "perhaps too short" not in notes


def test_the_orders_of_both_protocols_stand_side_by_side() -> None:
    """Recommendation N@10 of constant ranks: pool SynerGen 1, SASRec 2, Popularity 3, so in that order; all items
    SASRec 1, SynerGen 2, Popularity 3: two of three pairs agree, tau = (2 - 1) / 3."""
    pool, full = {"SynerGen": 1, "SASRec": 2, "Popularity": 3}, {"SynerGen": 2, "SASRec": 1, "Popularity": 3}
    runs = {}
    for model in pool:
        run = make_run(model, 0, {"recommendation": [pool[model]] * 4})
        run.ranks["recommendation", "full"] = np.full(4, float(full[model]))
        runs[model] = [run]
    table = build(WHOLE, runs, REGISTRY)
    assert (
        "Order by N@10 in recommendation, pool of 100: SynerGen > SASRec > Popularity; all items: "
        "SASRec > SynerGen > Popularity (Kendall's tau-b 0.33)."
    ) in table.notes
    assert not any("Order by N@10 in search" in note for note in table.notes)
    assert not any("drawn at random" in note for note in table.notes if "Among all items" in note)


def test_ranks_of_a_sample_are_said_to_be_such() -> None:
    """3,000 users, of whom 2,000 were asked; only a model that compares pairs was asked for a sample. SASRec has rank 2
    for these and 1 for all others, so that its mean is above that of UniSAR's sample (rank 1 or 3 for every other one:
    N@10 ¾), and its mean over the sample (.63) is not."""
    numbers = np.arange(3000)
    full = {
        "UniSAR": np.where(numbers < QUESTIONS_OF_PAIRS, 1.0 + 2 * (numbers % 2), np.nan),
        "SASRec": np.where(numbers < QUESTIONS_OF_PAIRS, 2.0, 1.0),
    }
    runs = {model: [make_run(model, 0, {"recommendation": [1.0] * 3000})] for model in full}
    for model, ranks in full.items():
        runs[model][0].ranks["recommendation", "full"] = ranks
    table = build(WHOLE, runs, REGISTRY | {"UniSAR": frozenset({"recommendation", "search"})})
    assert "Among all items, UniSAR rank for 2,000 test questions drawn at random" in notes_of(table)
    reached = {model: row_of(table, model, "recommendation, all items")["metrics"]["N@10"]["mean"] for model in full}
    assert reached["SASRec"] > reached["UniSAR"] == pytest.approx(0.75)
    assert "all items: UniSAR > SASRec" in notes_of(table)


def test_who_reads_the_frozen_encoder_is_said(table: Table) -> None:
    """SynerGen does as its settings are by default, SASRec does not."""
    assert "Text vectors of the frozen encoder are read by SynerGen." in table.notes


def test_costs_stand_behind_the_numbers() -> None:
    """7 epochs in 14 seconds; 0.375 s for the 3 of 4 users who were asked are 125 ms each; older records do not say."""
    ranks = {"recommendation": [1.0, 1.0, np.nan, 1.0]}
    new = make_run("SynerGen", 0, ranks, test_seconds={"recommendation": {"pool": 0.375}})
    table = build(WHOLE, {"SynerGen": [new], "SASRec": SASREC}, REGISTRY)
    cost = grid(table).panels[-1]
    assert (cost.name, cost.columns[0].titles) == ("Cost", WHOLE.appendix)
    cells = {line.method: [cell.ours for cell in line.cells[0]] for line in cost.lines}
    assert cells["SynerGen"] == ["the batch's items, 16 a position", "1 k", "14", "2.0", "125.00", "–"]
    assert cells["SASRec"] == ["all items", "1 k", "14", "2.0", "–", "–"]
    assert cells["BERT4Rec"] == [""] * 6
    line = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert (line["params"], line["ms/request"]) == ("1000.0", "125.0")


def test_windows_further_apart_than_others_are_said_to_be() -> None:
    """Half of 50 events is what a training without a stride has."""
    far = make_run("SASRec", 0, {"recommendation": [1.0, 2.0, 1.0, 1.0]}, trainer={"window_stride": 50})
    near = make_run("SynerGen", 0, {"recommendation": [1.0, 2.0, 1.0, 1.0]}, trainer={"window_stride": 0})
    table = build(TABLE3, {"SynerGen": [near], "SASRec": [far]}, REGISTRY)
    assert "window begins, where histories are longer than one: every 25 SynerGen; every 50 SASRec." in notes_of(table)
    assert "window begins" not in notes_of(build(TABLE3, {"SASRec": [far]}, REGISTRY))


def test_seconds_of_the_processor_and_of_the_clock_are_kept_apart() -> None:
    """SynerGen's second seed says the processor's seconds, 10, and its first only the clock's, 14; SASRec's runs know
    the clock alone."""
    old, new = (make_run("SynerGen", seed, {"recommendation": [1.0, 2.0, 1.0, 1.0]}) for seed in (0, 1))
    new.record["training"] |= {"processor_seconds": 10.0, "training_processor_seconds": 8.0}
    table = build(WHOLE, {"SynerGen": [old, new], "SASRec": SASREC}, REGISTRY)
    cells = {line.method: [cell.ours for cell in line.cells[0]] for line in grid(table).panels[-1].lines}
    at = WHOLE.appendix.index("Seconds")
    assert (cells["SynerGen"][at], cells["SASRec"][at]) == ("10", "14")
    assert "Seconds are the processor's, except of SASRec: these are the clock's" in notes_of(table)


def test_full_ranking_and_a_single_seed_are_described_as_such() -> None:
    """Table 2 removes seen items; one seed speaks of users only."""
    spec = load_spec(2)
    run = make_run("SASRec", 0, {}, protocol=dict(spec.protocol))
    run = Run(run.record, {("recommendation", "full"): np.array([1.0, 20.0, 300.0])})
    table = build(spec, {"SASRec": [run]}, REGISTRY)
    assert row_of(table, "SASRec", None)["metrics"]["R@50"]["mean"] == pytest.approx(2 / 3)
    assert "all items are candidates, those seen by the user before removed" in notes_of(table)
    assert "seeds: 1; ± is the half-width of a 95 % interval over users (1.96 standard errors) and not over seeds" in (
        notes_of(table)
    )


def test_several_questions_of_a_user_share_a_cluster_from_disk_to_table(tmp_path: Path) -> None:
    """R@1 is 1 and 1 of one user's questions, 0 and 0 of the other's: SE² = 2 / 1 · (1 + 1) / 4² = ¼. N@5 of the ranks
    1 1 3 7 is (1 + 1 + ½ + 0) / 4."""
    ranks = SlateRanks(np.array([3, 4, 8, 9]), np.array([0, 0, 1, 1]), np.array([1.0, 1.0, 3.0, 7.0]))
    made = make_run("SASRec", 0, {}, protocol=dict(TABLE3.protocol) | {"split": "last-2"})
    RunStore(tmp_path).save(Run(made.record, {("recommendation", "pool"): ranks}))
    loaded = RunStore(tmp_path).load("sasrec-0")
    assert loaded is not None
    table = build(TABLE3, {"SASRec": [loaded]}, REGISTRY)
    metrics = row_of(table, "SASRec", "recommendation")["metrics"]
    assert metrics["R@1"] == pytest.approx({"mean": 0.5, "low": 0.5 - 1.96 / 2, "high": 0.5 + 1.96 / 2})
    assert metrics["N@5"]["mean"] == pytest.approx(0.625)
    assert "last-2 split (k-core filter of 5); the last 2 events of each user test, the 2 before them validate; " in (
        notes_of(table)
    )
    assert "the requests of a user taken together" in notes_of(table)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ("point-10+7d", "the last 10 % of all events by time are the test period"),
        ("point-10+7d", "asked about unless it falls into the first 7 days"),
        ("per-task", "the last feed event and the last search of each user test"),
    ],
)
def test_what_a_split_holds_out_is_said_where_its_name_does_not(split: str, said: str) -> None:
    run = make_run("SASRec", 0, {"recommendation": [1, 2]}, protocol=dict(TABLE3.protocol) | {"split": split})
    assert said in notes_of(build(TABLE3, {"SASRec": [run]}, REGISTRY))


def test_no_warning_on_the_papers_own_data() -> None:
    """The levels are comparable there."""
    runs = [make_run("SASRec", 0, {"recommendation": [1, 2, 3]}, dataset="ebook-search")]
    table = build(TABLE3, {"SASRec": runs}, REGISTRY)
    assert "not comparable" not in notes_of(table)
    assert "(run on" not in markdown(grid(table))


def test_training_that_was_cut_short_is_named() -> None:
    """A run that an epoch limit ended may be undertrained; one that does not train is not."""
    ranks = {"recommendation": [1.0, 2.0]}
    runs = {
        "SASRec": [make_run("SASRec", 0, ranks, training={"epochs": 3, "stopped": "epoch limit"})],
        "Popularity": [make_run("Popularity", 0, ranks, training={"stopped": "nothing to train"})],
    }
    assert "perhaps too short: SASRec (epoch limit)." in notes_of(build(TABLE3, runs, REGISTRY))


def test_without_runs_the_table_is_whole_and_pending() -> None:
    """The data set asked for is named, or the paper's."""
    assert to_json(build(TABLE3, {}, REGISTRY))["dataset"] == "ebook-search"
    table = build(TABLE3, {}, REGISTRY, dataset="beauty")
    assert to_json(table)["dataset"] == "beauty"
    assert {row.status for row in table.rows} == {"pending", "not applicable"}


@pytest.mark.parametrize(
    ("method", "runs", "message"),
    [
        ("SASRex", SASREC, "unknown method 'SASRex' in table 3: did you mean 'SASRec'"),
        ("BERT4Rec", SASREC, "is of model SASRec, but row 'BERT4Rec' is of BERT4Rec"),
        ("SASRec", SASREC * 2, r"several runs of one seed: \[0, 0\]"),
    ],
)
def test_runs_that_are_no_row_are_refused(method: str, runs: list[Run], message: str) -> None:
    """A known method, its model, and one run a seed."""
    with pytest.raises(UserError, match=message):
        build(TABLE3, {"SynerGen": SYNERGEN, method: runs}, REGISTRY)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "beauty"}, "its data set is beauty, the table's ml_100k"),
        ({"scale": "cpu"}, "its scale is cpu, the table's smoke"),
        ({"data": {"hash": "f"}}, "its data hash is f, the table's 0123456789ab"),
        ({"protocol": {**TABLE3.protocol, "negatives": 9}}, "its protocol negatives is 9, the table's 99"),
    ],
)
def test_a_run_of_something_else_is_left_out_and_named(changes: dict[str, Any], reason: str) -> None:
    """One table, one data set, one protocol, one scale: those of most runs, wherever the other one stands."""
    other = make_run("SASRec", 1, {"recommendation": [50] * 4}, **changes)
    for runs in ([other, *SASREC], [*SASREC, other]):
        table = build(TABLE3, {"SASRec": runs, "SynerGen": SYNERGEN}, REGISTRY)
        assert f"Excluded: run sasrec-1 (SASRec, seed 1): {reason}." in table.notes
        assert row_of(table, "SASRec", "recommendation")["runs"] == ["sasrec-0"]


def test_runs_of_another_data_set_than_asked_for_are_left_out() -> None:
    """The name on the table is the name of its data."""
    table = build(TABLE3, {"SASRec": SASREC}, REGISTRY, dataset="beauty")
    assert "Excluded: run sasrec-0 (SASRec, seed 0): its data set is ml_100k, the table's beauty." in table.notes
    assert row_of(table, "SASRec", "recommendation")["status"] == "pending"


def test_markdown_shows_ours_the_papers_and_the_best(table: Table) -> None:
    """SASRec's ranks 1, 2½, 30, 12 give R@1 ¼, as SynerGen has (both bold), and R@5 ½ < ⅝, so second of two; its one
    seed: users only."""
    text = markdown(grid(table))
    lines = [line for line in text.splitlines() if line.startswith("| SASRec |")]
    assert len(lines) == 2
    cells = lines[0].strip("| ").split(" | ")
    assert cells[2] == "**25.00 ± 49.00** *(20.59)*"  # 1.96 · sd ½ / √4 = 0.49
    assert cells[3] == "<u>50.00 ± 56.58</u> *(52.95)*"  # 1.96 · sd √⅓ / √4 = 0.5658
    assert set(lines[1].strip("| ").split(" | ")[2:]) == {"–"}
    assert "| BERT4Rec |  | pending *(24.81)* |" in text
    assert "## Recommendation" in text
    assert "## Search" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {8}  # Method, Group, five metrics


def test_csv_has_a_line_for_each_method_block_and_metric(table: Table) -> None:
    """Values are read back exactly; empty where there is none."""
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == len(TABLE3.rows) * 2 * 5
    by_key = {(row["method"], row["block"], row["metric"]): row for row in rows}
    row = by_key["SynerGen", "recommendation", "R@5"]
    assert (float(row["mean"]), row["paper"], row["seeds"]) == (0.625, "59.36", "2")
    assert row["runs"] == "synergen-0 synergen-1"
    row = by_key["Popularity", "search", "N@10"]
    assert (row["group"], row["status"], row["mean"], row["paper"]) == ("ours", "pending", "", "")


def balanced(text: str) -> None:
    """LaTeX without a compiler: environments and braces close, every row of the tabular has all columns."""
    open_environments = []
    for line in text.splitlines():
        if line.startswith("%"):
            continue
        for part in line.split("\\begin{")[1:]:
            open_environments.append(part.split("}")[0])
        for part in line.split("\\end{")[1:]:
            assert open_environments.pop() == part.split("}")[0]
    assert open_environments == []
    bare = text.replace("\\{", "").replace("\\}", "")
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_latex_is_well_formed(number: int, table: Table) -> None:
    """Structure only: balanced environments and braces, specials escaped, ASCII, as many cells as columns."""
    shown = grid(table if number == 3 else build(load_spec(number), {}, REGISTRY, dataset="a_b & 100% #1"))
    text = latex(shown, "table.a_b & 100%")
    balanced(text)
    assert text.isascii()
    wide = sum(len(block.titles) for block in shown.panels[0].columns) > 6
    titles = [block.titles for block in shown.panels[0].columns]
    stacks = titles if wide else [tuple(chain.from_iterable(titles))]
    for at, (body, stack) in enumerate(zip(text.split("\\toprule")[1:], stacks, strict=False)):
        body = body.split("\\bottomrule")[0]
        rows = [line for line in body.splitlines() if line.endswith("\\\\") and "multicolumn" not in line]
        cells = [line.cells[at] if wide else chain(*line.cells) for line in shown.panels[0].lines]
        applying = sum(any(cell.ours != "–" for cell in one) for one in cells)
        assert len(rows) == 1 + applying
        columns = 1 + len(shown.panels[0].states) + len(stack)
        assert {line.replace("\\&", "").count("&") + 1 for line in rows} == {columns}
    content = text.split("\\caption")[1].replace("{!}{%\n", "").replace("\\label", "").replace("\n% ", "\n")
    for special in "%_#":
        assert content.count(special) == content.count(f"\\{special}")


def test_latex_escapes_every_special() -> None:
    """Each special character and what LaTeX prints it with, from its manual."""
    spec = replace(TABLE3, remarks=("\\ { } % & _ # $ ~ ^ < > |",))
    expected = (
        r"\textbackslash{} \{ \} \% \& \_ \# \$ \textasciitilde{} \textasciicircum{} \textless{} \textgreater{} "
        r"\textbar{}"
    )
    assert expected in latex(grid(build(spec, {}, REGISTRY)), "x")


def test_the_four_files_are_written_and_agree(table: Table, tmp_path: Path) -> None:
    """JSON is that of to_json; nothing else is left in the folder."""
    paths = write(table, tmp_path / "new", "table3.ml_100k")
    assert [path.name for path in paths] == [f"table3.ml_100k.{kind}" for kind in ("md", "csv", "tex", "json")]
    assert sorted((tmp_path / "new").iterdir()) == sorted(paths)
    assert json.loads(paths[3].read_text()) == to_json(table)
    assert paths[1].read_text() == to_csv(table)


def test_a_table_of_texts_says_what_the_registry_holds() -> None:
    """Of the paper's ten systems, the registry of this test holds one."""
    table = build(load_spec(1), {}, REGISTRY)
    value = to_json(table)
    assert {row["method"] for row in value["rows"] if row["status"] == "done"} == {"SynerGen"}
    lines = markdown(grid(table)).splitlines()
    assert "| SynerGen | decoder-only | yes | yes | yes |" in lines
    assert "| GenR-PO | decoder-only | yes (e-commerce search) | no | no |" in lines


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_no_row_of_the_paper_is_hidden(number: int) -> None:
    """Each cell that the paper prints is in each of the formats."""
    spec: Spec = load_spec(number)
    table = build(spec, {}, REGISTRY)
    shown: list[Callable[[], str]] = [
        lambda: markdown(grid(table)),
        lambda: latex(grid(table), "x"),
        lambda: to_csv(table),
    ]
    texts = [show() for show in shown]
    printed = [value for row in table.rows for value in row.paper.values()]
    assert len(printed) == {1: 30, 2: 42 + 3, 3: 65, 4: 27}[number]
    for value in printed:
        text = value if isinstance(value, str) else f"{value:.2f}".rstrip("0")
        assert all(text in one for one in texts)
