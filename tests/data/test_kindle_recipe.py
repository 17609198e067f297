import gzip
import json
import tempfile
from pathlib import Path

import pytest
from amazon_files import review, write_bytes, write_metadata, write_reviews
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synergen.data.filters import Filter
from synergen.data.queries import category_queries
from synergen.data.recipes.kindle import KINDLE, find, read_reviews
from synergen.data.recipes.metadata import read_metadata
from synergen.errors import UserError

DAY = 1_376_870_400
REVIEWS = [
    review("A1", "B001", 5.0, DAY, "Murder mystery mysteries", "MYSTERY!"),
    review("A2", "B002", 2.0, DAY - 86_400, "a mystery: murder.", "murder"),
    review("A1", "B003", 4.0, DAY, "my-stery 5 mystery", ""),
]


def no_report(*_: object) -> None:
    pass


def test_reviews_are_read_in_the_order_of_the_file(tmp_path) -> None:
    for name in ("reviews.json", "reviews.json.gz"):
        events = read_reviews(write_reviews(tmp_path / name, REVIEWS), no_report)
        # REVIEWS, written by hand
        assert events.table.select("user", "item", "action", "ts").rows() == [
            ("A1", "B001", "rating 5", DAY),
            ("A2", "B002", "rating 2", DAY - 86_400),
            ("A1", "B003", "rating 4", DAY),
        ]
        assert events.notes == {}


def test_the_vocabulary_is_of_stems_that_occur_five_times(tmp_path) -> None:
    # mystery 5 with its plural and capitals ("my-stery" is a sixth), murder 3 times, a and 5 never enough
    events = read_reviews(write_reviews(tmp_path / "r.json", REVIEWS), no_report)
    assert events.vocabulary == {"mystery"}
    four = [review("A", "B", 5.0, DAY, "lens lenses"), review("A", "C", 5.0, DAY, "lens", "Lenses.")]
    assert read_reviews(write_reviews(tmp_path / "r.json", four), no_report).vocabulary == frozenset()
    five = [*four, review("A", "D", 5.0, DAY, "LENS")]
    assert read_reviews(write_reviews(tmp_path / "r.json", five), no_report).vocabulary == {"lens"}


def test_texts_that_are_missing_are_empty(tmp_path) -> None:
    bare = {key: REVIEWS[0][key] for key in ("reviewerID", "asin", "overall", "unixReviewTime")}
    events = read_reviews(write_reviews(tmp_path / "r.json", [bare, bare | {"reviewText": None}]), no_report)
    assert len(events.table) == 2
    assert events.vocabulary == frozenset()


def test_odd_times_are_converted_or_left_out_and_counted(tmp_path) -> None:
    odd = [review("A1", f"B{n}", 5, time) for n, time in enumerate([DAY * 1000, -1, DAY])]
    events = read_reviews(write_reviews(tmp_path / "r.json", odd), no_report)
    assert events.table["ts"].to_list() == [DAY, DAY]
    assert events.notes == {
        "events whose time was in milliseconds": 1,
        "events left out: their time is before 1970": 1,
    }


@pytest.mark.parametrize(
    "line",
    [
        b'{"reviewerID": "A1", "asin": "B001", "overall": 5.0, "unixRev\n',  # cut
        b"\n",
        b"<html>\n",
        b"[]\n",
        b"5\n",
        json.dumps(REVIEWS[0] | {"reviewerID": ""}).encode(),
        json.dumps(REVIEWS[0] | {"asin": 5}).encode(),
        json.dumps(REVIEWS[0] | {"asin": "\ud800"}).encode(),
        json.dumps(REVIEWS[0] | {"overall": 6.0}).encode(),
        json.dumps(REVIEWS[0] | {"overall": [5]}).encode(),
        json.dumps(REVIEWS[0] | {"unixReviewTime": 1.5}).encode(),
        json.dumps(REVIEWS[0] | {"unixReviewTime": "2014"}).encode(),
        json.dumps(REVIEWS[0] | {"unixReviewTime": float("inf")}).encode(),
        json.dumps(REVIEWS[0] | {"unixReviewTime": 10**30}).encode(),
        json.dumps({key: REVIEWS[0][key] for key in ("reviewerID", "asin", "overall")}).encode(),
        b'{"reviewerID": "\xff"}\n',
    ],
)
def test_a_line_that_is_no_review_is_refused_with_its_number(tmp_path, line) -> None:
    good = "".join(f"{json.dumps(entry)}\n" for entry in REVIEWS[:2]).encode()
    for name in ("r.json", "r.json.gz"):
        path = write_bytes(tmp_path / name, good + line)
        with pytest.raises(UserError, match=rf"{path}: line 3 is no review .*delete it and fetch it again"):
            read_reviews(path, no_report)


def test_a_cut_gzip_or_a_page_in_its_place_is_refused(tmp_path) -> None:
    path = write_reviews(tmp_path / "r.json.gz", REVIEWS)
    whole = path.read_bytes()
    for length in (len(whole) - 1, len(whole) - 8, len(whole) // 2, 5):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"cut or damaged .*fetch it again"):
            read_reviews(path, no_report)
    path.write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(UserError, match=r"no gzip file .*fetch it again"):
        read_reviews(path, no_report)
    with pytest.raises(UserError, match="there are no reviews"):
        read_reviews(write_bytes(tmp_path / "empty.json.gz", b""), no_report)


def test_both_files_are_needed_and_may_be_unpacked(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"no reviews_Kindle_Store_5\.json\.gz in this folder; fetch it from https://snap"
    ):
        find(tmp_path)
    (tmp_path / "reviews_Kindle_Store_5.json").touch()
    with pytest.raises(UserError, match=r"no meta_Kindle_Store\.json\.gz"):
        find(tmp_path)
    (tmp_path / "meta_Kindle_Store.json.gz").touch()
    found = find(tmp_path)
    assert [path.name for path in found.all] == ["reviews_Kindle_Store_5.json", "meta_Kindle_Store.json.gz"]


# Queries of the published set (Amazon-Product-Search-Datasets, reviews_Kindle_Store_5, query_text.txt.gz), and category
# paths that give them.
PUBLISHED = {
    "store kindle ebook mystery thriller suspense crime fiction murder": [
        ["Kindle Store", "Kindle eBooks", "Mystery, Thriller &amp; Suspense", "Crime Fiction", "Murder"]
    ],
    "store kindle ebook science fiction fantasy coming age": [
        ["Kindle Store", "Kindle eBooks", "Science Fiction &amp; Fantasy", "Coming of Age"]
    ],
    "books literature fiction": [["Books", "Literature &amp; Fiction"], ["Kindle Store"]],
    "store kindle short read minutes page romance": [
        ["Kindle Store", "Kindle Short Reads", "15 minutes (1-11 pages)", "Romance"]
    ],
}


def test_files_become_the_published_queries(tmp_path) -> None:
    """All seven steps: a path of one level is skipped, the others are joined from the root, freed of what is no letter,
    of stop words and of words that no review holds, stemmed, and freed of all but the last of repeated words."""
    entries = [{"asin": f"B{n}", "title": "Book", "categories": paths} for n, paths in enumerate(PUBLISHED.values())]
    known = " ".join(PUBLISHED)
    reviews = [review("A1", f"B{n}", 5.0, DAY, known) for n in range(5)]  # five times each word; B4 has no metadata
    events = read_reviews(write_reviews(tmp_path / "r.json.gz", reviews), no_report)
    items = read_metadata([write_metadata(tmp_path / "m.json.gz", entries)], events.table["item"], no_report)
    assert items.notes == {"items without metadata": 1}
    paths = [[], *items.table["categories"].to_list()]
    assert events.vocabulary is not None
    table = category_queries(paths, vocabulary=set(events.vocabulary))
    assert [table.texts[query] for query in table.ids] == list(PUBLISHED)
    without_murder = category_queries(paths, vocabulary=set(events.vocabulary - {"murder"}))
    assert "store kindle ebook mystery thriller suspense crime fiction" in without_murder.texts


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_words_of_reviews_and_of_queries_are_made_alike(text) -> None:
    """A category name that reviews repeat five times loses no word to the vocabulary."""
    with tempfile.TemporaryDirectory() as folder:
        reviews = [review("A1", f"B{n}", 5.0, DAY, text) for n in range(5)]
        vocabulary = read_reviews(write_reviews(Path(folder) / "r.json", reviews), no_report).vocabulary
    assert vocabulary is not None
    paths = [[], [[text, ""]]]
    assert category_queries(paths, vocabulary=set(vocabulary)).texts == category_queries(paths).texts


def test_the_variants() -> None:
    clean, faithful = KINDLE
    assert (clean.variant, faithful.variant) == ("clean", "faithful")
    assert (clean.purchases_twice, faithful.purchases_twice) == (False, True)
    for recipe in KINDLE:
        assert (recipe.rule, recipe.makes_queries) == (Filter.NONE, True)
        assert recipe.published is not None
        # the published 5-core
        assert (recipe.published.users, recipe.published.items, recipe.published.events) == (68_223, 61_934, 982_619)


# --- any bytes, and what is well formed -------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@st.composite
def almost_reviews(draw: st.DrawFn) -> bytes:
    """Reviews one field of which is anything, and of which a piece may be missing."""
    changes = st.dictionaries(st.sampled_from(list(REVIEWS[0])), JSON, max_size=1)
    entries = draw(st.lists(changes.map(lambda change: REVIEWS[0] | change), max_size=3))
    content = "".join(f"{json.dumps(entry)}\n" for entry in entries).encode()
    start = draw(st.integers(0, len(content)))
    return content[:start] + draw(st.binary(max_size=3)) + content[start + draw(st.integers(0, 3)) :]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | almost_reviews(), st.booleans(), st.booleans())
@example(b"[" * 100_000, False, False)
@example(b'{"reviewerID": ' + b"9" * 5_000 + b"}", False, False)
def test_any_bytes_give_reviews_or_a_refusal(content, named_packed, packed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("r.json.gz" if named_packed else "r.json")
        path.write_bytes(gzip.compress(content, 1) if packed else content)
        try:
            events = read_reviews(path, no_report)
        except UserError:
            return
    assert events.table.null_count().row(0) == (0, 0, 0, 0)
    assert (events.table["ts"] >= 0).all()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            *2 * [st.text(st.characters(codec="utf-8"), min_size=1)],
            st.sampled_from([1.0, 2, 3.0, 4.0, 5]),
            st.integers(0, 2 * 10**9),
            st.text(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_what_is_written_well_formed_is_read_back(rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_reviews(Path(folder) / "r.json", [review(*row) for row in rows])
        events = read_reviews(path, no_report)
    expected = [(user, item, f"rating {stars:.0f}", time) for user, item, stars, time, _ in rows]
    assert events.table.select("user", "item", "action", "ts").rows() == expected
