"""Rows against the best other row: who is compared, what is marked, and what is said of it."""

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from benchmarks.exports import to_csv, to_json
from benchmarks.formats import latex, markdown
from benchmarks.gains import Reached, gains
from benchmarks.grids import grid
from benchmarks.tables import Run, Table, build, load_spec
from synergen.errors import UserError
from synergen.evaluation.paired import holm
from synergen.evaluation.slates import SlateRanks

WHOLE = load_spec(3)
TABLE3 = replace(WHOLE, blocks=WHOLE.blocks[:1], appendix=())
REGISTRY = {name: frozenset({"recommendation"}) for name in ("SynerGen", "SASRec", "BERT4Rec")}
USERS = 200


def reached(ranks: dict[int, list[float]]) -> Reached:
    """A cell of R@1 with ranks by seed."""
    values = {seed: np.array(one, dtype=float) for seed, one in ranks.items()}
    return Reached(float(np.mean([np.nanmean(one == 1) for one in values.values()])), "R@1", values)


def table_of(share_first: dict[str, float]) -> Table:
    """Table 3 of runs whose first users have rank 1, all others 50; one seed."""
    runs = {}
    for model, share in share_first.items():
        record = {
            "id": model, "model": model, "dataset": "ml-100k", "task": "joint", "seed": 0,
            "scale": "smoke", "trainer": {},
            "protocol": dict(TABLE3.protocol), "data": {"hash": "0" * 64, "users": USERS, "items": 9, "events": 99},
            "training": {"stopped": "early stopping"}, "settings": {}, "parameters": {}, "seconds": 1.0,
        }  # fmt: skip
        ranks = np.where(np.arange(USERS) < share * USERS, 1.0, 50.0)
        runs[model] = [Run(record, {("recommendation", "pool"): ranks})]
    return build(TABLE3, runs, REGISTRY)


def test_every_row_against_the_best_and_the_best_against_the_second() -> None:
    """By hand: 9, 6 and 1 of 12 users are first; the second differs from the best in 3 users, the third in 8. Signs of
    those users alone matter: p = 2 / 2³ and 2 / 2⁸ (McNemar's exact test, scipy.stats.binomtest)."""
    cells = {name: reached({0: [1.0] * first + [9.0] * (12 - first)}) for name, first in (("a", 6), ("b", 9), ("c", 1))}
    found = gains({"R@1": cells})
    a, b, c = (found[name]["R@1"] for name in "abc")
    assert (a.other, b.other, c.other) == ("b", "a", "b")
    assert [one.difference.mean for one in (a, b, c)] == pytest.approx([-3 / 12, 3 / 12, -8 / 12])
    assert a.p_value == b.p_value == pytest.approx(stats.binomtest(0, 3).pvalue)
    assert c.p_value == pytest.approx(stats.binomtest(0, 8).pvalue)
    assert [a.p_holm, c.p_holm] == pytest.approx(holm([a.p_value, c.p_value]))
    assert (b.difference.low, b.difference.high) == (-a.difference.high, -a.difference.low)
    assert [(one.wins, one.losses, one.users, one.seeds) for one in (a, b)] == [(0, 3, 12, 1), (3, 0, 12, 1)]
    assert b.effect == pytest.approx(-a.effect)
    assert (a.verdict, c.verdict) == ("undecided", "lost")


def test_only_seeds_and_users_that_both_rows_have_count() -> None:
    """On seed 1, and of its users whom both were asked, theirs is first once more: +1 of 3."""
    ours = reached({1: [1, 1, 1, np.nan], 2: [9, 9, 9, 9]})
    theirs = replace(reached({1: [1, 9, 1, 1], 0: [9, 9, 9, 9]}), mean=0.9)
    found = gains({"R@1": {"ours": ours, "theirs": theirs}})["ours"]["R@1"]
    assert found.difference.mean == pytest.approx(1 / 3)
    assert (found.users, found.seeds) == (3, 1)


def test_rows_without_a_common_seed_are_not_compared() -> None:
    """Nor is a row that is alone in its column."""
    assert gains({"R@1": {"a": reached({0: [1, 2]}), "b": reached({1: [1, 2]})}}) == {}
    assert gains({"R@1": {"a": reached({0: [1, 2]})}}) == {}


def test_rows_of_other_requests_are_refused() -> None:
    """Equal users do not make equal questions."""
    one, other = (SlateRanks(np.array(requests), np.array([0, 1]), np.ones(2)) for requests in ([3, 5], [3, 6]))
    with pytest.raises(UserError, match="different requests"):
        gains({"R@1": {"a": Reached(1, "R@1", {0: one}), "b": Reached(1, "R@1", {0: other})}})


def test_marks_of_a_clear_order() -> None:
    """Of 200 users 120, 60 and 20 are first: best and dagger, underlined, nothing; the LaTeX is ASCII."""
    shown = grid(table_of({"SASRec": 0.6, "SynerGen": 0.3, "BERT4Rec": 0.1}))
    cells = {line.method: line.cells[0][0] for line in shown.panels[0].lines}
    marks = {name: (cell.best, cell.second, cell.dagger) for name, cell in cells.items() if "±" in cell.ours}
    assert marks == {
        "SASRec": (True, False, True),
        "SynerGen": (False, True, False),
        "BERT4Rec": (False, False, False),
    }
    assert "| **60.00 ± 6.81**† *(20.59)* | " in markdown(shown)
    assert "| <u>30.00 ± 6.37</u> *(31.36)* | " in markdown(shown)
    text = latex(shown, "x")
    assert r"\textbf{60.00 $\pm$ 6.81}$^{\dagger}$ \textit{(20.59)}" in text
    assert r"\underline{30.00 $\pm$ 6.37} \textit{(31.36)}" in text
    assert text.isascii()


def test_a_lead_of_chance_has_no_dagger() -> None:
    """One user of 200 more is no evidence."""
    shown = grid(table_of({"SASRec": 0.3, "SynerGen": 0.295}))
    assert not any(cell.dagger for line in shown.panels[0].lines for cell in line.cells[0])


def test_the_notes_name_the_test_and_count_columns() -> None:
    """All five columns are of the same users here, so SASRec wins them all and SynerGen loses them."""
    notes = "\n".join(table_of({"SASRec": 0.6, "SynerGen": 0.3}).notes)
    assert "paired randomisation test: each user's difference" in notes
    assert "adjusted by Holm" in notes
    assert "in this sense: SynerGen 0, 5 of 5; SASRec 5, 0 of 5." in notes


def test_csv_and_json_have_the_comparison() -> None:
    """120 against 60 of 200 users: 0.3, won by 60; the csv names what is ranked."""
    table = table_of({"SASRec": 0.6, "SynerGen": 0.3})
    rows = {(row["method"], row["metric"]): row for row in csv.DictReader(io.StringIO(to_csv(table)))}
    row = rows["SASRec", "R@1"]
    assert (row["ranking"], row["best_other"], float(row["gain"])) == ("pool", "SynerGen", pytest.approx(0.3))
    assert (row["users_won"], row["users_lost"], row["users_compared"], row["seeds_compared"]) == (
        "60",
        "0",
        "200",
        "1",
    )
    assert rows["BERT4Rec", "R@1"]["best_other"] == ""
    (made,) = (row for row in to_json(table)["rows"] if row["method"] == "SASRec")
    assert made["gains"]["R@1"]["verdict"] == "won"
    assert made["gains"]["R@1"]["difference"]["low"] == float(row["gain_low"])
