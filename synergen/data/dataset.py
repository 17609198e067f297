"""A data set by name or folder, ready for a protocol."""

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from synergen.contract import DataView, Task
from synergen.data.filters import Filter, apply_filter
from synergen.data.impressions import number_requests
from synergen.data.kinds import draw_kinds
from synergen.data.prepared import (
    FORMAT,
    altered_files,
    read_manifest,
    read_prepared,
    recall_sums,
    sha256_of,
    stamps,
    write_manifest,
    write_prepared,
)
from synergen.data.queries import QueryTable, category_queries, title_queries
from synergen.data.recipe import Recipe, Report
from synergen.data.sampling import sample_users
from synergen.data.sources import Source, find_source, silent, unpublished_files
from synergen.data.splits import EventSplit, Part, Split, TimeSplit, parse_split
from synergen.data.twice import faithful_events
from synergen.errors import UserError
from synergen.events import EventLog, number_events
from synergen.files import cache_root, canonical_json, digest, locked, whole_folder
from synergen.raw import RawLog

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rules:
    """What is done to a source before it is split."""

    search_share: float = 0.5
    """Share of past events drawn as searches, where the source has no queries of its own."""
    filter: Filter = Filter.NONE
    min_count: int = 5
    max_users: int | None = None
    """A sample of so many users at most that keeps `min_count` events of each user and item; see data.sampling."""
    by_request: bool = False
    """Whether events are grouped by the requests of a log with impressions, which a split by time asks about."""

    def for_source(self, source: Source) -> "Rules":
        """As they apply: a recipe has a filter of its own, and some have no searches."""
        recipe = source.recipe
        if recipe is None:
            return self
        share = self.search_share if recipe.makes_queries and not recipe.purchases_twice else 0.0
        return replace(self, filter=Filter.NONE, min_count=max(recipe.min_count, 1), search_share=share)


@dataclass(frozen=True)
class Prepared:
    """A data set on disk."""

    source: Source
    folder: Path
    manifest: dict[str, Any]


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
        raise _no_impressions(source.name)
    rules = Rules(search_share, rule, min_count, max_users, by_request=split == "time")
    ready = prepare_source(source, rules, report)
    altered = altered_files(ready.folder, ready.manifest)
    if altered:
        _log.warning("%s: %s changed since it was prepared; it is prepared again", ready.folder, ", ".join(altered))
        ready = prepare_source(source, rules, report, again=True)
    log = read_prepared(ready.folder, ready.manifest)
    return Dataset(log, make_split(split, log), ready.manifest["query_rule"], ready.manifest["about"])


def prepare_source(source: Source, rules: Rules, report: Report = silent, *, again: bool = False) -> Prepared:
    """A data set made by rules, on disk in the cache: made now, by one process, if it is not there, or if its raw files
    changed. Raw files that are gone are not missed.

    Args:
        again: make it whatever is there.

    Raises:
        UserError: a raw file is missing or bad, nothing is left by the rules, or the cache cannot be written.
    """
    rules = rules.for_source(source)
    folder = prepared_folder(source, rules)
    ready = None if again else _still_good(source, folder)
    if ready is None:
        source.files()  # missing ones are told of before anything is locked
        with locked(folder):
            ready = None if again else _still_good(source, folder)  # another process may have been first
            if ready is None:
                ready = _prepare(source, rules, folder, report)
    return ready


def prepared_folder(source: Source, rules: Rules) -> Path:
    """Where a data set is, or would be, prepared."""
    told = {**asdict(rules.for_source(source)), "source": source.identity, "format": FORMAT}
    return cache_root() / "prepared" / source.name / digest(canonical_json(told))[:16]


def source_hash(source: Source) -> str:
    """SHA-256 of the source files: from a manifest, where there is one that fits them or where they are gone."""
    for folder in (cache_root() / "prepared" / source.name).glob("*"):
        manifest = read_manifest(folder)
        if manifest and manifest["source"]["identity"] == source.identity and _stamped(source, manifest):
            return manifest["source"]["hash"]
    return source.source_hash()


def _still_good(source: Source, folder: Path) -> Prepared | None:
    """What is prepared, where it is of the source files as they are."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    recall_sums(manifest)
    if not _stamped(source, manifest):
        if source.source_hash() != manifest["source"]["hash"]:
            return None
        manifest["source"]["files"] = _told_of(source)  # copied or touched, and the same inside
        write_manifest(folder, manifest)
    return Prepared(source, folder, manifest)


def _stamped(source: Source, manifest: Mapping[str, Any]) -> bool:
    """Whether no source file was touched since, or none is there any more."""
    try:
        now = stamps(source.files())
    except UserError:
        return True
    return now == [{key: told[key] for key in now[0]} for told in manifest["source"]["files"]]


def _told_of(source: Source) -> list[dict[str, Any]]:
    """What a manifest tells of the raw files; checksums of published ones, which can be large."""
    files = source.files()
    sums = [{"sha256": sha256_of(path)} for path in files] if source.recipe else [{}] * len(files)
    return [stamp | told for stamp, told in zip(stamps(files), sums, strict=True)]


def _prepare(source: Source, rules: Rules, folder: Path, report: Report) -> Prepared:
    start = time.perf_counter()
    files, made_from = _told_of(source), source.source_hash()
    recipe = source.recipe
    raw = replace(source.load(report), name=source.name)
    counted = _published_counts(recipe, raw) | unpublished_files(recipe, source.files()) if recipe else {}
    raw = apply_filter(raw, rules.filter, rules.min_count)
    if rules.max_users is not None:
        raw = _sampled(raw, rules.max_users, rules.min_count)
    report("numbering and sorting", 0, 0)
    log, query_rule = _numbered(raw, rules, recipe)
    manifest: dict[str, Any] = {
        "name": source.name,
        "about": counted,
        "source": {"about": source.about, "identity": source.identity, "hash": made_from, "files": files},
        **({"licence": recipe.licence, "downloads": [asdict(one) for one in recipe.downloads]} if recipe else {}),
        "rules": asdict(rules),
        "query_rule": query_rule,
    }
    report("writing", 0, 0)
    with whole_folder(folder) as partial:
        manifest["seconds"] = round(time.perf_counter() - start, 2)
        complete = write_prepared(partial, log, manifest)
    return Prepared(source, folder, complete)


def _published_counts(recipe: Recipe, raw: RawLog) -> dict[str, Any]:
    """Lines of statistics: what was published of the result, and how ours differs."""
    if recipe.published is None:
        return {}
    theirs = recipe.published
    ours = {
        "users": int((raw.user.counts > 0).sum()),
        "items": int((raw.item.counts > 0).sum()),
        "events": len(raw),
    }
    lines: dict[str, Any] = {}
    differs = False
    for name, count in ours.items():
        published = getattr(theirs, name)
        if published is not None:
            off = count - published
            differs |= off != 0
            lines[f"{name}, published"] = f"{published:,}, {'as here' if not off else f'here {count:,} ({off:+,})'}"
    lines["published in"] = theirs.source
    if differs:
        lines["why counts differ"] = recipe.why_counts_differ or "not known; the raw files may be of another release"
    return lines


def _sampled(raw: RawLog, max_users: int, min_count: int) -> RawLog:
    if raw.impressions is not None:
        raise UserError(
            f"{raw.name}: a sample of users would tear holes into what requests showed; simulate fewer users"
        )
    rows = sample_users(raw.user.codes, raw.item.codes, max_users, min_count, seed=0)
    label = f"events dropped by sampling {max_users:,} users or fewer"
    return replace(raw.only(rows), dropped=raw.dropped | {label: int(len(rows) - rows.sum())})


def prepare(raw: RawLog, search_share: float, split: str = "leave-one-out") -> Dataset:
    """A data set from validated and filtered tables, in memory.

    Raises:
        UserError: a split at a point of time of a log without impressions.
    """
    log, query_rule = _numbered(raw, Rules(search_share, by_request=split == "time"))
    return Dataset(log, make_split(split, log), query_rule)


def make_split(name: str, log: EventLog) -> Split:
    """See `synergen.data.splits.parse_split`; `time` is for logs with impressions."""
    return TimeSplit(log) if name == "time" else parse_split(name, log)


def split_for(source: Source, asked: str) -> str:
    """The split asked for; leave-one-out of data in which every purchase stands twice is done by task."""
    twice = source.recipe is not None and source.recipe.purchases_twice
    return "per-task" if twice and asked == "leave-one-out" else asked


def _numbered(raw: RawLog, rules: Rules, recipe: Recipe | None = None) -> tuple[EventLog, str]:
    """The log of filtered events, and the rule that made its queries."""
    if rules.by_request:
        if raw.impressions is None:
            raise _no_impressions(raw.name)
        return number_requests(raw), "the queries of the log itself"
    log = number_events(raw)
    if len(log.query_texts) > 1:
        return log, "the queries of the log itself"
    if recipe is not None and not recipe.makes_queries:
        return log, "none: this data set is for recommendation alone"
    table = _make_queries(log, raw.vocabulary)
    if recipe is not None and recipe.purchases_twice:
        return faithful_events(log, table), table.rule
    return draw_kinds(log, table, rules.search_share), table.rule


def _no_impressions(name: str) -> UserError:
    return UserError(
        f"{name}: a split at a point of time asks about what requests showed, and there are no "
        "impressions; use another split, or add impressions.parquet to the folder"
    )


def _make_queries(log: EventLog, vocabulary: frozenset[str] | None) -> QueryTable:
    if not any(log.categories):
        return title_queries(log.titles)
    return category_queries(log.categories, min_levels=1 if log.categories_are_flat else 2, vocabulary=vocabulary)


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
