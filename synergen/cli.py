"""The `synergen` command."""

import argparse
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table as Grid

from synergen import __version__
from synergen.console import exit_status
from synergen.data.dataset import BUILT_IN, load_dataset, statistics
from synergen.data.filters import Filter
from synergen.errors import UserError
from synergen.evaluation.audit import leak_shares
from synergen.runs import RunSpec, RunStore

_DATASET = "a built-in data set (see `synergen data list`) or a folder with interactions.parquet or .csv"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = parser().parse_args(arguments)
    return exit_status(lambda: options.action(options, Console(highlight=False)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="synergen", description="Train, test and inspect; tables: benchmarks/run.py")
    p.add_argument("--version", action="version", version=f"synergen {__version__}")
    commands = p.add_subparsers(required=True, metavar="command")
    data = commands.add_parser("data", help="data sets: list, statistics, leak audit")
    what = data.add_subparsers(required=True, metavar="command")
    _command(what, "list", "the built-in data sets and the folder format", _data_list, "synergen data list")
    for name, about, action in (
        ("stats", "sizes, times, queries and their rule, what was dropped", _data_stats),
        ("audit", "shares of test events whose answer the log gives away", _data_audit),
    ):
        command = _command(what, name, about, action, f"synergen data {name} ml-100k")
        command.add_argument("dataset", help=_DATASET)
        command.add_argument(
            "--filter", default="none", choices=list(map(str, Filter)), help="which users and items stay"
        )
        command.add_argument("--min-count", type=int, default=5, metavar="N", help="events that the filter asks for")
        command.add_argument(
            "--search-share", type=float, default=0.5, metavar="P", help="past events drawn as searches"
        )
        command.add_argument("--json", action="store_true", help="print JSON")
    train = _command(
        commands,
        "train",
        "train one model and test it once; a finished run is not repeated",
        _train,
        "synergen train --model SASRec --dataset ml-100k --task recommendation --set training.max_epochs=20",
    )
    train.add_argument("--model", required=True, help="a model of the registry, e.g. SynerGen, SASRec, BM25")
    train.add_argument("--dataset", default="ml-100k", help=_DATASET)
    train.add_argument(
        "--task",
        default="recommendation",
        choices=["recommendation", "search", "joint"],
        help="recommendation has table 2's protocol, search and joint have table 3's",
    )
    train.add_argument("--scale", default="smoke", help="epoch budget: smoke, cpu or paper")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="override settings.KEY, training.KEY or protocol.KEY; may be repeated",
    )
    train.add_argument("--device", default="cpu", help="cpu or cuda")
    evaluate = _command(
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
    evaluate.add_argument("--candidates", choices=["full", "pool"], help="default: as the run was tested")
    evaluate.add_argument("--device", default="cpu", help="cpu or cuda")
    for command in (train, evaluate):
        command.add_argument(
            "--out", type=Path, default=Path("out"), metavar="DIR", help="results folder; default out/"
        )
        command.add_argument("--json", action="store_true", help="print JSON")
    return p


def _command(
    commands: Any, name: str, about: str, action: Callable[..., None], example: str
) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    command.set_defaults(action=action)
    return command


def _data_list(options: argparse.Namespace, screen: Console) -> None:
    for source in BUILT_IN.values():
        screen.print(f"{source.name:<12} {source.about}")
    screen.print(
        "DIR          a folder: interactions.parquet|csv with user, item, ts (Unix seconds) and optionally action, "
        "query, request; items.parquet|csv with item, title and optionally categories",
        soft_wrap=True,
    )


def _data_stats(options: argparse.Namespace, screen: Console) -> None:
    _print(statistics(_dataset(options)), options.json, screen)


def _data_audit(options: argparse.Namespace, screen: Console) -> None:
    dataset = _dataset(options)
    _print(leak_shares(dataset.log, dataset.split), options.json, screen)


def _dataset(options: argparse.Namespace) -> Any:
    return load_dataset(
        options.dataset,
        search_share=options.search_share,
        rule=Filter(options.filter),
        min_count=options.min_count,
    )


def _train(options: argparse.Namespace, screen: Console) -> None:
    from benchmarks.job import execute
    from benchmarks.plan import make_run
    from benchmarks.progress import describe
    from benchmarks.tables import load_spec

    changes: dict[str, dict[str, Any]] = {"settings": {}, "training": {}, "protocol": {}}
    for change in options.set:
        path, equals, value = change.partition("=")
        section, _, key = path.partition(".")
        if section not in changes or not key or not equals:
            raise UserError(f"--set {change}: write settings.KEY=VALUE, training.KEY=VALUE or protocol.KEY=VALUE")
        changes[section][key] = yaml.safe_load(value)
    protocol = load_spec(2 if options.task == "recommendation" else 3).protocol
    for key in changes["protocol"]:
        if key not in protocol:
            raise UserError(f"--set protocol.{key}: known keys are {', '.join(protocol)}")
    from benchmarks.run import dataset_name

    spec = make_run(
        options.model,
        options.task,
        changes["settings"],
        {**protocol, **changes["protocol"]},
        dataset_name(options.dataset),
        options.scale,
        options.seed,
        changes["training"],
    )
    with screen.status("starting") as status:

        def report(stage: str, state: dict[str, Any]) -> None:
            status.update(f"{stage} {describe(stage, state)}")

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


def _print(values: dict[str, Any], as_json: bool, screen: Console) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    width = max(map(len, values)) + 2
    for name, value in values.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        screen.print(f"{name:<{width}}{shown}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
