"""A data set by name or folder, ready for a protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synergen.contract import DataView
from synergen.data.filters import Filter, apply_filter
from synergen.data.folder import folder_files, load_folder
from synergen.data.kinds import draw_kinds
from synergen.data.movielens import load_ml_100k, ml_100k_files
from synergen.data.queries import QueryTable, category_queries, title_queries
from synergen.data.splits import LeaveOneOut
from synergen.errors import UserError, unknown_name
from synergen.events import EventLog, RawLog, number_events
from synergen.files import digest_files


@dataclass(frozen=True)
class Source:
    """Where a data set comes from."""

    name: str
    about: str
    files: Callable[[], list[Path]]
    load: Callable[[], RawLog]

    def source_hash(self) -> str:
        """SHA-256 of the source files, for recognising a data set without parsing it."""
        return digest_files(self.files())


BUILT_IN = {
    "ml-100k": Source("ml-100k", "MovieLens 100K, shipped inside the recbole package", ml_100k_files, load_ml_100k),
}


def find_source(name_or_folder: str) -> Source:
    """The built-in data set of that name, or the folder at that path.

    Raises:
        UserError: neither exists.
    """
    if name_or_folder in BUILT_IN:
        return BUILT_IN[name_or_folder]
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
    split: LeaveOneOut
    query_rule: str

    def item_texts(self) -> list[str]:
        """(V + 1) what is known of each item in words: title, then category names."""
        return [_item_text(t, c) for t, c in zip(self.log.titles, self.log.categories, strict=True)]

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


def _item_text(title: str, categories: list[list[str]]) -> str:
    names = dict.fromkeys(name for path in categories for name in path)
    return ". ".join(part for part in (title, " ".join(names)) if part)


def load_dataset(
    name_or_folder: str, *, search_share: float, rule: Filter = Filter.NONE, min_count: int = 5
) -> Dataset:
    """Read, filter, number, give queries, split.

    Args:
        search_share: share of past events drawn as searches, where the source has no queries of its own.
        rule, min_count: see synergen.data.filters.
    """
    return prepare(apply_filter(find_source(name_or_folder).load(), rule, min_count), search_share)


def prepare(raw: RawLog, search_share: float) -> Dataset:
    """A data set from validated and filtered tables."""
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
    asked = log.queries[log.offsets[1:] - 1] > 0
    queries = log.queries[log.queries > 0]
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
        "distinct queries": len(np.unique(queries)),
        "items without a query": 1 - len(items_with_query) / log.n_items,
        "events drawn as search": float(log.searched.mean()),
        "test users asked by search": float(asked.mean()),
        **log.dropped,
    }
