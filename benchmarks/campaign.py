"""What is asked for of a table, what of it is on record, and the table that follows: the same for a run on this machine
and for a sweep on a cluster."""

import argparse
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.admission import altered, damaged
from benchmarks.display import console_table
from benchmarks.exports import to_json, write
from benchmarks.facts import accelerator_of
from benchmarks.plan import plan, registry_tasks, scales
from benchmarks.planning.counts import counts_of, is_counts_file
from benchmarks.plots import calibration, tradeoff
from benchmarks.plots.material import Material
from benchmarks.tables import Spec, build, load_spec
from benchmarks.views import has_slates
from synergen.data.dataset import protocol_for
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.runs import Run, RunSpec, RunStore, refuse_other_data
from synergen.text import Encoder

RESULTS = Path(__file__).resolve().parents[1] / "results"

_USUAL = "smoke"
"""The scale where neither the user nor a record says one."""
_KEPT = ("table", "dataset", "scale", "seeds", "encoder", "split", "max_users", "models")

Runs = dict[str, list[RunSpec]]
"""The runs of each method."""


def add_arguments(p: argparse.ArgumentParser, scale: str | None, needs_table: bool = True) -> None:
    """The arguments of `Campaign.asked`; `scale` is the default, None where scale and seeds follow from what is on
    record, see `Campaign.on_record`."""
    p.add_argument(
        "--table",
        type=int,
        required=needs_table,
        help="1 to 4 as in the paper; 5 recipes of the baselines, 6 joint or single-task training, 7 harder queries",
    )
    p.add_argument(
        "--dataset",
        metavar="NAME|DIR",
        help="a built-in data set, or a folder with interactions.parquet (see README); default ml-100k, for table 4 "
        "sessions, a simulated shop (sessions-N has N users)",
    )
    p.add_argument(
        "--scale",
        default=scale,
        metavar="NAME",
        help="epoch budget and patience, the same for every model: smoke, sketch or short (a few epochs, for many like "
        f"rows), cpu (until validation stops improving) or paper (for GPUs); see benchmarks/specs/scales.yaml; default "
        f"{scale or f'that of most runs on record, or {_USUAL}'}",
    )
    seeds = 1 if scale else None
    text = f"seeds 0..N-1 of every run; default {seeds or 'all on record, or 1'}"
    p.add_argument("--seeds", type=int, default=seeds, metavar="N", help=text)
    p.add_argument(
        "--encoder",
        metavar="NAME",
        help="frozen text encoder of the models that read text: minilm (default; inside a package), or the name or "
        """folder of a Hugging Face model, with options as JSON if any: 'NAME {"pooling": "cls", "dimensions": 128}'""",
    )
    p.add_argument(
        "--split",
        metavar="NAME",
        help="otherwise than the table: leave-one-out, last-N, point-P or point-P+Gd (the last P percent by time, "
        "after a gap of G days)",
    )
    p.add_argument("--max-users", type=int, metavar="N", help="a sample of users that keeps min_count of everything")
    p.add_argument("--models", metavar="A,B", help="run only these rows; the others show what has been run before")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="results folder; default results/")


@dataclass(frozen=True)
class Campaign:
    """A table on a data set, at a scale, with so many seeds."""

    spec: Spec
    source: str
    """The name or folder of the data set, and what runs and tables call it."""
    name: str
    scale: str
    seeds: int
    stem: str
    """What its files are named after."""
    wanted: Runs
    """The runs that are asked for."""
    shown: Runs
    """Those that the table has a place for."""
    store: RunStore
    options: dict[str, Any]
    """What was asked for, as the command line had it, but for the results folder."""

    @classmethod
    def asked(cls, options: argparse.Namespace) -> "Campaign":
        """As the command line has it, see `add_arguments`.

        Raises:
            UserError: an unknown table, scale, row or split, or a number that is none.
        """
        spec = load_spec(options.table)
        source = options.dataset or spec.dataset
        name, store = dataset_name(source), RunStore(options.out)
        spec = spec.fitting(has_impressions(source, name, store) and options.split in (None, "time"))
        if spec.protocol:
            spec = replace(spec, protocol=_protocol(options, source, spec))
        if options.seeds < 1:
            raise UserError("--seeds must be 1 or more")
        only = options.models.split(",") if options.models else None
        wanted = plan(spec, name, options.scale, options.seeds, only)
        shown = plan(spec, name, options.scale, options.seeds, None)
        stem = ".".join([f"table{spec.number}", name, *_otherwise(options)])
        kept = {key: getattr(options, key) for key in _KEPT}
        return cls(spec, source, name, options.scale, options.seeds, stem, wanted, shown, store, kept)

    @classmethod
    def on_record(cls, options: argparse.Namespace, every_seed: bool = False) -> "Campaign":
        """As the command line has it; where no scale is named, that of most runs on record, or else smoke, and where
        no number of seeds is, all on record are shown.

        Args:
            every_seed: all that are shown are asked for, too, and not the first alone.

        Raises:
            UserError: see `asked`.
        """

        def at(scale: str, seeds: int) -> Campaign:
            return cls.asked(argparse.Namespace(**vars(options) | {"scale": scale, "seeds": seeds}))

        seeds = options.seeds
        if seeds is None:
            seeds = 1 + max((record["seed"] for record in RunStore(options.out).records()), default=0)
        names = [options.scale] if options.scale else sorted(scales(), key=_USUAL.__ne__)
        found = max((at(scale, seeds) for scale in names), key=cls._recorded)  # of equals, the first
        return found if every_seed or options.seeds is not None else replace(at(found.scale, 1), shown=found.shown)

    def _recorded(self) -> int:
        """How many of the runs that are shown are on record."""
        shown = {run.id for runs in self.shown.values() for run in runs}
        return sum(self.store.record_path(run_id).exists() for run_id in shown)

    @property
    def source_is_here(self) -> bool:
        """Whether the files of the data set are at hand, or can be got."""
        return _is_here(self.source)

    def forget(self) -> None:
        """Discard the records of what is asked for.

        Raises:
            UserError: there is no such data set, so that they could not be made again.
        """
        find_source(self.source)
        for run_id in {run.id for runs in self.wanted.values() for run in runs}:
            self.store.discard(run_id)

    def finished(self) -> dict[str, Run | None]:
        """What is on record of all that is shown, by run id."""
        return {run.id: self.store.load(run.id) for runs in self.shown.values() for run in runs}

    def to_do(self, finished: Mapping[str, Run | None]) -> dict[str, tuple[str, RunSpec]]:
        """Method and run of what is asked for and not finished, by run id."""
        runs = {run.id: (method, run) for method, runs in self.wanted.items() for run in runs}
        return {run_id: run for run_id, run in runs.items() if finished.get(run_id) is None}

    def refuse_other_data(self, finished: Mapping[str, Run | None], needed: bool) -> None:
        """Records speak of the files they were made from; where those are at hand, they must be the same.

        Args:
            needed: data must be at hand where there are no records.

        Raises:
            UserError: they differ, or are needed and not there.
        """
        records = [run.record for run in finished.values() if run is not None]
        try:
            found = source_hash(find_source(self.source))
        except UserError:
            if needed and not records:
                raise
            return  # a plan, or a table from records alone
        for record in records:
            refuse_other_data(record, found, self.name)

    def forecast(self, to_do: Mapping[str, tuple[str, RunSpec]], on_gpu: bool = False) -> dict[str, float | None]:
        """By run id, the mean seconds of like runs on record, here or in results/; None where there is none."""
        elsewhere = RunStore(RESULTS).records() if self.store.folder.resolve() != RESULTS else []
        past = self.store.records() + elsewhere
        forecast: dict[str, float | None] = {}
        for run_id, (_, run) in to_do.items():
            alike = [
                record["seconds"]
                for record in past
                if (record["model"], record["dataset"], record["task"]) == (run.model, run.dataset, run.task)
                and record["scale"] in (self.scale, None)
                and (record["scale"] is None or on_gpu == (accelerator_of(record) is not None))
            ]
            forecast[run_id] = sum(alike) / len(alike) if alike else None
        return forecast

    def show(self, screen: Console, as_json: bool, finished: Mapping[str, Run | None]) -> None:
        """Print the table of what is finished, and write it with its plots."""
        material = self.material(finished, self.shown)
        table = material.table
        if as_json:
            print(json.dumps(to_json(table), ensure_ascii=False))
        else:
            for part in console_table(table):
                screen.print(part)
        out = self.store.folder
        written = write(table, out / "tables", self.stem) + self._write_plots(material)
        screen.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)

    def material(self, finished: Mapping[str, Run | None], asked: Runs) -> Material:
        """The table of what is finished of some runs, and the runs that stand in it; lines under it name those that do
        not, because their files are damaged, were edited, or do not belong with the others."""
        runs: dict[str, list[Run]] = {method: [] for method in asked}
        excluded = []
        for method, specs in asked.items():
            for spec in specs:
                run = finished[spec.id]
                if run is None:
                    if self.store.record_path(spec.id).exists():
                        excluded.append(damaged(spec.id, method, spec.seed))
                elif line := altered(run, method):
                    excluded.append(line)
                else:
                    runs[method].append(_as_planned(run, self.scale))
        table = build(self.spec, runs, registry_tasks(), self.name, excluded)
        used = {run_id for row in table.rows for run_id in row.runs}
        standing = {method: [run for run in own if run.record["id"] in used] for method, own in runs.items()}
        return Material(table, standing, self.source, self.store.folder)

    def _write_plots(self, material: Material) -> list[Path]:
        """What joint training gains and costs, where a table has models trained both ways, and calibration, where
        records have it; `benchmarks/plot.py` draws the others."""
        both_ways = tradeoff.trained_both_ways(material.table)
        wanted = {"tradeoff": tradeoff.PLOT} if both_ways else {}
        if calibration.calibrated(material) is not None:
            wanted["calibration"] = calibration.PLOT
        drawn = (plot.write(plot.data(material), material, self.stem, name) for name, plot in wanted.items())
        return [path for paths in drawn for path in paths]


def _as_planned(run: Run, scale: str) -> Run:
    """A run is of every scale that plans it, whichever it was made for: some models are alike at several."""
    return Run(run.record | {"scale": scale}, run.ranks) if run.record["scale"] else run


def dataset_name(name_or_folder: str) -> str:
    """The name that runs and tables carry: a folder's own name, `sessions-10k` for `sessions`, that of a file of counts
    without its ending."""
    try:
        return find_source(name_or_folder).name
    except UserError:
        # of records, perhaps, whose data are not here
        return Path(name_or_folder).stem if is_counts_file(name_or_folder) else name_or_folder


def has_impressions(dataset: str, name: str, store: RunStore) -> bool:
    """Whether the log says what its requests showed; where there is no log, its records tell."""
    try:
        source = find_source(dataset)
    except UserError:
        return any(r["dataset"] == name and has_slates(r["protocol"]) for r in store.records())
    return source.has_impressions


def _is_here(dataset: str) -> bool:
    try:
        find_source(dataset)
    except UserError:
        return False
    return True


def _protocol(options: argparse.Namespace, source: str, spec: Spec) -> dict[str, Any]:
    """The table's, but for what the command line sets and what the data set brings along."""
    encoder = Encoder.parse(options.encoder).identity if options.encoder else None
    asked = {"encoder": encoder, "split": options.split, "max_users": options.max_users}
    protocol = {**spec.protocol, **{key: value for key, value in asked.items() if value is not None}}
    try:
        return protocol_for(find_source(source), protocol)
    except UserError:  # of records, perhaps, whose data are not here
        counts = counts_of(source)
        return protocol | {"max_history": counts.max_history} if counts and counts.max_history else protocol


def _otherwise(options: argparse.Namespace) -> list[str]:
    """What the files of a table are named after, besides the table and its data set: what was asked for otherwise."""
    users = f"{options.max_users}-users" if options.max_users else None
    return [re.sub(r"[^\w.+-]+", "-", word) for word in (options.encoder, options.split, users) if word]
