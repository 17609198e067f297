"""Queries for data sets that have none, made from what is known of the items.

They come from categories, or from title words that many items share, and depend on neither chance nor the
order of the catalogue.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from krovetzstemmer import Stemmer

_FUNCTION_WORDS = """
a about after all also an and any are as at be been but by can do for from had has have he her his how i if in
into is it its me more most my no not of on one only or other our out over she so some such than that the their
them then there these they this those through to under up us was we were what when where which who will with
without you your
"""
STOP_WORDS = frozenset(_FUNCTION_WORDS.split())


_WORD = re.compile(r"[^\W_]+")
_NO_LETTERS = re.compile(r"[^\w\s]|[\d_]")


def words_of(text: str) -> list[str]:
    """The words of a text, which are its runs of letters and digits, in lower case."""
    return _WORD.findall(text.lower())


def letter_words_of(text: str) -> list[str]:
    """The words of a text reduced to letters and blanks, in lower case."""
    return _NO_LETTERS.sub("", text).lower().split()


@dataclass(frozen=True, eq=False)
class QueryTable:
    """Q distinct queries and which of them each of V items has."""

    texts: list[str]  # Q + 1, texts[0] = ""
    offsets: np.ndarray  # (V + 2,) int64: item i has the queries ids[offsets[i] : offsets[i + 1]], item 0 none
    ids: np.ndarray  # int32 query ids, ascending within an item
    rule: str  # one sentence on how they were made

    def draw(self, items: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """One query id (int32) of each item, or 0 where it has none.

        Args:
            items: item ids of any shape.
            uniform: numbers in [0, 1) of the same shape that choose among an item's queries.
        """
        first = self.offsets[items]
        count = self.offsets[np.asarray(items) + 1] - first
        chosen = first + (uniform * count).astype(np.int64)
        queries = np.zeros(chosen.shape, np.int32)
        queries[count > 0] = self.ids[chosen[count > 0]]
        return queries


def category_queries(
    paths: Sequence[Sequence[Sequence[str]]],
    *,
    min_levels: int = 2,
    stem: bool = True,
    vocabulary: Set[str] | None = None,
) -> QueryTable:
    """Queries from category paths by the rule of Ai et al. (SIGIR 2017), "Learning a Hierarchical Embedding
    Model for Personalized Product Search".

    Each path of at least `min_levels` names, joined from root to leaf, is reduced to letters and blanks,
    lower-cased, freed of stop words, stemmed (Krovetz), restricted to `vocabulary`, and freed of repetitions, of
    which the last stays. The path "Camera, Photo" > "Digital Camera Lenses" becomes "photo digital camera lens".
    The stop words are our own list; the original takes INQUERY's.

    Args:
        paths: of each item, its paths, each from root to leaf, HTML entities resolved; paths[0] is padding.
        vocabulary: the terms (stems, where `stem` is true) to keep; all by default.
    """
    stemmer = Stemmer()
    known: dict[tuple[str, ...], str] = {}  # a catalogue has far fewer paths than items

    def query(path: tuple[str, ...]) -> str:
        terms = [word for word in letter_words_of(" ".join(path)) if word not in STOP_WORDS]
        if stem:
            terms = [stemmer.stem(term) for term in terms]
        if vocabulary is not None:
            terms = [term for term in terms if term in vocabulary]
        return " ".join(reversed(dict.fromkeys(reversed(terms))))

    def queries(item_paths: Sequence[Sequence[str]]) -> set[str]:
        found = set()
        for path in map(tuple, item_paths):
            if len(path) >= min_levels:
                if path not in known:
                    known[path] = query(path)
                found.add(known[path])
        return found - {""}

    rule = (
        f"category paths of at least {min_levels} name{'s' * (min_levels > 1)}, root to leaf, in lower case, "
        "without stop words, "
        f"{'Krovetz stems' if stem else 'unstemmed'}"
        f"{'' if vocabulary is None else f', within {len(vocabulary)} known terms'}, "
        "the last of repeated terms kept (Ai et al. 2017)"
    )
    return _table([set(), *map(queries, paths[1:])], rule)


def title_queries(
    titles: Sequence[str], *, min_items: int = 20, max_words: int = 3, max_eligible: int = 8
) -> QueryTable:
    """Every set of up to `max_words` title words that `min_items` items share is a query of each of these items.

    So a query means a group of items: whoever learns which items a query belongs to has learnt which titles hold its
    words. (With one query an item, most queries belong to few items, and a model can know them by heart.) Eligible are
    words of two or more letters or digits, other than numbers and stop words; of a title the first `max_eligible` that
    are frequent enough. The words of a query stand in alphabetical order.

    Args:
        titles: one an item, HTML entities resolved; titles[0] is padding.
    """
    words = [_title_words(title) for title in titles]
    words[:1] = [[]]
    frequency = Counter(word for title in words for word in title)
    eligible = [sorted([w for w in title if frequency[w] >= min_items][:max_eligible]) for title in words]
    queries: list[set[str]] = [set() for _ in titles]
    shared: set[tuple[str, ...]] = set()
    for size in range(1, max_words + 1):
        of_item = [list(_sets(title, size, shared)) for title in eligible]
        holders = Counter(chosen for sets in of_item for chosen in sets)
        shared = {chosen for chosen, count in holders.items() if count >= min_items}
        for known, sets in zip(queries, of_item, strict=True):
            known.update(" ".join(chosen) for chosen in sets if chosen in shared)
    rule = (
        f"every set of up to {max_words} title words that at least {min_items} items share is a query of each of them; "
        "an event draws one of its item's queries"
    )
    return _table(queries, rule)


def _sets(title: Sequence[str], size: int, shared: set[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Sets of `size` words, all of whose smaller sets are shared: no other can be."""
    for chosen in combinations(title, size):
        if size == 1 or all(smaller in shared for smaller in combinations(chosen, size - 1)):
            yield chosen


def _title_words(title: str) -> list[str]:
    """Distinct words of a title that can stand in a query, in their order."""
    return list(dict.fromkeys(w for w in words_of(title) if len(w) > 1 and not w.isdecimal() and w not in STOP_WORDS))


def _table(queries: Sequence[Iterable[str]], rule: str) -> QueryTable:
    """Numbers the queries of items 0..V alphabetically."""
    texts = ["", *sorted({query for of_item in queries for query in of_item})]
    number = {text: i for i, text in enumerate(texts)}
    of_items = [sorted(number[query] for query in of_item) for of_item in queries]
    offsets = np.cumsum([0, *map(len, of_items)], dtype=np.int64)
    return QueryTable(texts, offsets, np.array([i for of_item in of_items for i in of_item], np.int32), rule)
