"""Verdicts on the paper's claims, of small tables and ranks made up by hand."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.plan import make_run
from benchmarks.report.claims import Claim, Finding, claims, findings, write_reproducibility
from benchmarks.report.contents import contents
from benchmarks.spec import load_spec
from synergen.runs import Run, RunStore

SPEC = load_spec(3)


def save(store: RunStore, model: str, ranks: np.ndarray) -> str:
    spec = make_run(model, "search", {}, SPEC.protocol, "ml-100k", "smoke", 0)
    about = {
        "scale": "smoke",
        "training": {},
        "environment": {},
        "data": {"hash": "0", "users": 100},
        "metrics": {},
        "seconds": 1.0,
    }
    store.save(Run(asdict(spec) | about | {"id": spec.id}, {("search", "pool"): ranks}))
    return spec.id


def row(method: str, runs: list[str], **more: object) -> dict[str, object]:
    empty: dict[str, object] = {
        "block": "search",
        "status": "done",
        "seeds": 1,
        "metrics": {},
        "gains": {},
        "paper": {},
    }
    return {"method": method, "runs": runs} | empty | more


def table(folder, rows, number=3, dataset="ml-100k"):
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    content = {"table": number, "dataset": dataset, "protocol": load_spec(number).protocol, "rows": rows, "notes": []}
    (folder / "tables" / f"table{number}.{dataset}.json").write_text(json.dumps(content))


def test_pairs_are_decided_by_test_and_interval(tmp_path):
    """100 users: SynerGen first for all, TEM second for all (N@10 .63), CoPPS as SynerGen. R@1 and N@10 over TEM hold
    for every user alike, those over CoPPS differ for none."""
    store = RunStore(tmp_path)
    first, second = np.ones(100), np.full(100, 2.0)
    made = {"SynerGen": first, "TEM": second, "CoPPS": first}
    table(tmp_path, [row(name, [save(store, name, ranks)]) for name, ranks in made.items()])
    found = {one.claim.claim: one for one in findings(contents(tmp_path).tables, store)}
    one = found["SynerGen searches better than specialised search models"]
    assert one.those("holds") == ["R@1 over TEM", "N@10 over TEM"]
    assert one.those("undecided") == ["R@1 over CoPPS", "N@10 over CoPPS"]
    assert one.verdict == "holds in part"
    assert found["SynerGen searches better than the unified models"].verdict == "not tried"

    table(tmp_path, [row("SynerGen", [save(store, "SynerGen", second)]), row("TEM", [save(store, "TEM", first)])])
    found = {one.claim.claim: one for one in findings(contents(tmp_path).tables, store)}
    assert found["SynerGen searches better than specialised search models"].verdict == "contradicted"


def test_ablations_have_the_sign_of_their_table(tmp_path):
    differences = {"MRR": {"sign": "agrees"}, "R@1": {"sign": "undecided"}, "R@300": {"sign": None}}
    table(tmp_path, [row("w/o time-based RoPE", [], differences=differences)], 4, "sessions")
    found = findings(contents(tmp_path).tables, RunStore(tmp_path))
    (one,) = (one for one in found if one.claim.ablations == ["w/o time-based RoPE"])
    assert one.outcomes == {"MRR in search": "holds", "R@1 in search": "undecided"}
    write_reproducibility([one], tmp_path / "page.md")
    line = "| sessions | **holds in part** | MRR in search | R@1 in search | – | – |"
    assert line in (tmp_path / "page.md").read_text().splitlines()


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "missing"], "holds in part"),
        (["holds", "contradicted"], "mixed"),
        (["contradicted", "undecided"], "contradicted"),
        (["undecided", "missing"], "undecided"),
        (["missing", "missing"], "not tried"),
    ],
)
def test_verdicts(outcomes, verdict):
    claim = Claim("c", "4", 3)
    assert Finding(claim, "d", dict(zip("ab", outcomes, strict=True))).verdict == verdict


def test_every_claim_names_rows_and_columns_of_its_table():
    for claim in claims():
        spec = load_spec(claim.table)
        methods = {row.method for row in spec.rows}
        assert {*claim.over, *claim.ablations, *([claim.ours] if claim.ours else [])} <= methods
        blocks = [block for block in spec.blocks if block.name == claim.block]
        assert claim.ablations or set(claim.columns) <= set(blocks[0].columns)
