"""`synergen data`: what data sets there are, how they are made, and what they hold."""

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console

from synergen.commands.common import DATASET, command
from synergen.console import bars
from synergen.data.dataset import Dataset, load_dataset, protocol_for, statistics
from synergen.data.filters import Filter
from synergen.data.preparation import Prepared, Rules, prepare_source, prepared_folder
from synergen.data.prepared import altered_files, read_manifest
from synergen.data.recipes import RECIPES
from synergen.data.sources import BUILT_IN, Source, download, find_source, use_raw_folder
from synergen.errors import UserError
from synergen.evaluation.audit import leak_shares

_SPLIT = (
    "leave-one-out, last-N (the last N events of each user), point-P or point-P+Gd (the last P percent by time, "
    "after a gap of G days), per-task (for the faithful search data), or time (for logs with impressions)"
)


def add(commands: Any) -> None:
    """Add `data list`, `prepare`, `stats`, `audit`, `path` and `verify`."""
    data = commands.add_parser("data", help="data sets: list, prepare, statistics, leak audit, path, verify")
    what = data.add_subparsers(required=True, metavar="command")
    command(what, "list", "the known data sets and the folder format", _list, "synergen data list")
    made = {
        name: command(what, name, about, action, f"synergen data {name} {example}")
        for name, about, action, example in (
            ("prepare", "make a data set from its raw files, once", _prepare, "book-review --raw ~/Downloads"),
            ("stats", "sizes, times, queries and their rule, what was dropped", _stats, "ml-100k"),
            ("audit", "shares of test events whose answer the log gives away", _audit, "ml-100k"),
            ("path", "where the prepared data set is", _path, "ml-100k"),
            ("verify", "compare the prepared files and their raw files with their checksums", _verify, "ml-100k"),
        )
    }
    for name, one in made.items():
        one.add_argument("dataset", help=DATASET)
        one.add_argument("--variant", metavar="NAME", help="of a published data set; `synergen data list` names them")
        one.add_argument("--filter", default="none", choices=list(map(str, Filter)), help="which users and items stay")
        one.add_argument("--min-count", type=int, default=5, metavar="N", help="events that the filter asks for")
        one.add_argument("--search-share", type=float, default=0.5, metavar="P", help="past events drawn as searches")
        one.add_argument(
            "--max-users", type=int, metavar="N", help="a sample of so many users that keeps --min-count of everything"
        )
        if name in ("stats", "audit"):
            one.add_argument("--json", action="store_true", help="print JSON")
        one.add_argument("--split", default="leave-one-out", metavar="NAME", help=_SPLIT)
    made["prepare"].add_argument(
        "--raw", type=Path, metavar="DIR", help="a folder with the raw files, read now and whenever they are needed"
    )
    made["prepare"].add_argument(
        "--any-checksum", action="store_true", help="take raw files of --raw though they are not the published ones"
    )
    made["prepare"].add_argument("--force", action="store_true", help="make it anew though it is there")


def _list(options: argparse.Namespace, screen: Console) -> None:
    for source in BUILT_IN.values():
        screen.print(f"{source.name:<22} {source.about}", soft_wrap=True)
    for name, recipe in RECIPES.items():
        screen.print(f"{name:<22} {recipe.about} (variant {recipe.variant})", soft_wrap=True)
    about = find_source("sessions").about
    screen.print(f"{'sessions':<22} {about}; sessions-N has N users, sessions-Nk N thousand", soft_wrap=True)
    screen.print(
        f"{'DIR':<22} a folder: interactions.parquet|csv with user, item, ts (Unix seconds) and optionally action, "
        "query, request; interactions-*.parquet|csv with later events; items.parquet|csv with item, title and "
        "optionally categories; impressions.parquet, where it is known what each request showed, with request, user, "
        "ts, items and optionally query",
        soft_wrap=True,
    )


def _prepare(options: argparse.Namespace, screen: Console) -> None:
    source = _source(options)
    if options.raw is not None:
        if source.recipe is None:
            raise UserError(f"--raw is for published data sets; {options.dataset} is read from where it is")
        use_raw_folder(source.recipe, options.raw, any_checksum=options.any_checksum)
    with bars(screen) as report:
        ready = None if options.force else _found(source, options)
        if ready is None and source.recipe is not None:
            download(source.recipe, report)
        ready = prepare_source(source, _rules(options), report, again=options.force)
    counts = ready.manifest["counts"]
    screen.print(f"{source.name}: " + ", ".join(f"{n:,} {name}" for name, n in counts.items()))
    for name, line in ready.manifest["about"].items():
        screen.print(f"  {name}: {line}", markup=False, soft_wrap=True)
    screen.print(f"prepared in {ready.manifest['seconds']} s: {ready.folder}", soft_wrap=True)


def _found(source: Source, options: argparse.Namespace) -> Prepared | None:
    """What is prepared already, raw files or not."""
    folder = prepared_folder(source, _rules(options))
    return prepare_source(source, _rules(options)) if read_manifest(folder) else None


def _stats(options: argparse.Namespace, screen: Console) -> None:
    _print(statistics(_dataset(options, screen)), options.json, screen)


def _audit(options: argparse.Namespace, screen: Console) -> None:
    dataset = _dataset(options, screen)
    _print(leak_shares(dataset.log, dataset.split), options.json, screen)


def _path(options: argparse.Namespace, screen: Console) -> None:
    folder, _ = _ready(_source(options), options)
    print(folder)


def _verify(options: argparse.Namespace, screen: Console) -> None:
    source = _source(options)
    folder, manifest = _ready(source, options)
    wrong = [f"{folder / name}: changed since it was written" for name in altered_files(folder, manifest)]
    missing = [Path(told["path"]) for told in manifest["source"]["files"] if not Path(told["path"]).exists()]
    for path in missing:
        screen.print(f"{path}: is gone; it is not missed until the data set is prepared by other rules", soft_wrap=True)
    if not missing and source.source_hash() != manifest["source"]["hash"]:
        wrong.append(f"{source.name}: the raw files are not those that it was prepared from")
    if wrong:
        raise UserError("\n".join([*wrong, f"run `synergen data prepare {options.dataset} --force`"]))
    screen.print(
        f"{len(manifest['files'])} prepared files and {len(manifest['source']['files'])} raw ones are as written"
    )


def _ready(source: Source, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    folder = prepared_folder(source, _rules(options))
    manifest = read_manifest(folder)
    if manifest is None:
        raise UserError(f"{source.name} is not prepared by these rules; run `synergen data prepare {options.dataset}`")
    return folder, manifest


def _source(options: argparse.Namespace) -> Source:
    """The data set in the variant that is asked for."""
    if options.variant is None:
        return find_source(options.dataset)
    variants = {recipe.variant: name for name, recipe in RECIPES.items() if recipe.name == options.dataset}
    if options.variant not in variants:
        known = ", ".join(variants) or "none"
        raise UserError(f"--variant {options.variant}: the variants of '{options.dataset}' are {known}")
    return find_source(variants[options.variant])


def _rules(options: argparse.Namespace) -> Rules:
    return Rules(
        options.search_share, Filter(options.filter), options.min_count, options.max_users, options.split == "time"
    )


def _dataset(options: argparse.Namespace, screen: Console) -> Dataset:
    source = _source(options)
    with bars(Console(stderr=True) if options.json else screen) as report:
        return load_dataset(
            options.dataset if options.variant is None else source.name,
            search_share=options.search_share,
            rule=Filter(options.filter),
            min_count=options.min_count,
            split=protocol_for(source, {"split": options.split})["split"],
            max_users=options.max_users,
            report=report,
        )


def _print(values: dict[str, Any], as_json: bool, screen: Console) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))
        return
    width = max(map(len, values)) + 2
    for name, value in values.items():
        line = f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
        screen.print(f"{name:<{width}}{line}", soft_wrap=True, markup=False)
