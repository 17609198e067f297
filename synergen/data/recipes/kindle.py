"""ebook-search: reviews of the Amazon Kindle Store, whose items' categories become queries.

Every user and every item has five reviews or more, in the file as it is published. A review is a purchase; its stars
are the action.
"""

import json
from array import array
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from krovetzstemmer import Stemmer

from synergen.data.queries import letter_words_of
from synergen.data.recipe import Published, RawEvents, RawFiles, Recipe, Report
from synergen.data.recipes.amazon import (
    FETCH,
    LICENCE,
    RATINGS,
    download,
    need_file,
    numbered_lines,
)
from synergen.data.recipes.metadata import read_metadata
from synergen.data.recipes.times import LATEST_TIME, with_whole_seconds
from synergen.errors import UserError
from synergen.raw import Columns

_REVIEWS, _METADATA = "reviews_Kindle_Store_5.json.gz", "meta_Kindle_Store.json.gz"
_MIN_COUNT = 5  # of a word that queries may hold, Ai et al. 2017


def find(folder: Path) -> RawFiles:
    """The reviews and the metadata, packed with gzip or not.

    Raises:
        UserError: one of them is missing.
    """
    return RawFiles((need_file(folder, _REVIEWS),), (need_file(folder, _METADATA),))


def read_reviews(path: Path, report: Report) -> RawEvents:
    """Events and vocabulary from a file of one JSON object a line, possibly packed with gzip.

    Every line has to be readable, or the file is refused; times alone may be odd (`with_whole_seconds`). The vocabulary
    holds the stems of words that occur five times or more in texts and summaries, the sixth step of the rule that
    makes queries (`category_queries`).

    Raises:
        UserError: the file is cut, damaged, or something else; with the line.
    """
    users: list[str] = []
    items: list[str] = []
    stars, times = array("B"), array("q")
    words: Counter[str] = Counter()
    for number, line in numbered_lines(path, report):
        review = _read_review(line)
        if review is None:
            raise UserError(
                f"{path}: line {number} is no review with reviewerID, asin, overall (1 to 5) and unixReviewTime: "
                f"{line[:60]!r}; the file may be cut or something else: {FETCH}"
            )
        users.append(review.user)
        items.append(review.item)
        stars.append(review.stars)
        times.append(review.time)
        words.update(letter_words_of(review.text))
    if not users:
        raise UserError(f"{path}: there are no reviews; {FETCH}")
    actions = pl.Series(np.frombuffer(stars, np.uint8) - 1).cat.to(RATINGS)
    table = pl.DataFrame(
        {
            Columns.USER: users,
            Columns.ITEM: items,
            Columns.TIME: np.frombuffer(times, np.int64),
            Columns.ACTION: actions,
        }
    )
    return RawEvents(*with_whole_seconds(table), _frequent_stems(words))


class _Review(NamedTuple):
    user: str
    item: str
    stars: int
    time: int
    text: str


def _read_review(line: bytes) -> _Review | None:
    try:
        entry = json.loads(line)
        user, item, stars, time = (entry[key] for key in ("reviewerID", "asin", "overall", "unixReviewTime"))
        (user + item).encode()  # half a surrogate pair is no text
        readable = bool(user and item) and stars in {1, 2, 3, 4, 5} and time == int(time) and abs(time) <= LATEST_TIME
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    texts = (text for key in ("reviewText", "summary") if isinstance(text := entry.get(key), str))
    return _Review(user, item, int(stars), int(time), " ".join(texts)) if readable else None


def _frequent_stems(words: Counter[str]) -> frozenset[str]:
    stemmer = Stemmer()
    stems: Counter[str] = Counter()
    for word, count in words.items():
        stems[stemmer.stem(word)] += count
    return frozenset(stem for stem, count in stems.items() if count >= _MIN_COUNT)


_CLEAN = Recipe(
    name="ebook-search",
    variant="clean",
    about="Amazon Kindle Store reviews to 2014 (5-core), queries from categories; a purchase is one event",
    licence=LICENCE,
    downloads=(download(_REVIEWS), download(_METADATA)),
    find=find,
    read_events=read_reviews,
    read_items=read_metadata,
    published=Published(
        68_223,
        61_934,
        982_619,
        "counts of the 5-core file of He and McAuley 2016; users and items also in UniSAR's code",
    ),
    action_is_outcome=True,
)

KINDLE: tuple[Recipe, ...] = (
    _CLEAN,
    replace(
        _CLEAN,
        variant="faithful",
        about="Amazon Kindle Store reviews to 2014 (5-core), queries from categories; a purchase is a feed event and "
        "a search, as Shi et al. 2025 (GenSAR) publish it",
        why_counts_differ="The counts are those of the reviews, before every purchase stands twice and users with too "
        "few searches go.",
        purchases_twice=True,
    ),
)
"""Variants of ebook-search, the default first."""
