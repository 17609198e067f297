"""What is known of a published data set: its raw files, how they are read, which events stay, and what was counted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from synergen.data.filters import Filter

Report = Callable[[str, int, int], None]
"""Called with what is being done, how much is done, and how much there is."""


@dataclass(frozen=True)
class Download:
    """A file that the data set's publishers offer."""

    name: str
    """In the raw folder."""
    url: str
    sha256: str | None = None
    """Pinned where it is known; else that of the first download is recorded and expected from then on."""
    needed: bool = True
    """False where the data set can be made without it, such as item texts where ids are all that is read."""


@dataclass(frozen=True)
class RawFiles:
    """The files of a raw folder that a recipe reads."""

    events: tuple[Path, ...]
    """Files that add up; events of equal user and time are taken in the order of the files."""
    about_items: tuple[Path, ...] = ()

    @property
    def all(self) -> tuple[Path, ...]:
        return tuple(dict.fromkeys(self.events + self.about_items))  # a zip may hold both


@dataclass(frozen=True)
class RawEvents:
    """Events as one raw file gives them.

    `table` has, in the order of the file, user and item (strings or integers), ts (Int64 Unix seconds), and where
    known action (String or Categorical), query (String, "" for none) and request.
    """

    table: pl.DataFrame
    notes: dict[str, int] = field(default_factory=dict)
    """What was odd and how often, such as lines that were left out."""
    vocabulary: frozenset[str] | None = None
    """Words that queries may hold, where the rule that makes them says so."""


@dataclass(frozen=True)
class RawItems:
    """What is known of items: item, title (String) and categories (lists of paths, root first), where known."""

    table: pl.DataFrame
    notes: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """Counts that a paper or its code prints for the result."""

    users: int
    items: int
    events: int | None
    source: str


@dataclass(frozen=True)
class Recipe:
    """One variant of a data set, from raw files to the events that stay."""

    name: str
    variant: str
    about: str
    licence: str
    downloads: tuple[Download, ...]
    find: Callable[[Path], RawFiles]
    """The files in a raw folder; raises UserError that says which one is missing, and how to get it."""
    read_events: Callable[[Path, Report], RawEvents]
    read_items: Callable[[Sequence[Path], pl.Series, Report], RawItems] | None = None
    """From the files about items and the items that have events."""
    rule: Filter = Filter.NONE
    min_count: int = 1
    published: Published | None = None
    why_counts_differ: str = ""
    """Where they are known to, in a sentence."""
    action_is_outcome: bool = False
    categories_are_flat: bool = False
    makes_queries: bool = True
    """Whether searches are made from categories or titles where the source has none."""
    purchases_twice: bool = False
    """Every event stands twice, as a feed event and as a search, after the published construction."""
