"""From a source and rules to a prepared folder of the cache."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from synergen.data.filters import Filter, apply_filter
from synergen.data.impressions import number_requests
from synergen.data.kinds import draw_kinds
from synergen.data.prepared import FORMAT, read_manifest, recall_sums, sha256_of, stamps, write_manifest, write_prepared
from synergen.data.queries import QueryTable, category_queries, title_queries
from synergen.data.recipe import Recipe, Report
from synergen.data.sampling import sample_users
from synergen.data.sources import OTHER_FILES, Source, provenance, silent
from synergen.data.twice import faithful_events
from synergen.errors import UserError
from synergen.events import EventLog, number_events
from synergen.files import cache_root, canonical_json, digest, locked, whole_folder
from synergen.raw import RawLog


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
        """As they apply: a recipe has a filter of its own, and some have no searches. What has no effect is left out,
        so that one folder serves all rules that come to the same."""
        rules, recipe = self, source.recipe
        if recipe is not None:
            own_count = recipe.min_count if recipe.rule is not Filter.NONE else self.min_count
            share = self.search_share if recipe.makes_queries and not recipe.purchases_twice else 0.0
            rules = replace(self, filter=Filter.NONE, min_count=own_count, search_share=share)
        counts = rules.filter is not Filter.NONE or rules.max_users is not None
        return rules if counts else replace(rules, min_count=0)


@dataclass(frozen=True)
class Prepared:
    """A data set on disk."""

    source: Source
    folder: Path
    manifest: dict[str, Any]


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
    counted = _published_counts(recipe, raw, source.files()) if recipe else {}
    raw = apply_filter(raw, rules.filter, rules.min_count)
    if rules.max_users is not None:
        raw = _sampled(raw, rules.max_users, rules.min_count)
    report("numbering and sorting", 0, 0)
    log, query_rule = numbered(raw, rules, recipe)
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


def _published_counts(recipe: Recipe, raw: RawLog, files: list[Path]) -> dict[str, Any]:
    """Lines of statistics: what was published of the result, and how ours differs."""
    raw_files = provenance(recipe, files)
    if recipe.published is None:
        return raw_files
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
    if differs and OTHER_FILES not in raw_files:
        lines["why counts differ"] = recipe.why_counts_differ or "not known; the raw files may be of another release"
    return lines | raw_files


def _sampled(raw: RawLog, max_users: int, min_count: int) -> RawLog:
    if raw.impressions is not None:
        raise UserError(
            f"{raw.name}: a sample of users would tear holes into what requests showed; simulate fewer users"
        )
    rows = sample_users(raw.user.codes, raw.item.codes, max_users, min_count, seed=0)
    label = f"events dropped by sampling {max_users:,} users or fewer"
    return replace(raw.only(rows), dropped=raw.dropped | {label: int(len(rows) - rows.sum())})


def numbered(raw: RawLog, rules: Rules, recipe: Recipe | None = None) -> tuple[EventLog, str]:
    """The log of filtered events, and the rule that made its queries."""
    if rules.by_request:
        if raw.impressions is None:
            raise no_impressions(raw.name)
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


def no_impressions(name: str) -> UserError:
    return UserError(
        f"{name}: a split at a point of time asks about what requests showed, and there are no "
        "impressions; use another split, or add impressions.parquet to the folder"
    )


def _make_queries(log: EventLog, vocabulary: frozenset[str] | None) -> QueryTable:
    if not any(log.categories):
        return title_queries(log.titles)
    return category_queries(log.categories, min_levels=1 if log.categories_are_flat else 2, vocabulary=vocabulary)
