"""Baselines beside RecBole's own trainings. Expected values: written into the folders here."""

import json
from pathlib import Path

import polars as pl
import pytest

from benchmarks import floors
from benchmarks.shipped import Point
from synergen.errors import UserError

STOPPED = [0.2, *[0.1] * 11]
"""Validation by RecBole of a training that has ended."""


def write_curve(folder: Path, model: str, recbole: list[float] = STOPPED, data: str = "d1") -> None:
    points = [
        {"epoch": n, "seconds": 60.0 * n, "recbole_ndcg": value, "ndcg": value, "test": {"R@10": 0.08, "N@10": 0.04}}
        for n, value in enumerate(recbole, start=1)
    ]
    points[2] |= {"ndcg": 0.3, "test": {"R@10": 0.1, "N@10": 0.05}}  # the best by our validation
    assert Point(**points[2]).epoch == 3
    curve = {"model": model, "dataset": "shop", "data_hash": data, "users": 1000, "items": 10, "points": points}
    (folder / "recbole").mkdir(exist_ok=True)
    (folder / "recbole" / f"shop.{model}.json").write_text(json.dumps(curve))


def write_table(folder: Path, split: str = "leave-one-out", seeds: int = 5, **n10: float) -> None:
    rows = []
    for name in ("runs", "tables"):
        (folder / name).mkdir(exist_ok=True)
    for model, value in n10.items():
        record = {"data": {"hash": "d1"}, "protocol": {"split": split}}
        (folder / "runs" / f"{model}.{split}.json").write_text(json.dumps(record))
        metrics = {"R@10": {"mean": 2 * value}, "N@10": {"mean": value}}
        rows.append({"method": model, "metrics": metrics, "runs": [f"{model}.{split}"], "seeds": seeds})
    rows.append({"method": "HSTU", "metrics": {}, "runs": [], "seeds": 0})
    (folder / "tables" / f"table2.shop.{split}.json").write_text(json.dumps({"rows": rows}))


def test_ours_is_compared_with_the_best_epoch_of_recboles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_table(tmp_path, SASRec=0.06, GRU4Rec=0.04)
    write_curve(tmp_path, "GRU4Rec")
    write_curve(tmp_path, "SASRec")
    gru, sas = floors.compared(tmp_path)
    assert (gru.share, gru.reached, gru.seeds) == (pytest.approx(0.8), False, 5)
    assert (sas.share, sas.reached) == (pytest.approx(1.2), True)
    assert floors.main(["--out", str(tmp_path)]) == 0
    lines = (tmp_path / "tables" / "recbole.md").read_text().splitlines()
    assert "| GRU4Rec | shop | 1,000 | 3 of 12 | 12 | one core | 5 | 10.00 | 5.00 | 8.00 | 4.00 | **0.800** |" in lines
    assert "| SASRec | shop | 1,000 | 3 of 12 | 12 | one core | 5 | 10.00 | 5.00 | 12.00 | 6.00 | 1.200 |" in lines
    assert "1.200" in capsys.readouterr().out
    csv = pl.read_csv(tmp_path / "tables" / "recbole.csv")
    assert csv["model"].to_list() == ["GRU4Rec", "SASRec"]
    assert csv["ratio"].to_list() == pytest.approx([0.8, 1.2])
    assert csv["reached"].to_list() == [False, True]


def test_rows_of_another_split_are_not_compared(tmp_path: Path) -> None:
    """RecBole's trainings leave one out; a split by time has the same data hash."""
    write_table(tmp_path, SASRec=0.06)
    write_table(tmp_path, "point-10", seeds=9, SASRec=0.01)
    write_curve(tmp_path, "SASRec")
    (beside,) = floors.compared(tmp_path)
    assert (beside.ours["N@10"], beside.seeds) == (0.06, 5)


def test_a_training_before_its_end_is_told_of_as_such(tmp_path: Path) -> None:
    write_table(tmp_path, SASRec=0.06)
    write_curve(tmp_path, "SASRec", STOPPED[:5])
    assert floors.main(["--out", str(tmp_path)]) == 0
    assert "| SASRec | shop | 1,000 | 3 of 5, goes on | 5 |" in (tmp_path / "tables" / "recbole.md").read_text()
    assert pl.read_csv(tmp_path / "tables" / "recbole.csv")["finished"].to_list() == [False]


def test_a_training_without_a_row_is_pending(tmp_path: Path) -> None:
    write_table(tmp_path, SASRec=0.06)
    write_curve(tmp_path, "SASRec", data="d2")
    assert floors.main(["--out", str(tmp_path)]) == 0
    line = "| SASRec | shop | 1,000 | 3 of 12 | 12 | one core |  | 10.00 | 5.00 | pending | pending |  |"
    assert line in (tmp_path / "tables" / "recbole.md").read_text().splitlines()
    assert pl.read_csv(tmp_path / "tables" / "recbole.csv")["reached"].to_list() == [None]


def test_that_there_is_no_training_is_said(tmp_path: Path) -> None:
    write_table(tmp_path, SASRec=0.06)
    with pytest.raises(UserError, match=r"benchmarks/shipped\.py writes them"):
        list(floors.compared(tmp_path))
