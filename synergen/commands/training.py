"""`synergen train` and `synergen evaluate`."""

import argparse
import json
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table as Grid

from synergen.commands.common import DATASET, add_results_folder, command
from synergen.errors import UserError
from synergen.runs import RunSpec, RunStore


def add(commands: Any) -> None:
    """Add the two commands."""
    train = command(
        commands,
        "train",
        "train one model and test it once; a finished run is not repeated",
        _train,
        "synergen train --model SASRec --dataset ml-100k --task recommendation --set training.max_epochs=20",
    )
    train.add_argument("--model", required=True, help="a model of the registry, e.g. SynerGen, SASRec, BM25")
    train.add_argument("--dataset", default="ml-100k", help=DATASET)
    train.add_argument(
        "--task",
        default="recommendation",
        choices=["recommendation", "search", "joint"],
        help="what it is trained and tested on",
    )
    train.add_argument(
        "--table",
        type=int,
        choices=[2, 3, 4],
        help="the table whose protocol holds; default: 2 for recommendation, 3 for search and joint; 4 asks about what "
        "requests showed",
    )
    train.add_argument("--scale", default="smoke", help="epoch budget: sketch, short, smoke, cpu or paper")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override settings.KEY, training.KEY or protocol.KEY; may be repeated",
    )
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    evaluate = command(
        commands,
        "evaluate",
        "test a finished run again from its weights",
        _evaluate,
        "synergen evaluate --run 0123456789ab --candidates full",
    )
    evaluate.add_argument(
        "--run", required=True, metavar="ID", help="the id of a run of `synergen train` or of a table"
    )
    evaluate.add_argument("--dataset", help="folder of the run's data set, where it is not built in")
    evaluate.add_argument("--candidates", choices=["full", "pool", "slate"], help="default: as the run was tested")
    evaluate.add_argument("--device", default="cpu", help="cpu or cuda")
    for made in (train, evaluate):
        add_results_folder(made)


def _train(options: argparse.Namespace, screen: Console) -> None:
    from benchmarks.campaign import dataset_name, has_impressions
    from benchmarks.job import execute
    from benchmarks.plan import make_run
    from benchmarks.progress import Pace, describe
    from benchmarks.spec import load_spec
    from synergen.data.dataset import protocol_for
    from synergen.data.sources import find_source
    from synergen.text import Encoder

    changes: dict[str, dict[str, Any]] = {"settings": {}, "training": {}, "protocol": {}}
    for change in options.set:
        path, equals, value = change.partition("=")
        section, _, key = path.partition(".")
        if section not in changes or not key or not equals:
            raise UserError(f"--set {change}: write settings.KEY=VALUE, training.KEY=VALUE or protocol.KEY=VALUE")
        is_encoder = (section, key) == ("protocol", "encoder")
        changes[section][key] = Encoder.parse(value).identity if is_encoder else yaml.safe_load(value)
    name = dataset_name(options.dataset)
    table = load_spec(options.table or (2 if options.task == "recommendation" else 3))
    protocol = table.fitting(has_impressions(options.dataset, name, RunStore(options.out))).protocol
    for key in changes["protocol"]:
        if key not in (known := {*protocol, "max_users"}):
            raise UserError(f"--set protocol.{key}: known keys are {', '.join(sorted(known))}")
    protocol = protocol_for(find_source(options.dataset), {**protocol, **changes["protocol"]})
    spec = make_run(
        options.model,
        options.task,
        changes["settings"],
        protocol,
        name,
        options.scale,
        options.seed,
        changes["training"],
    )
    pace = Pace()
    with screen.status("starting") as status:

        def report(stage: str, state: dict[str, Any]) -> None:
            status.update(f"{stage} {describe(stage, state, pace)}")

        run = execute(spec, options.dataset, RunStore(options.out), options.device, options.scale, report)
    _print_metrics(run.record["metrics"], spec.id, options.json, screen)


def _evaluate(options: argparse.Namespace, screen: Console) -> None:
    from benchmarks.job import retest

    store = RunStore(options.out)
    run = store.load(options.run)
    if run is None:
        raise UserError(f"{store.record_path(options.run)}: there is no such finished run; see --out and --run")
    keys = ("model", "dataset", "task", "seed", "settings", "trainer", "protocol")
    spec = RunSpec(**{key: run.record[key] for key in keys})
    metrics = retest(spec, options.dataset or spec.dataset, store, options.device, options.candidates)
    _print_metrics(metrics, spec.id, options.json, screen)


def _print_metrics(metrics: dict[str, Any], run_id: str, as_json: bool, screen: Console) -> None:
    if as_json:
        print(json.dumps({"run": run_id, "metrics": metrics}))
        return
    for task, by_candidates in metrics.items():
        for candidates, values in by_candidates.items():
            grid = Grid(*values, title=f"{task}, {candidates} candidates (run {run_id})")
            grid.add_row(*(f"{value:.4f}" for value in values.values()))
            screen.print(grid)
