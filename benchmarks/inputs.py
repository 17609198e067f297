"""What a run reads, by its specification: the prepared data set, and text vectors where its model asks for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from baselines.registry import model_class
from benchmarks.planning.counts import counts_of
from benchmarks.references import REFERENCES
from synergen.contract import Task
from synergen.data.dataset import Dataset, load_dataset
from synergen.data.filters import Filter
from synergen.data.harder_queries import HarderQueries, frequent_words, harder_queries, like_words
from synergen.data.preparation import Rules, prepare_source, prepared_folder
from synergen.data.prepared import read_manifest
from synergen.data.queries import words_of
from synergen.data.recipe import Published
from synergen.data.sources import find_source
from synergen.errors import UserError
from synergen.runs import RunSpec
from synergen.text import Encoder, TextVectors, encode_catalogue


def tasks_of_run(spec: RunSpec) -> list[Task]:
    """The tasks that a run is trained and tested on."""
    return list(Task) if spec.task == "joint" else [Task(spec.task)]


def prepare_for(source: str, protocol: Mapping[str, Any], report: Callable[[str, int, int], None]) -> None:
    """Make the data set of a protocol, if it is not there.

    Raises:
        UserError: there is no such data set, or its data are bad.
    """
    prepare_source(find_source(source), _rules(protocol), report)


@dataclass(frozen=True)
class Known:
    """What decides how large the tables of a model are."""

    items: int
    users: int = 0
    queries: tuple[str, ...] = ()


def known_of(source: str, protocol: Mapping[str, Any]) -> Known | None:
    """Of a data set without reading its log: as it was prepared for this protocol or, without its queries, as its
    recipe or a file of counts states it.

    Raises:
        UserError: a file of counts that is not right.
    """
    try:
        found = find_source(source)
    except UserError:
        counts = counts_of(source)
        return Known(counts.items, counts.users) if counts else None
    folder = prepared_folder(found, _rules(protocol))
    manifest = read_manifest(folder)
    if manifest:
        queries = pl.read_parquet(folder / "queries.parquet")["query"].to_list()
        return Known(manifest["counts"]["items"], manifest["counts"]["users"], tuple(queries))
    published = found.recipe.published if found.recipe else None
    return Known(published.items, published.users) if published else None


def prepared_for(source: str, protocol: Mapping[str, Any]) -> Path | None:
    """The folder of a data set as this protocol wants it, where it has been prepared."""
    try:
        folder = prepared_folder(find_source(source), _rules(protocol))
    except UserError:
        return None
    return folder if read_manifest(folder) else None


def published_of(source: str) -> Published | None:
    """The counts that a recipe states of its data set."""
    try:
        recipe = find_source(source).recipe
    except UserError:
        return None
    return recipe.published if recipe else None


def _rules(protocol: Mapping[str, Any]) -> Rules:
    return Rules(
        protocol["search_share"],
        Filter(protocol["filter"]),
        protocol["min_count"],
        protocol.get("max_users"),
        protocol["split"] == "time",
    )


def load_for(source: str, protocol: Mapping[str, Any]) -> Dataset:
    """The data set as `protocol` wants it, kept for the next run of this process.

    Raises:
        UserError: there is no such data set, or its data are bad.
    """
    keys = ("search_share", "filter", "min_count", "split")
    return _load(source, *(protocol[key] for key in keys), protocol.get("max_users"))


@lru_cache(maxsize=2)
def _load(source: str, search_share: float, rule: str, min_count: int, split: str, max_users: int | None) -> Dataset:
    return load_dataset(
        source,
        search_share=search_share,
        rule=Filter(rule),
        min_count=min_count,
        split=split,
        max_users=max_users,
    )


def reads_text(spec: RunSpec) -> bool:
    """Whether the model of a run, of these settings and for these tasks, asks for text vectors."""
    if spec.model in REFERENCES:
        return False
    return model_class(spec.model).reads_text(spec.settings, frozenset(tasks_of_run(spec)))


def vectors_for(
    spec: RunSpec, dataset: Dataset, progress: Callable[[int, int], None] | None = None
) -> TextVectors | None:
    """(V + 1, width) of items and (Q + 1, width) of queries by the protocol's frozen encoder, from its cache where it
    has them; None where the run's model reads no text.

    Raises:
        UserError: the encoder cannot be loaded, or gives vectors that are not finite.
    """
    if not reads_text(spec):
        return None
    return encode_catalogue(dataset.item_texts(), dataset.log.query_texts, spec.protocol["encoder"], progress=progress)


def harder_queries_for(
    spec: RunSpec, dataset: Dataset, progress: Callable[[int, int], None] | None = None
) -> tuple[HarderQueries, np.ndarray | None]:
    """Harder versions of a data set's queries, and vectors (Q' + 1, width) of them all where the run's model reads
    text. Like words are neighbours under the protocol's frozen encoder.

    Raises:
        UserError: the encoder cannot be loaded, or gives vectors that are not finite.
    """
    texts, items, encoder = dataset.log.query_texts, dataset.item_texts(), spec.protocol["encoder"]
    words, known = sorted({word for text in texts for word in words_of(text)}), frequent_words(items)
    whole = replace(Encoder.parse(encoder), dimensions=None)
    vectors = encode_catalogue([*known, *words], [], whole, progress=progress).items
    harder = harder_queries(texts, like_words(words, vectors[len(known) :], known, vectors[: len(known)]))
    if not reads_text(spec):
        return harder, None
    return harder, encode_catalogue(items, harder.texts, encoder, progress=progress).queries
