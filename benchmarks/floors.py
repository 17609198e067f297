"""Baselines of Table 2 beside RecBole's own training of their classes, on the same test events.

Reads the curves that benchmarks/shipped.py wrote to recbole/ of the results folder, and the tables there. RecBole's
weights are those of its best epoch on validation, by the evaluator of this benchmark; ours are the row of Table 2 on
the same data. A training that was not followed to its end is told of as such: RecBole reaches as much at least on
validation, so that a row below it is too low, and one above it may be. Writes tables/recbole.md and .csv, and needs no
data.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

if __package__ in (None, ""):  # python benchmarks/floors.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.campaign import RESULTS
from benchmarks.formats import Cell, Columns, Grid, Line, Panel, markdown
from benchmarks.shipped import TEST_METRICS, Curve, read_curve
from synergen.console import exit_status, page
from synergen.errors import UserError
from synergen.files import write_text
from synergen.runs import RunStore

FLOOR = 0.97
"""The least share of RecBole's metric that a baseline has to reach."""

_METRIC = "N@10"
_SPLIT = "leave-one-out"


@dataclass(frozen=True)
class Beside:
    """A training by RecBole and the row of Table 2 on the same data."""

    curve: Curve
    ours: dict[str, float]
    """Test metrics, means over the seeds; empty where no table has the row."""
    seeds: int

    @property
    def share(self) -> float | None:
        """Ours over RecBole's."""
        return self.ours[_METRIC] / self.curve.best.test[_METRIC] if self.ours else None

    @property
    def reached(self) -> bool | None:
        """Whether the baseline is as good as RecBole's, or as nearly so as `FLOOR` asks."""
        return None if self.share is None else self.share >= FLOOR


def compared(results: Path) -> Iterator[Beside]:
    """Every training by RecBole, in order of the files' names.

    Raises:
        UserError: there is none.
    """
    curves = sorted((results / "recbole").glob("*.json"))
    if not curves:
        raise UserError(f"{results / 'recbole'}: no training of RecBole's is here; benchmarks/shipped.py writes them")
    rows = list(_rows(results))
    for path in curves:
        curve = read_curve(path)
        own = [(seeds, ours) for data, model, seeds, ours in rows if (data, model) == (curve.data_hash, curve.model)]
        seeds, ours = max(own, key=lambda one: one[0], default=(0, {}))
        yield Beside(curve, ours, seeds)


def _rows(results: Path) -> Iterator[tuple[str, str, int, dict[str, float]]]:
    """Data hash, method, seeds and mean metrics of every row of a table 2 that is split as RecBole's and has runs."""
    store = RunStore(results)
    for path in sorted((results / "tables").glob("table2.*.json")):
        for row in json.loads(path.read_text(encoding="utf-8"))["rows"]:
            if row["metrics"]:
                record = json.loads(store.record_path(row["runs"][0]).read_text(encoding="utf-8"))
                if record["protocol"]["split"] != _SPLIT:
                    continue
                means = {name: row["metrics"][name]["mean"] for name in TEST_METRICS}
                yield record["data"]["hash"], row["method"], row["seeds"], means


def table(trainings: list[Beside]) -> Grid:
    """What a reader sees."""
    columns = Columns(None, (*(f"{m}, RecBole" for m in TEST_METRICS), *(f"{m}, ours" for m in TEST_METRICS), "ratio"))
    states = ("Data", "Users", "Best epoch", "Minutes", "On", "Our seeds")
    lines = tuple(
        Line(
            one.curve.model,
            None,
            (
                (
                    *(Cell(f"{100 * one.curve.best.test[m]:.2f}") for m in TEST_METRICS),
                    *(Cell(f"{100 * one.ours[m]:.2f}" if one.ours else "pending") for m in TEST_METRICS),
                    Cell("" if one.share is None else f"{one.share:.3f}", best=one.reached is False),
                ),
            ),
            tuple(
                Cell(text)
                for text in (
                    one.curve.dataset,
                    f"{one.curve.users:,}",
                    f"{one.curve.best.epoch} of {len(one.curve.points)}" + ("" if one.curve.finished else ", goes on"),
                    f"{one.curve.points[-1].seconds / 60:.0f}",
                    one.curve.accelerator or "one core",
                    str(one.seeds or ""),
                )
            ),
        )
        for one in trainings
    )
    return Grid(
        "RecBole",
        "its own trainings beside the rows of Table 2",
        "RecBole 1.2.1 as it ships: its defaults, loaders, trainer and stopping, softmax over all items, one seed.",
        "Percent, test events, all items as candidates but those of the history; ratio: N@10, ours over RecBole's, "
        f"bold where it is below {FLOOR}.",
        (Panel((columns,), lines, states=states),),
        (
            "Best epoch: on validation N@10 by our evaluator, of all that RecBole trained until it stopped; a training "
            "that goes on was ended before: on validation, RecBole reaches as much at least.",
            "Minutes: training without validation; of one core's own, and on a GPU by the clock, while others computed "
            "there, too.",
            "Pending: no table 2 has the model on these data; run benchmarks/run.py --table 2, with --max-users for a "
            "sample.",
        ),
    )


def to_csv(trainings: list[Beside]) -> str:
    """A line a training; metrics as fractions."""
    return pl.DataFrame(
        [
            {
                "dataset": one.curve.dataset,
                "users": one.curve.users,
                "model": one.curve.model,
                "best_epoch": one.curve.best.epoch,
                "epochs": len(one.curve.points),
                "finished": one.curve.finished,
                "seconds": one.curve.points[-1].seconds,
                "accelerator": one.curve.accelerator,
                **{f"recbole_{m}": one.curve.best.test[m] for m in TEST_METRICS},
                **{f"ours_{m}": one.ours.get(m) for m in TEST_METRICS},
                "seeds": one.seeds,
                "ratio": one.share,
                "reached": one.reached,
            }
            for one in trainings
        ]
    ).write_csv()


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="results folder; default results/")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    return exit_status(lambda: _run(options.out))


def _run(results: Path) -> None:
    trainings = list(compared(results))
    text, folder = markdown(table(trainings)), results / "tables"
    write_text(folder / "recbole.md", text)
    write_text(folder / "recbole.csv", to_csv(trainings))
    page().print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
