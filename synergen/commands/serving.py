"""`synergen recommend`, `search`, `rank` and `explain`: a trained model asked for one user."""

import argparse
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from synergen.answers import Answer
from synergen.commands.common import DATASET, add_results_folder, command
from synergen.errors import UserError
from synergen.explain import attention, plot
from synergen.histories import seconds
from synergen.index import Kind
from synergen.raw import Columns, whole_seconds
from synergen.recommender import Recommender, Session
from synergen.serving import Asked

_LAST = 8
"""Events of the user that are shown."""


def add(commands: Any) -> None:
    """Add the four commands."""
    example = "synergen {} --run 0123456789ab --user 196"
    recommend = command(
        commands, "recommend", "what a user may want next", _recommend, example.format("recommend") + " --k 5"
    )
    recommend.add_argument("--query", help=argparse.SUPPRESS)  # to be refused with a pointer
    search = command(
        commands, "search", "what a user may want for a query", _search, example.format("search") + " --query comedy"
    )
    search.add_argument("--query", required=True, help="what the user looks for")
    rank = command(
        commands, "rank", "given items in the order of a user's wants", _rank, example.format("rank") + " --items 1,50"
    )
    rank.add_argument("--items", required=True, metavar="A,B,C", help="ids of the items, separated by commas")
    explain = command(
        commands,
        "explain",
        "a picture of the past events that an answer attended to",
        _explain,
        example.format("explain") + " --item 50 --output attention.png",
    )
    explain.add_argument("--item", help="explain the probability of this item; default: what retrieval looks for")
    explain.add_argument("--output", type=Path, required=True, metavar="FILE", help="a .png, .pdf or .svg file")
    for made in (rank, explain):
        made.add_argument("--query", help="what the user looks for; without it the user browses")
    for made in (recommend, search):
        made.add_argument("--k", type=int, default=10, help="number of items")
        made.add_argument(
            "--index", default="flat", choices=get_args(Kind), help="exact search, or an approximate index"
        )
    for made in (recommend, search, rank, explain):
        made.add_argument("--run", required=True, metavar="ID", help="id of a run, or a folder of model files")
        made.add_argument("--user", help="a user of the run's data set")
        made.add_argument(
            "--history", type=Path, metavar="FILE", help="in place of --user: parquet or csv with item, ts"
        )
        made.add_argument("--dataset", help=f"the run's data set, where it is not built in: {DATASET}")
        made.add_argument("--at", help="Unix seconds or ISO date of the request; default: just after the last event")
        add_results_folder(made)


@dataclass(frozen=True)
class _User:
    """Who is answered for, and when."""

    name: str
    session: Session
    events: pd.DataFrame  # columns item, ts and, where known, action and query
    at: int | None


def _recommend(options: argparse.Namespace, screen: Console) -> None:
    if options.query is not None:
        raise UserError("recommend takes no query; to look for something use: synergen search --query ...")
    user, recommender = _open(options)
    _show(user.session.recommend(options.k, at=user.at), user, recommender, options, screen)


def _search(options: argparse.Namespace, screen: Console) -> None:
    user, recommender = _open(options)
    _show(user.session.search(options.query, options.k, at=user.at), user, recommender, options, screen)


def _rank(options: argparse.Namespace, screen: Console) -> None:
    user, recommender = _open(options)
    candidates = [item.strip() for item in options.items.split(",") if item.strip()]
    _show(user.session.rank(candidates, options.query, at=user.at), user, recommender, options, screen)


def _explain(options: argparse.Namespace, screen: Console) -> None:
    user, recommender = _open(options)
    served, past = recommender.served, user.session.past
    item = None if options.item is None else served.item_number(options.item)
    requests = served.requests([past], Asked([user.at], None if options.query is None else [options.query]))
    found = attention(served.model, user.session.encoded, requests, item)
    read = found.events.shape[1]
    first = len(past) - read
    labels = [
        f"{shorten(served.titles[number] or str(served.ids[number]), 40, placeholder='…')}   {_date(time)}"
        for number, time in zip(past.items[first:], past.times[first:], strict=True)
    ]
    asked = "browsing" if options.query is None else f"looking for “{options.query}”"
    token = "retrieval token" if item is None else f"ranking token of {served.titles[item] or options.item}"
    plot(options.output, found, labels, f"{user.name}, {asked}, {_date(int(requests.times))}\n{token}")
    values = {"run": served.saved.spec.id, "output": str(options.output), "events": read}
    screen.print(json.dumps(values) if options.json else f"{options.output}: attention to {read} events", markup=False)


def _open(options: argparse.Namespace) -> tuple[_User, Recommender]:
    if (options.user is None) == (options.history is None):
        raise UserError("say for whom: --user U of the run's data set, or --history FILE")
    recommender = Recommender.load(options.run, options.out, getattr(options, "index", "flat"))
    at = None if options.at is None else _seconds(options.at)
    if options.history is not None:
        name, events = str(options.history), _read(options.history)
    else:
        name, events = f"user {options.user}", _events_of(options.user, options.dataset, recommender)
    if at is not None:
        events = events[events[Columns.TIME] <= at]
    session = recommender.open(events)
    return _User(name, session, events, at), recommender


def _events_of(user: str, dataset: str | None, recommender: Recommender) -> pd.DataFrame:
    """All events of a user of the run's data set."""
    from benchmarks.inputs import load_for

    saved = recommender.served.saved
    source = dataset or saved.spec.dataset
    log = load_for(source, saved.spec.protocol).log
    saved.refuse_other_items(log.item_ids, source)
    found = [number for number, name in enumerate(log.user_ids) if str(name) == user]
    if not found:
        raise UserError(f"{source} has no user '{user}'; its {log.n_users:,} users are like '{log.user_ids[0]}'")
    own = slice(log.offsets[found[0]], log.offsets[found[0] + 1])
    return pd.DataFrame(
        {
            Columns.ITEM: log.item_ids[log.items[own]],
            Columns.TIME: log.times[own],
            Columns.ACTION: [log.action_names[action] for action in log.actions[own]],
            Columns.QUERY: [log.query_texts[query] or None for query in log.query_trail[own]],
        }
    )


def _read(path: Path) -> pd.DataFrame:
    """A history with its times as Unix seconds."""
    try:
        events = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
        return events.assign(**{Columns.TIME: whole_seconds(events[Columns.TIME], str(path))})
    except UserError:
        raise
    except Exception as error:  # pyarrow and pandas raise a dozen kinds
        raise UserError(f"{path}: cannot be read ({error!r}); give a parquet or csv file with item and ts") from error


def _seconds(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else seconds(datetime.fromisoformat(text), "--at")
    except ValueError as error:
        raise UserError(f"--at {text}: give Unix seconds or a date such as 2014-07-01T12:00") from error


def _show(answer: Answer, user: _User, recommender: Recommender, options: argparse.Namespace, screen: Console) -> None:
    served = recommender.served
    if options.json:
        items = answer.to_frame().to_dict("records")
        print(json.dumps({"run": served.saved.spec.id, "items": items, "skipped": answer.skipped}, ensure_ascii=False))
        return
    columns = [
        name for name in (Columns.ACTION, Columns.QUERY) if name in user.events and user.events[name].notna().any()
    ]
    shown = user.events.tail(_LAST)
    past = Grid("when", "what", *columns, title=f"{user.name}: the last {len(shown)} of {len(user.events)} events")
    for event in shown.to_dict("records"):
        number = served.numbering.item(event[Columns.ITEM])
        title = "(unknown item)" if number is None else served.titles[number]
        rest = ["" if pd.isna(event[name]) else str(event[name]) for name in columns]
        past.add_row(_date(event[Columns.TIME]), escape(title or str(event[Columns.ITEM])), *map(escape, rest))
    screen.print(past)
    wish = f"for “{escape(options.query)}”" if options.query else "next"
    best = Grid("", "title", "item", "score", "probability", title=f"{len(answer)} items {wish}")
    for place, one in enumerate(answer, start=1):
        probability = "" if one.probability is None else f"{one.probability:.3f}"
        best.add_row(str(place), escape(one.title), escape(str(one.item)), f"{one.score:.3f}", probability)
    screen.print(best)
    if answer.skipped:
        screen.print(f"{answer.skipped} events of unknown items were not read")


def _date(time: Any) -> str:
    return f"{datetime.fromtimestamp(int(time), UTC):%Y-%m-%d %H:%M}"
