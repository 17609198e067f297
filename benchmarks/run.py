"""Regenerate a table of the SynerGen paper beside the paper's numbers.

Runs that have a record are reused, unfinished ones go on from their last epoch, the rest is trained. A table is a
function of records alone: when every run has one, nothing is trained and no data set is read.
"""

import argparse
import json
import logging
import math
import os
import re
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

if __package__ in (None, ""):  # python benchmarks/run.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.calibrate import plot_calibration
from benchmarks.display import console_table
from benchmarks.execute import Job, run_all
from benchmarks.exports import to_json, write
from benchmarks.inputs import items_known, prepare_for
from benchmarks.plan import plan, registry_tasks, scales
from benchmarks.progress import Display, duration, label
from benchmarks.size import planned_size
from benchmarks.tables import Spec, Table, build, load_spec
from benchmarks.tradeoff import plot_tradeoff
from benchmarks.views import RANKING, has_slates
from synergen.console import bars, exit_status, page
from synergen.data.dataset import protocol_for
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.runs import Run, RunSpec, RunStore, refuse_other_data
from synergen.text import Encoder

RESULTS = Path(__file__).resolve().parents[1] / "results"

EXAMPLES = """\
examples:
  python benchmarks/run.py --table 3                            ml-100k, a few minutes
  python benchmarks/run.py --table 2 --dataset DIR --scale cpu  your own log, early-stopped on validation
  python benchmarks/run.py --table 3 --models SASRec,BM25 --seeds 3
  python benchmarks/run.py --table 3 --plan                     what would run, and how long it would take
  python benchmarks/run.py --table 4 --dataset sessions-1k      ablations on a small simulated shop
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--table",
        type=int,
        required=True,
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
        default="smoke",
        metavar="NAME",
        help="epoch budget and patience, the same for every model: smoke (default), sketch or short (a few epochs, for "
        "many like rows), cpu (until validation stops improving) or paper (for GPUs); see benchmarks/specs/scales.yaml",
    )
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0..N-1 of every run; default 1")
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
    p.add_argument("--workers", type=int, metavar="N", help="runs side by side; default one a core, one on a GPU")
    p.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of each run; default 1: on another number sums round otherwise and numbers change a little",
    )
    p.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    p.add_argument("--force", action="store_true", help="forget the records of these runs and train again")
    p.add_argument("--plan", action="store_true", help="say what would run and for how long, and stop")
    p.add_argument("--json", action="store_true", help="print the table as JSON instead of text")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    screen = page(stderr=options.json)
    return exit_status(lambda: _table(options, screen))


def _table(options: argparse.Namespace, screen: Console) -> None:
    spec = load_spec(options.table)
    options.dataset = options.dataset or spec.dataset
    name, store = dataset_name(options.dataset), RunStore(options.out)
    spec = spec.fitting(has_impressions(options.dataset, name, store) and options.split in (None, "time"))
    if spec.protocol:
        spec = replace(spec, protocol=_protocol(options, spec))
    if options.seeds < 1:
        raise UserError("--seeds must be 1 or more")
    only = options.models.split(",") if options.models else None
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    wanted = plan(spec, name, options.scale, options.seeds, only)
    shown = plan(spec, name, options.scale, options.seeds, None)
    if options.force and not options.plan:
        find_source(options.dataset)  # before anything is forgotten that could not be made again
        for run_id in {run.id for runs in wanted.values() for run in runs}:
            store.discard(run_id)
    finished = {run.id: store.load(run.id) for runs in shown.values() for run in runs}
    todo = {run.id: (method, run) for method, runs in wanted.items() for run in runs if finished[run.id] is None}
    planned = options.plan and items_known(options.dataset, spec.protocol) is not None
    _refuse_other_data(options.dataset, name, finished, needed=not planned)
    untrainable = 0 if planned or _is_here(options.dataset) else len(todo)
    if untrainable:
        todo = {}
    forecast = _forecast(todo, options.scale, store)
    _announce(screen, spec, name, options, todo, untrainable, forecast, store)
    if options.plan:
        return
    failed: dict[str, str] = {}
    if todo:
        store.check_writable()
        with bars(screen) as report:
            prepare_for(options.dataset, spec.protocol, report)  # here, and not by every run
        failed = _train(options, screen, todo, forecast, device)
        finished |= {run_id: store.load(run_id) for run_id in todo}
    runs = {m: [r for run in specs if (r := finished[run.id]) is not None] for m, specs in shown.items()}
    table = build(spec, runs, registry_tasks(), name)
    if options.json:
        print(json.dumps(to_json(table), ensure_ascii=False))
    else:
        for part in console_table(table):
            screen.print(part)
    stem = ".".join([f"table{spec.number}", name, *_otherwise(options)])
    written = write(table, options.out / "tables", stem) + write_plots(table, runs, options.out / "plots" / stem)
    screen.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)
    if failed:
        reasons = (f"{label(todo[run_id][1], todo[run_id][0])} failed: {why}" for run_id, why in failed.items())
        raise UserError("\n".join(reasons))


def write_plots(table: Table, runs: dict[str, list[Run]], stem: Path) -> list[Path]:
    """What joint training gains and costs, where a table has models trained both ways; and the calibration of the
    method that is read from the ranking head, of its first seed."""
    written = plot_tradeoff(table, stem.with_name(f"{stem.name}.tradeoff.png"))
    read = (run for row in table.spec.rows if row.head == RANKING for run in runs.get(row.method, ()))
    run = next((run for run in read if "calibration" in run.record), None)
    if run is None:
        return written
    title = f"Click probability of the ranking head\n{table.dataset}, seed {run.record['seed']}"
    return written + plot_calibration(run, stem.with_name(f"{stem.name}.calibration.png"), title)


def _protocol(options: argparse.Namespace, spec: Spec) -> dict[str, Any]:
    """The table's, but for what the command line sets and what the data set brings along."""
    encoder = Encoder.parse(options.encoder).identity if options.encoder else None
    asked = {"encoder": encoder, "split": options.split, "max_users": options.max_users}
    protocol = {**spec.protocol, **{key: value for key, value in asked.items() if value is not None}}
    try:
        return protocol_for(find_source(options.dataset), protocol)
    except UserError:  # of records, perhaps, whose data are not here
        return protocol


def _otherwise(options: argparse.Namespace) -> list[str]:
    """What the files of a table are named after, besides the table and its data set: what was asked for otherwise."""
    users = f"{options.max_users}-users" if options.max_users else None
    return [re.sub(r"[^\w.+-]+", "-", word) for word in (options.encoder, options.split, users) if word]


def dataset_name(name_or_folder: str) -> str:
    """The name that runs and tables carry: a folder's own name, `sessions-10k` for `sessions`."""
    try:
        return find_source(name_or_folder).name
    except UserError:
        return name_or_folder  # of records, perhaps, whose data are not here


def has_impressions(dataset: str, name: str, store: RunStore) -> bool:
    """Whether the log says what its requests showed; where there is no log, its records tell."""
    try:
        source = find_source(dataset)
    except UserError:
        return any(r["dataset"] == name and has_slates(r["protocol"]) for r in store.records())
    return source.has_impressions


def _is_here(dataset: str) -> bool:
    """Whether the files of a data set are at hand, or can be got."""
    try:
        find_source(dataset)
    except UserError:
        return False
    return True


def _refuse_other_data(dataset: str, name: str, finished: dict[str, Run | None], needed: bool) -> None:
    """Records speak of the files they were made from; where those are at hand, they must be the same. Data that are
    `needed` must be at hand where there are no records."""
    records = [run.record for run in finished.values() if run is not None]
    try:
        found = source_hash(find_source(dataset))
    except UserError:
        if needed and not records:
            raise
        return  # a plan, or a table from records alone
    for record in records:
        refuse_other_data(record, found, name)


def _announce(
    screen: Console,
    spec: Spec,
    name: str,
    options: argparse.Namespace,
    todo: dict[str, tuple[str, RunSpec]],
    untrainable: int,
    forecast: dict[str, float | None],
    store: RunStore,
) -> None:
    screen.print(
        f"Table {spec.number} on {name}, scale {options.scale}, {options.seeds} seed(s): {spec.title}", soft_wrap=True
    )
    if untrainable:
        screen.print(
            f"the data of {name} are not here: {untrainable} runs without a record stay pending; to train them, give "
            "the folder of the data set",
            soft_wrap=True,
        )
        return
    if not todo:
        screen.print("nothing to train" + (": every run has a record" if spec.protocol else ""))
        return
    workers = _workers(options, len(todo))
    for run_id, (method, run) in todo.items():
        state = "goes on" if store.checkpoint_path(run_id).exists() else "to run"
        screen.print(f"  {label(run, method):<28} {state}, about {duration(forecast[run_id])}", soft_wrap=True)
        if options.plan:
            screen.print(f"    {planned_size(run, options.dataset)}", soft_wrap=True)
    known = [seconds for seconds in forecast.values() if seconds is not None]
    if len(known) == len(todo):
        total = max(sum(known) / workers, max(known))
        screen.print(f"{len(todo)} runs, {workers} side by side: about {duration(total)} in all")
    else:
        screen.print(f"{len(todo)} runs, {workers} side by side; the time is known after each one's first epoch")
    if torch.cuda.is_available() and options.scale != "paper":
        screen.print(f"there is a GPU: --scale paper would use the paper's sizes (scales: {', '.join(scales())})")


def _forecast(todo: dict[str, tuple[str, RunSpec]], scale: str, store: RunStore) -> dict[str, float | None]:
    """By run id, the mean seconds of like runs on record, here or in results/; None where there is none."""
    past = store.records() + (RunStore(RESULTS).records() if store.folder.resolve() != RESULTS else [])
    forecast: dict[str, float | None] = {}
    for run_id, (_, run) in todo.items():
        alike = [
            record["seconds"]
            for record in past
            if (record["model"], record["dataset"], record["task"]) == (run.model, run.dataset, run.task)
            and record["scale"] in (scale, None)
        ]
        forecast[run_id] = sum(alike) / len(alike) if alike else None
    return forecast


def _workers(options: argparse.Namespace, runs: int) -> int:
    if options.workers is not None and options.workers < 1:
        raise UserError("--workers must be 1 or more")
    default = 1 if torch.cuda.is_available() and options.device != "cpu" else (os.cpu_count() or 1)
    return min(options.workers or default, max(1, runs))


def _train(
    options: argparse.Namespace,
    screen: Console,
    todo: dict[str, tuple[str, RunSpec]],
    forecast: dict[str, float | None],
    device: str,
) -> dict[str, str]:
    def seconds(run_id: str) -> float:
        expected = forecast[run_id]
        return math.inf if expected is None else expected

    longest_first = [todo[run_id] for run_id in sorted(todo, key=seconds, reverse=True)]
    jobs = [Job(run, options.dataset, options.out, device, options.scale) for _, run in longest_first]
    labels = {run.id: label(run, method) for method, run in longest_first}
    with Display(screen, labels) as display:
        return run_all(jobs, _workers(options, len(jobs)), options.threads, display.show)


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs would ignore the first
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
