"""A data set by name or folder, ready for a protocol."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from synergen.contract import DataView
from synergen.data import sessions
from synergen.data.filters import Filter, apply_filter
from synergen.data.folder import folder_files, load_folder
from synergen.data.impressions import number_requests
from synergen.data.kinds import draw_kinds
from synergen.data.movielens import load_ml_100k, ml_100k_files
from synergen.data.queries import QueryTable, category_queries, title_queries
from synergen.data.splits import LeaveOneOut, Part, Split, TimeSplit
from synergen.errors import UserError, unknown_name
from synergen.events import EventLog, RawLog, number_events
from synergen.files import digest, digest_files


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    name: str
    about: str
    files: Callable[[], list[Path]]
    load: Callable[[], RawLog]
    simulator: str | None = None
    """What a simulated data set is a function of; None where there are real files."""

    def source_hash(self) -> str:
        """SHA-256 of the source files, for recognising a data set without parsing it."""
        return digest_files(self.files()) if self.simulator is None else digest(self.simulator)


BUILT_IN = {
    "ml-100k": Source("ml-100k", "MovieLens 100K, shipped inside the recbole package", ml_100k_files, load_ml_100k),
}


_SESSIONS = re.compile(r"sessions(?:-(\d+)(k?))?")


def _sessions(name: str) -> Source:
    """The simulated shop: `sessions` has 10,000 users, `sessions-N` and `sessions-Nk` as many as they say."""
    number, thousands = cast(re.Match[str], _SESSIONS.fullmatch(name)).groups()
    users = 10_000 if number is None else int(number) * (1000 if thousands else 1)
    return Source(
        f"sessions-{users // 1000}k" if users % 1000 == 0 else f"sessions-{users}",
        f"simulated shop of {users:,} users with search, feed, impressions, clicks and purchases",
        lambda: folder_files(sessions.folder_for(users)),
        lambda: load_folder(sessions.folder_for(users)),
        f"sessions {sessions.VERSION}, {users} users, seed 0",
    )


def find_source(name_or_folder: str) -> Source:
    """The built-in data set of that name, `sessions` or `sessions-N` (N users, 50k = 50,000), or the folder at that
    path.

    Raises:
        UserError: neither exists.
    """
    if name_or_folder in BUILT_IN:
        return BUILT_IN[name_or_folder]
    if _SESSIONS.fullmatch(name_or_folder):
        return _sessions(name_or_folder)
    folder = Path(name_or_folder)
    if folder.is_dir():
        name = folder.resolve().name
        return Source(name, f"folder {folder}", lambda: folder_files(folder), lambda: load_folder(folder))
    if "/" in name_or_folder or "\\" in name_or_folder:
        raise UserError(f"data set folder {name_or_folder} does not exist; give a folder with interactions.parquet")
    raise unknown_name("data set", name_or_folder, BUILT_IN, where="the built-in ones (a folder is given by its path)")


@dataclass(frozen=True)
class Dataset:
    """A log, its split, and the rule that made its queries."""

    log: EventLog
    split: Split
    query_rule: str

    def item_texts(self) -> list[str]:
        """(V + 1) what is known of each item in words: title, then category names."""
        return [item_text(t, c) for t, c in zip(self.log.titles, self.log.categories, strict=True)]

    def view(self, item_vectors: np.ndarray | None, query_vectors: np.ndarray | None) -> DataView:
        """What a model may see before training."""
        return DataView(
            n_items=self.log.n_items,
            n_queries=len(self.log.query_texts) - 1,
            n_actions=len(self.log.action_names) - 1,
            item_texts=self.item_texts(),
            query_texts=self.log.query_texts,
            item_counts=self.split.item_counts(),
            item_vectors=item_vectors,
            query_vectors=query_vectors,
        )


def item_text(title: str, categories: list[list[str]]) -> str:
    """What is known of an item in words: its title, then its category names."""
    names = dict.fromkeys(name for path in categories for name in path)
    return ". ".join(part for part in (title, " ".join(names)) if part)


def load_dataset(
    name_or_folder: str,
    *,
    search_share: float,
    rule: Filter = Filter.NONE,
    min_count: int = 5,
    split: str = "leave-one-out",
) -> Dataset:
    """Read, filter, number, give queries, split.

    Args:
        search_share: share of past events drawn as searches, where the source has no queries of its own.
        rule, min_count: see synergen.data.filters.
        split: leave-one-out, or time, which asks about what requests showed.
    """
    return prepare(apply_filter(find_source(name_or_folder).load(), rule, min_count), search_share, split)


def prepare(raw: RawLog, search_share: float, split: str = "leave-one-out") -> Dataset:
    """A data set from validated and filtered tables.

    Raises:
        UserError: a split at a point of time of a log without impressions.
    """
    if split == "time":
        if raw.impressions is None:
            raise UserError(
                f"{raw.name}: a split at a point of time asks about what requests showed, and there are no "
                "impressions; use the leave-one-out split, or add impressions.parquet to the folder"
            )
        shown = number_requests(raw)
        return Dataset(shown, TimeSplit(shown), "the queries of the log itself")
    log = number_events(raw)
    if len(log.query_texts) > 1:
        return Dataset(log, LeaveOneOut(log), "the queries of the log itself")
    table = _make_queries(log)
    log = draw_kinds(log, table, search_share)
    return Dataset(log, LeaveOneOut(log), table.rule)


def _make_queries(log: EventLog) -> QueryTable:
    if not any(log.categories):
        return title_queries(log.titles)
    return category_queries(log.categories, min_levels=1 if log.categories_are_flat else 2)


def statistics(dataset: Dataset) -> dict[str, Any]:
    """What `synergen data stats` prints: sizes, times, queries, what was dropped."""
    log, split = dataset.log, dataset.split
    lengths = np.diff(log.offsets)
    same_user = np.diff(log.users) == 0
    items_with_query = np.unique(log.items[log.queries > 0])
    return {
        "users": log.n_users,
        "items": log.n_items,
        "events": log.n_events,
        "events a user, median": float(np.median(lengths)),
        "events a user, most": int(lengths.max()),
        "items never trained on": int((split.item_counts()[1:] == 0).sum()),
        "items without text": sum(not text for text in dataset.item_texts()[1:]),
        "actions": ", ".join(log.action_names[1:]),
        "neighbouring events at the same time": float((np.diff(log.times)[same_user] == 0).mean()),
        "query rule": dataset.query_rule,
        "distinct queries": len(log.query_texts) - 1,
        "items without a query": 1 - len(items_with_query) / log.n_items,
        "events drawn as search": float(log.searched.mean()),
        **_what_is_asked(log, split),
        **log.dropped,
    }


def _what_is_asked(log: EventLog, split: Split) -> dict[str, Any]:
    if isinstance(split, LeaveOneOut):
        return {"test users asked by search": float((log.queries[split.targets(Part.TEST)] > 0).mean())}
    shown, parts = split.impressions, split.part_of_request()
    return {
        "requests": len(shown),
        "requests by search": float((shown.queries > 0).mean()),
        "requests in which something was chosen": float((shown.outcomes > 0).any(1).mean()),
        "items shown by a request, mean": float((shown.items > 0).sum(1).mean()),
        "requests of training, validation, test": ", ".join(f"{n:,}" for n in np.bincount(parts, minlength=3)),
    }
