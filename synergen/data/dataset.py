"""A data set by name or folder, ready for a protocol."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synergen.contract import DataView, Task
from synergen.data.filters import Filter
from synergen.data.preparation import Rules, no_impressions, numbered, prepare_source
from synergen.data.prepared import altered_files, read_prepared
from synergen.data.recipe import Report
from synergen.data.sources import Source, find_source, silent
from synergen.data.splits import EventSplit, Part, Split, TimeSplit, parse_split
from synergen.events import EventLog
from synergen.raw import RawLog

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """A log, its split, and the rule that made its queries."""

    log: EventLog
    split: Split
    query_rule: str
    about: Mapping[str, Any] = field(default_factory=dict)
    """Further lines of its statistics, such as published counts and how these differ."""

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
            n_users=self.log.n_users,
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
    max_users: int | None = None,
    report: Report = silent,
) -> Dataset:
    """A data set as `Rules` and a split make it, prepared if it is not yet; its checksums are verified.

    Args:
        split: see synergen.data.splits.parse_split; or time, which asks about what requests showed.

    Raises:
        UserError: the data set or the split does not exist, bad data, or prepared data that were altered and whose
            raw files are gone.
    """
    source = find_source(name_or_folder)
    if split == "time" and not source.has_impressions:
        raise no_impressions(source.name)
    rules = Rules(search_share, rule, min_count, max_users, by_request=split == "time")
    ready = prepare_source(source, rules, report)
    altered = altered_files(ready.folder, ready.manifest)
    if altered:
        _log.warning("%s: %s changed since it was prepared; it is prepared again", ready.folder, ", ".join(altered))
        ready = prepare_source(source, rules, report, again=True)
    log = read_prepared(ready.folder, ready.manifest)
    return Dataset(log, make_split(split, log), ready.manifest["query_rule"], ready.manifest["about"])


def prepare(raw: RawLog, search_share: float, split: str = "leave-one-out") -> Dataset:
    """A data set from validated and filtered tables, in memory.

    Raises:
        UserError: a split at a point of time of a log without impressions.
    """
    log, query_rule = numbered(raw, Rules(search_share, by_request=split == "time"))
    return Dataset(log, make_split(split, log), query_rule)


def make_split(name: str, log: EventLog) -> Split:
    """See `synergen.data.splits.parse_split`; `time` is for logs with impressions."""
    return TimeSplit(log) if name == "time" else parse_split(name, log)


def protocol_for(source: Source, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A protocol as it applies to a data set: a recipe has a filter of its own, and where every purchase stands twice,
    leave-one-out is done by task."""
    recipe = source.recipe
    if recipe is None:
        return dict(asked)
    effective = {**asked, "filter": str(recipe.rule)}
    if recipe.rule is not Filter.NONE:
        effective["min_count"] = recipe.min_count
    if recipe.purchases_twice and asked.get("split") == "leave-one-out":
        effective["split"] = "per-task"
    return effective


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
        **dataset.about,
    }


def _what_is_asked(log: EventLog, split: Split) -> dict[str, Any]:
    if isinstance(split, EventSplit):
        asked = {task: split.questions(Part.TEST, task) for task in Task}
        return {
            f"test users asked {'by search' if task is Task.SEARCH else 'for recommendations'}": len(
                np.unique(log.users[events])
            )
            / log.n_users
            for task, events in asked.items()
        }
    shown, parts = split.impressions, split.part_of_request()
    return {
        "requests": len(shown),
        "requests by search": float((shown.queries > 0).mean()),
        "requests in which something was chosen": float((shown.outcomes > 0).any(1).mean()),
        "items shown by a request, mean": float((shown.items > 0).sum(1).mean()),
        "requests of training, validation, test": ", ".join(f"{n:,}" for n in np.bincount(parts, minlength=3)),
    }
