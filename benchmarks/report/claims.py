"""The claims of the paper, and a verdict on each that follows from records."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal

import yaml

from benchmarks.gains import LEVEL
from benchmarks.report.contents import Block, Table
from benchmarks.tables import readings_of
from synergen.evaluation.paired import bootstrap, compare_ranks, holm, randomisation_test
from synergen.files import write_text
from synergen.runs import Run, RunStore

Load = Callable[[str], Run | None]
Outcome = Literal["holds", "contradicted", "undecided", "missing"]


@dataclass(frozen=True)
class Claim:
    """A claim; see claims.yaml."""

    claim: str
    section: str
    table: int
    block: str | None = None
    ours: str = ""
    over: list[str] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    ablations: list[str] = field(default_factory=list)
    remark: str = ""
    """What a reader of the verdict must know of our rows."""


@dataclass(frozen=True)
class Finding:
    """What one data set says of a claim."""

    claim: Claim
    dataset: str
    outcomes: dict[str, Outcome]
    """By comparison, in words."""

    def those(self, outcome: Outcome) -> list[str]:
        return [words for words, found in self.outcomes.items() if found == outcome]

    @property
    def verdict(self) -> str:
        """In one or two words."""
        holds, against = self.those("holds"), self.those("contradicted")
        if not holds and not against:
            return "not tried" if len(self.those("missing")) == len(self.outcomes) else "undecided"
        if holds and against:
            return "mixed"
        if against:
            return "contradicted"
        return "holds" if len(holds) == len(self.outcomes) else "holds in part"


def claims() -> list[Claim]:
    """The paper's claims, in the order of its sections."""
    written = yaml.safe_load(Path(__file__).with_name("claims.yaml").read_text(encoding="utf-8"))
    return [Claim(**one) for one in written]


def findings(tables: tuple[Table, ...], store: RunStore) -> list[Finding]:
    """What each table that the claims are about says of them.

    A comparison holds where the paired randomisation test, adjusted by Holm over the comparisons of the claim, is below
    0.05 and the bootstrap interval of the difference lies above 0; it is contradicted where it lies below. Ablations
    are read as their table has them, by its own interval.
    """
    load = cache(store.load)
    return [
        Finding(claim, table.stem.split(".", 1)[1], _outcomes(claim, table, load))
        for claim in claims()
        for table in tables
        if table.spec.number == claim.table
    ]


def _outcomes(claim: Claim, table: Table, load: Load) -> dict[str, Outcome]:
    return dict(_of_ablations(claim, table)) if claim.ablations else _of_pairs(claim, table, load)


def _of_ablations(claim: Claim, table: Table) -> Iterator[tuple[str, Outcome]]:
    outcomes: dict[str | None, Outcome] = {"agrees": "holds", "disagrees": "contradicted", "undecided": "undecided"}
    for block in table.blocks:
        for row in block.rows:
            if row["method"] in claim.ablations:
                for column, one in row.get("differences", {}).items():
                    if one["sign"] is not None:
                        yield f"{column} in {block.name}", outcomes[one["sign"]]


def _of_pairs(claim: Claim, table: Table, load: Load) -> dict[str, Outcome]:
    block = next((block for block in table.blocks if block.name == claim.block), None)
    if block is None:
        return {}
    outcomes: dict[str, Outcome] = {}
    compared, words = [], []
    for other in claim.over:
        for column in claim.columns:
            said = f"{column} over {other}"
            outcomes[said] = "missing"
            ours, theirs = (_ranks(table, block, method, column, load) for method in (claim.ours, other))
            if ours and theirs and (found := compare_ranks(ours[0], theirs[0], ours[1])) is not None:
                words.append(said)
                compared.append(found)
    adjusted = holm(randomisation_test(compared)) if compared else []
    for said, p, difference in zip(words, adjusted, bootstrap(compared) if compared else [], strict=True):
        decided = p < LEVEL and not difference.low <= 0 <= difference.high
        outcomes[said] = "undecided" if not decided else "holds" if difference.mean > 0 else "contradicted"
    return outcomes


def _ranks(table: Table, block: Block, method: str, column: str, load: Load) -> tuple[Mapping[int, Any], str] | None:
    """Ranks by seed of a method, and the metric that the column is of them; None where nothing is on record."""
    row = next((row for row in block.rows if row["method"] == method and row["runs"]), None)
    if row is None:
        return None
    spec = table.spec.fitting(impressions=table.protocol.get("split") == "time")
    kind = next(one for one in spec.blocks if one.name == block.name)
    of_row = next(one for one in spec.rows if one.method == method)
    name, metric = readings_of(of_row, kind, table.protocol)[column]
    runs = [run for run_id in row["runs"] if (run := load(run_id)) is not None]
    return {run.record["seed"]: run.ranks[str(kind.task), name] for run in runs}, metric


_PREFACE = """
Made from the run records by `python benchmarks/run.py --report`; by hand are only the claims, in our words
(`benchmarks/report/claims.yaml`). A verdict is about the data set named, which need not be the paper's, at the sizes
and seeds of its table. A comparison holds where the paired randomisation test over users, adjusted by Holm
over the comparisons of a claim, is below 0.05 and the bootstrap interval over users and seeds lies above 0; it is
contradicted where that lies below. Ablations are held to the sign of the paper's difference, by a 95 % interval that
is not adjusted for their number. Rows of one seed speak of users and not of trainings. In Tables 2 and 3 SynerGen is
small and, like the rows that it is compared with, trained with the softmax over all items where the catalogue allows;
the paper's InfoNCE with hard negatives is that of Table 4 on the simulated shop.
"""


def write_reproducibility(found: list[Finding], path: Path) -> None:
    """Write the findings as a Markdown page.

    Raises:
        UserError: the folder cannot be written.
    """
    lines = ["# What of the paper is reproduced", "", *wrap(" ".join(_PREFACE.split()), 116)]
    for claim in dict.fromkeys(one.claim.claim for one in found):
        own = [one for one in found if one.claim.claim == claim]
        lines += ["", f"## {claim}", "", f"Section {own[0].claim.section}, Table {own[0].claim.table}.", ""]
        if remark := own[0].claim.remark:
            lines += [*wrap(remark, 116), ""]
        lines += [
            "| data set | verdict | holds | undecided | contradicted | no runs |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for one in own:
            cells = (_listed(one.those(outcome)) for outcome in ("holds", "undecided", "contradicted", "missing"))
            lines.append(f"| {one.dataset} | **{one.verdict}** | {' | '.join(cells)} |")
    write_text(path, "\n".join([*lines, ""]))


def _listed(words: list[str]) -> str:
    return ", ".join(words) or "–"
