import gzip
import tempfile
from pathlib import Path

import polars as pl
import pytest
from amazon_files import Rating, write_bytes, write_metadata, write_ratings
from hypothesis import example, given, settings
from hypothesis import strategies as st

from synergen.data.filters import Filter
from synergen.data.recipe import RawEvents
from synergen.data.recipes.books import BOOKS, find, read_ratings
from synergen.data.recipes.literals import may_describe, read_literal
from synergen.data.recipes.metadata import read_metadata
from synergen.errors import UserError

DAY = 1_376_870_400
FEW: list[Rating] = [("A2B", "0001", 5.0, DAY), ("A1C", "0002", 1.0, DAY - 86_400), ("A2B", "0003", 3.0, DAY)]


def no_report(*_: object) -> None:
    pass


def rows(events: RawEvents) -> list[tuple]:
    return events.table.select("user", "item", "action", "ts").rows()


def refusal(path: Path, content: bytes) -> str:
    with pytest.raises(UserError, match=str(path)) as caught:
        read_ratings(write_bytes(path, content), no_report)
    return str(caught.value)


def csv_bytes(ratings: list[Rating]) -> bytes:
    return "".join(f"{u},{i},{r},{t}\n" for u, i, r, t in ratings).encode()


@pytest.mark.parametrize("name", ["ratings_Books.csv", "ratings_Books.csv.gz"])
def test_ratings_are_read_in_the_order_of_the_file(tmp_path, name) -> None:
    events = read_ratings(write_ratings(tmp_path / name, FEW), no_report)
    # the rows of FEW, written by hand
    assert rows(events) == [
        ("A2B", "0001", "rating 5", DAY),
        ("A1C", "0002", "rating 1", DAY - 86_400),
        ("A2B", "0003", "rating 3", DAY),
    ]
    assert events.table.schema["action"] == pl.Enum(["rating 1", "rating 2", "rating 3", "rating 4", "rating 5"])
    assert events.table.schema["ts"] == pl.Int64
    assert events.notes == {}


def test_odd_times_are_converted_or_left_out_and_counted(tmp_path) -> None:
    # 1376870400000 ms = DAY s; 10**11 is still seconds, 10**11 + 1 ms is 10**8 s rounded down
    times = [DAY * 1000, -1, DAY, 10**11, 10**11 + 1, 0, -86_400_000]
    path = write_ratings(tmp_path / "r.csv", [("u", f"i{n}", 5.0, time) for n, time in enumerate(times)])
    events = read_ratings(path, no_report)
    assert events.table["ts"].to_list() == [DAY, DAY, 10**11, 10**8, 0]
    assert events.notes == {
        "events whose time was in milliseconds": 2,
        "events left out: their time is before 1970": 2,
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"u,i,5.0\n", "line 3 has 3 fields in place of user, item, rating, time: b'u,i,5.0"),
        (b"u,i,5.0,1,2\n", "line 3 has 5 fields"),
        (b"\n", "line 3 has 0 fields"),
        (b"u,i,5.0\nu,i,5.0,1\n", "line 3 has 3 fields"),
        (b",i,5.0,1\n", "line 3: user or item is empty"),
        (b'u,"",5.0,1\n', "line 3: user or item is empty"),
        (b"u,i,6.0,1\n", "line 3: '6.0' is no rating from 1 to 5"),
        (b"u,i,0.0,1\n", "line 3: '0.0' is no rating"),
        (b"u,i,4.5,1\n", "line 3: '4.5' is no rating"),
        (b"u,i,nan,1\n", "line 3: 'nan' is no rating"),
        (b"u,i,five,1\n", "line 3: 'five' is no rating"),
        (b"u,i,5.0,today\n", "line 3: 'today' is no time in Unix seconds"),
        (b"u,i,5.0,1.5\n", "line 3: '1.5' is no time"),
        (b"u,i,5.0,99999999999999999999\n", "line 3: '99999999999999999999' is no time"),
        (b"u,i,5.0,1376870400000000\n", "line 3: '1376870400000000' is no time"),  # microseconds
        (b"u,\xff,5.0,1\n", "line 3 is no UTF-8 text"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line(tmp_path, line, complaint) -> None:
    good = csv_bytes(FEW[:2])
    for name in ("r.csv", "r.csv.gz"):
        message = refusal(tmp_path / name, good + line)
        assert complaint in message
        assert message.endswith("delete it and fetch it again")


@pytest.mark.parametrize("cut", [1, 2, 3, 10, 12, 20])
def test_a_half_downloaded_file_is_refused(tmp_path, cut) -> None:
    # one digit of ten missing, and the last time is in 1974, before Amazon sold books
    content = csv_bytes([FEW[0], ("A1C", "0002", 1.0, DAY)])
    if cut == 1:  # only the line end is missing: all is there
        assert len(read_ratings(write_bytes(tmp_path / "r.csv", content[:-1]), no_report).table) == 2
    else:
        assert "line" in refusal(tmp_path / "r.csv", content[:-cut])


def test_a_cut_or_damaged_gzip_is_refused(tmp_path) -> None:
    whole = gzip.compress(csv_bytes(FEW * 1000))
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path = tmp_path / "r.csv.gz"
    for content in (whole[:-1], whole[:-8], whole[: len(whole) // 2], whole[:5], bytes(damaged)):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"r\.csv\.gz: .*fetch it again"):
            read_ratings(path, no_report)


def test_something_else_than_ratings_is_refused(tmp_path) -> None:
    page = b"<!DOCTYPE html>\n<html><body>503, try later</body></html>\n"
    assert "line 1 has 1 fields in place of user, item, rating, time: b'<!DOCTYPE html>" in refusal(
        tmp_path / "r.csv", page
    )
    (tmp_path / "r.csv.gz").write_bytes(page)
    with pytest.raises(UserError, match="no gzip file"):
        read_ratings(tmp_path / "r.csv.gz", no_report)
    assert "there are no ratings" in refusal(tmp_path / "r.csv", b"")
    header = b"user,item,rating,timestamp\n" + csv_bytes(FEW)
    assert "line 1: 'rating' is no rating" in refusal(tmp_path / "r.csv", header)


def test_later_files_follow_in_the_order_of_their_names(tmp_path) -> None:
    for name in ("ratings_Books-2.csv", "ratings_Books.csv.gz", "ratings_Books-1.csv.gz", "ratings_Books-1.csv.part"):
        (tmp_path / name).touch()
    found = find(tmp_path)
    assert [path.name for path in found.events] == [
        "ratings_Books.csv.gz",
        "ratings_Books-1.csv.gz",
        "ratings_Books-2.csv",
    ]
    assert found.about_items == ()
    (tmp_path / "meta_Books.json.gz").touch()
    (tmp_path / "ratings_Books.csv").touch()  # what is unpacked goes before what is packed
    assert [path.name for path in find(tmp_path).all][::3] == ["ratings_Books.csv", "meta_Books.json.gz"]


def test_a_missing_file_is_named_with_its_address(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no ratings_Books\.csv in this folder; fetch it from https://snap\.stanford"):
        find(tmp_path)


def test_items_get_plain_titles_and_categories(tmp_path) -> None:
    entries = [
        {
            "asin": "1",
            "title": "Economics &amp; <i>Life</i>\n for 3 &lt; 4",
            "categories": [["Books", "Art &amp; War"], ["X"]],
        },
        {
            "asin": "2",
            "description": "<p>A book." + " word" * 100,
            "salesRank": {"Books": 7},
            "categories": [["Books"]],
        },
        {"asin": "not asked for", "title": "Other"},
        {"asin": "3", "title": "First"},
        {"asin": "3", "title": "Second"},
        {"asin": "4", "title": 7, "categories": ["Books", ["Deep", 5]]},
    ]
    path = write_metadata(tmp_path / "meta_Books.json.gz", entries)
    items = read_metadata([path], pl.Series(["1", "2", "3", "4", "unknown"]), no_report)
    # entities resolved after tags went, so that "3 < 4" stays; a description of 300 characters in place of a title
    assert items.table["item"].to_list() == ["1", "2", "3", "4"]
    titles = items.table["title"].to_list()
    assert titles[0] == "Economics & Life for 3 < 4"
    assert titles[1] == ("A book." + " word" * 100)[:300]
    assert titles[2:] == ["First", ""]
    assert items.table["categories"].to_list() == [[["Books", "Art & War"], ["X"]], [["Books"]], [], [["Deep"]]]
    assert items.notes == {"items without metadata": 1}


def test_no_metadata_is_no_error() -> None:
    items = read_metadata([], pl.Series(["1", "2"]), no_report)
    assert items.table.is_empty()
    assert items.table.columns == ["item", "title", "categories"]
    assert items.notes == {"items without metadata": 2}


def test_a_line_that_is_no_literal_is_left_out_and_counted(tmp_path) -> None:
    lines = [
        b"{'asin': '1', 'title': 'One'}",
        b"{'asin': '2', 'title': __import__('os').getcwd()}",  # an expression: never executed
        b"{'asin': '3', 'title': 'cut",
        b"['asin', '4']",
        b"{'asin': '\xff'}",
        b"{'asin': 'other', 'title': nonsense}",  # about another item: not read
        b"{'asin': '5', 'title': 'Five'}",
    ]
    path = write_bytes(tmp_path / "meta.json", b"\n".join(lines))
    items = read_metadata([path], pl.Series(list("12345")), no_report)
    assert items.table["title"].to_list() == ["One", "Five"]
    assert items.notes == {"metadata lines that are no literal, left out": 3, "items without metadata": 3}


def test_progress_reaches_the_size_of_the_file(tmp_path) -> None:
    seen: list[tuple[str, int, int]] = []
    ratings = write_ratings(tmp_path / "r.csv", FEW)
    metadata = write_metadata(tmp_path / "m.json.gz", [{"asin": f"{n}"} for n in range(25_000)])
    read_ratings(ratings, lambda *told: seen.append(told))
    assert seen == [("reading r.csv", 0, 72), ("reading r.csv", 72, 72)]  # 3 lines of 24 bytes
    seen.clear()
    read_metadata([metadata], pl.Series(["1"]), lambda *told: seen.append(told))
    size = metadata.stat().st_size
    assert seen[-1] == ("reading m.json.gz", size, size)
    assert len(seen) == 4  # before lines 1, 10,001 and 20,001, and at the end
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_the_variants() -> None:
    hllm, hstu = BOOKS
    # the counts that the two codes print; UniGRF, which counts no padding id, prints 694,897 and 686,623
    assert (hllm.variant, hllm.published.users, hllm.published.items) == ("hllm", 694_898, 686_624)
    assert (hstu.variant, hstu.published.users, hstu.published.items) == ("hstu", 694_897, 695_762)
    assert {r.published.events for r in BOOKS} == {10_053_086}
    assert {(r.rule, r.min_count, r.makes_queries) for r in BOOKS} == {(Filter.ONE_PASS_THEN_USERS, 5, False)}
    assert [file.needed for file in hllm.downloads] == [True, False]


# --- any bytes, and what is well formed -------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
ODD = st.sampled_from(
    ['"', ",", "\n", "\r", "\r\n", "'", "\\", "é", "名", "\ufeff", "\0", " ", "#", "x^", "null", "NA"]
)
IDS = TEXT | st.lists(ODD | TEXT, min_size=1, max_size=4).map("".join)
TIMES = st.integers(0, 2 * 10**9)
RATINGS = st.lists(st.tuples(IDS, IDS, st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]), TIMES), min_size=1, max_size=8)


@st.composite
def almost_ratings(draw: st.DrawFn) -> bytes:
    """Well-formed rows with a piece cut out, put in or doubled."""
    content = csv_bytes(draw(RATINGS))
    start, stop = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
    return content[:start] + draw(st.binary(max_size=6) | st.just(content[start:stop] * 2)) + content[stop:]


def read_anything(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            events = read_ratings(path, no_report)
        except UserError:
            return
    assert events.table.null_count().row(0) == (0, 0, 0, 0)
    assert (events.table["ts"] >= 0).all()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80) | almost_ratings(), st.booleans(), st.booleans())
@example(b"x\x9c123", False, False)  # the first bytes of another way to pack
@example(b"(\xb5/\xfd123", False, False)
@example(b'"u,i,5.0,1\n', False, False)
def test_any_bytes_give_events_or_a_refusal(content, named_packed, packed) -> None:
    content = gzip.compress(content, 1) if packed else content
    read_anything(content, "r.csv.gz" if named_packed else "r.csv")


@settings(max_examples=200, deadline=None)
@given(RATINGS, st.booleans())
def test_what_is_written_well_formed_is_read_back(ratings, packed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_ratings(Path(folder) / ("r.csv.gz" if packed else "r.csv"), ratings)
        events = read_ratings(path, no_report)
    assert rows(events) == [(user, item, f"rating {stars:.0f}", time) for user, item, stars, time in ratings]


LITERALS = st.dictionaries(
    TEXT | st.sampled_from(["asin", "title", "categories", "description"]),
    st.recursive(st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3)),
    max_size=4,
)


@settings(max_examples=300, deadline=None)
@given(LITERALS, st.data())
@example({"asin": 'it\'s "odd"\\'}, None)
def test_a_dictionary_is_read_back_from_its_line_and_never_missed(entry, data) -> None:
    line = f"{entry!r}\n".encode()
    assert read_literal(line) == entry
    if isinstance(entry.get("asin"), str):
        assert may_describe(line, {entry["asin"].encode()})
    if data is not None:  # a cut line is another dictionary or none
        cut = data.draw(st.integers(0, len(line) - 2))
        assert not isinstance(read_literal(line[:cut]), dict)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text("{}[]()'\"\\:,asinu0-+1j \n", max_size=40).map(str.encode))
@example(b"(" * 10_000)
@example(b"-" * 10_000 + b"1")
@example(b"1" + b"+1" * 10_000)
@example(b"{[]: 1}")
@example(b"{'asin': " + b"9" * 5_000 + b"}")
def test_any_line_of_metadata_is_a_dictionary_or_nothing(line) -> None:
    found = read_literal(line)
    assert found is None or isinstance(found, dict)
    may_describe(line, {b"1"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "meta.json"
        path.write_bytes(b"{'asin': '1', 'title': 'One'}\n" + line)
        assert read_metadata([path], pl.Series(["1"]), no_report).table["title"].to_list() == ["One"]
