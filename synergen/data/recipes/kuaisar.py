"""KuaiSAR: what users of a short-video app clicked in its feed and in its search, with what they searched for.

Source: Sun et al., "KuaiSAR: A Unified Search And Recommendation Dataset" (CIKM 2023), and kuaisar.github.io, which
describes the files. An event is a click: a row of rec_inter.csv with click = 1, or of src_inter.csv with click_cnt > 0.

A request of the search is a session. Its query is what was typed, the words of which the publishers replaced by
numbers, as they did in the captions of videos; a click after a search without words has no query. A request of the
feed is one delivery: the publishers give the items that were sent together one time, in milliseconds.

A row that lacks a field, or whose time is not in milliseconds, is left out and counted; a line that cannot be read
stops the reading.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import polars as pl

from synergen.data.recipe import Download, Published, RawEvents, RawItems, Recipe, Report
from synergen.data.recipes.archives import find_archive, read_tables
from synergen.raw import Columns

_CLICKS, _SESSION, _WORDS = "clicks", "session", "words"
_SHARED = {"user_id": Columns.USER, "item_id": Columns.ITEM}
_FEED = _SHARED | {"timestamp": Columns.TIME, "click": _CLICKS}
_SEARCH = _SHARED | {
    "search_session_timestamp": Columns.TIME,
    "click_cnt": _CLICKS,
    "search_session_id": _SESSION,
    "keyword": _WORDS,
}
_SERVICES = {"rec_inter.csv": _FEED, "src_inter.csv": _SEARCH}
"""The columns that are read of the file of each service, and what they are called here."""

_ITEMS = "item_features.csv"
_LEVELS = [f"{level}_level_category_name_en" for level in ("first", "second", "third", "fourth")]
_MILLISECONDS = (10**11, 10**14)
"""The years 1973 to 5138; smaller numbers would be seconds."""


def _read_events(path: Path, report: Report) -> RawEvents:
    """Clicks of the service whose file this is, or from a zip those of the feed and then those of the search."""
    notes: Counter[str] = Counter()
    files = _SERVICES if path.suffix == ".zip" else [path.name]
    return RawEvents(pl.concat(_read_clicks(path, file, report, notes) for file in files), dict(+notes))


def _read_clicks(path: Path, file: str, report: Report, notes: Counter[str]) -> pl.DataFrame:
    """Sorted by (user, millisecond, session), so that the clicks of a request stand together."""
    fields = _SERVICES[file]
    special = {Columns.TIME: pl.Float64(), _WORDS: pl.String()}
    types = {name: special.get(ours, pl.Int64()) for name, ours in fields.items()}
    blocks = []
    for block in read_tables(path, file, types, report):
        whole = block.rename(fields).drop_nulls()
        timed = whole.filter(pl.col(Columns.TIME).is_between(*_MILLISECONDS))
        clicked = timed.filter(pl.col(_CLICKS) > 0)
        notes[f"rows of {file} left out: a field is missing"] += len(block) - len(whole)
        notes[f"rows of {file} left out: their time is not in milliseconds"] += len(whole) - len(timed)
        notes[f"rows of {file} left out: shown and not clicked"] += len(timed) - len(clicked)
        blocks.append(clicked.cast({Columns.TIME: pl.Int64}))
    is_search = file == "src_inter.csv"
    request = [Columns.USER, Columns.TIME, *[_SESSION] * is_search]
    words = pl.col(_WORDS).str.extract_all(r"\d+").list.join(" ") if is_search else pl.lit("")
    columns = {
        Columns.USER: pl.col(Columns.USER),
        Columns.ITEM: pl.col(Columns.ITEM),
        Columns.TIME: pl.col(Columns.TIME) // 1000,
        Columns.ACTION: pl.lit("click", pl.Enum(["click"])),
        Columns.QUERY: words,
        Columns.REQUEST: 2 * pl.struct(request).rle_id().cast(pl.Int64) + is_search,  # even in the feed, odd in search
    }
    return pl.concat(blocks).sort(request, maintain_order=True).select(**columns)


def _read_items(paths: Sequence[Path], clicked: pl.Series, report: Report) -> RawItems:
    """Captions as titles, their words as numbers like those of queries, and the one path of English category names."""
    types = {"item_id": pl.Int64(), "caption": pl.String()} | dict.fromkeys(_LEVELS, pl.String())
    names = [pl.when(~pl.col(level).is_in(["", "empty"])).then(pl.col(level)) for level in _LEVELS]
    path = pl.concat_str(names, separator="\t", ignore_nulls=True)
    paths_of_item = pl.concat_list(path).list.eval(pl.element().filter(pl.element() != "").str.split("\t"))
    blocks = []
    for block in read_tables(paths[0], _ITEMS, types, report):
        known = block.filter(pl.col("item_id").is_in(clicked.implode()))
        columns = {
            Columns.ITEM: pl.col("item_id"),
            Columns.TITLE: pl.col("caption").fill_null("").str.extract_all(r"\d+").list.join(" "),
            Columns.CATEGORIES: paths_of_item,
        }
        blocks.append(known.select(**columns))
    return RawItems(pl.concat(blocks))


def _recipe(variant: str, about: str, archive: str, inner: str, published: Published) -> Recipe:
    download = Download(archive, f"https://zenodo.org/record/8181109/files/{archive}")
    return Recipe(
        name="kuaisar",
        variant=variant,
        about=about,
        licence="CC BY-NC-SA 4.0",
        downloads=(download,),
        find=partial(find_archive, download=download, inner=inner, events=[*_SERVICES], about_items=[_ITEMS]),
        read_events=_read_events,
        read_items=_read_items,
        published=published,
        why_counts_differ="the published counts are of everything that was shown; an event here is a click",
        makes_queries=False,
    )


_SOURCE = "kuaisar.github.io, the totals of the table of basic statistics"

KUAISAR: tuple[Recipe, ...] = (
    _recipe(
        "full",
        "KuaiSAR: clicks in the feed and in the search of a short-video app, 22 May to 10 June 2023",
        "KuaiSAR_v2.zip",
        "KuaiSAR_v2",
        Published(users=25_877, items=6_890_707, events=19_664_885, source=_SOURCE),
    ),
    _recipe(
        "small",
        "KuaiSAR-small: the part of KuaiSAR from 22 to 31 May 2023",
        "KuaiSAR.zip",
        "KuaiSAR_final",
        Published(users=25_877, items=4_195_529, events=10_664_332, source=_SOURCE),
    ),
)
"""Both releases, the whole one first."""
