"""`synergen data`: what data sets hold."""

import argparse
import json
from typing import Any

from rich.console import Console

from synergen.commands.common import DATASET, command
from synergen.data.dataset import BUILT_IN, Dataset, find_source, load_dataset, statistics
from synergen.data.filters import Filter
from synergen.evaluation.audit import leak_shares


def add(commands: Any) -> None:
    """Add `data list`, `data stats` and `data audit`."""
    data = commands.add_parser("data", help="data sets: list, statistics, leak audit")
    what = data.add_subparsers(required=True, metavar="command")
    command(what, "list", "the built-in data sets and the folder format", _data_list, "synergen data list")
    for name, about, action in (
        ("stats", "sizes, times, queries and their rule, what was dropped", _data_stats),
        ("audit", "shares of test events whose answer the log gives away", _data_audit),
    ):
        made = command(what, name, about, action, f"synergen data {name} ml-100k")
        made.add_argument("dataset", help=DATASET)
        made.add_argument("--filter", default="none", choices=list(map(str, Filter)), help="which users and items stay")
        made.add_argument("--min-count", type=int, default=5, metavar="N", help="events that the filter asks for")
        made.add_argument("--search-share", type=float, default=0.5, metavar="P", help="past events drawn as searches")
        made.add_argument(
            "--split",
            default="leave-one-out",
            choices=["leave-one-out", "time"],
            help="time: at a point of time, for logs with impressions",
        )
        made.add_argument("--json", action="store_true", help="print JSON")


def _data_list(options: argparse.Namespace, screen: Console) -> None:
    for source in BUILT_IN.values():
        screen.print(f"{source.name:<12} {source.about}")
    about = find_source("sessions").about
    screen.print(f"{'sessions':<12} {about}; sessions-N has N users, sessions-Nk N thousand", soft_wrap=True)
    screen.print(
        "DIR          a folder: interactions.parquet|csv with user, item, ts (Unix seconds) and optionally action, "
        "query, request; items.parquet|csv with item, title and optionally categories; impressions.parquet, where "
        "it is known what each request showed, with request, user, ts, items and optionally query",
        soft_wrap=True,
    )


def _data_stats(options: argparse.Namespace, screen: Console) -> None:
    _print(statistics(_dataset(options)), options.json, screen)


def _data_audit(options: argparse.Namespace, screen: Console) -> None:
    dataset = _dataset(options)
    _print(leak_shares(dataset.log, dataset.split), options.json, screen)


def _dataset(options: argparse.Namespace) -> Dataset:
    return load_dataset(
        options.dataset,
        search_share=options.search_share,
        rule=Filter(options.filter),
        min_count=options.min_count,
        split=options.split,
    )


def _print(values: dict[str, Any], as_json: bool, screen: Console) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    width = max(map(len, values)) + 2
    for name, value in values.items():
        shown = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        screen.print(f"{name:<{width}}{shown}", soft_wrap=True, markup=False)
