import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kuaisar_files import (
    FEED_HEADER,
    FILES,
    ITEMS_HEADER,
    MONDAY,
    SEARCH_HEADER,
    feed_file,
    items_file,
    search_file,
)
from movielens_files import write_unpacked, write_zip

from synergen.data.recipe import RawEvents, RawItems
from synergen.data.recipes import archives
from synergen.data.recipes.kuaisar import KUAISAR
from synergen.data.sources import read_raw
from synergen.errors import UserError
from synergen.events import number_events

FULL, SMALL = KUAISAR
SECOND = MONDAY // 1000


def no_report(*_: object) -> None:
    pass


def read_events(name: str, content: bytes, folder: Path) -> RawEvents:
    write_unpacked(folder, {name: content})
    return FULL.read_events(folder / name, no_report)


def read_items(content: bytes, folder: Path, clicked: list[int]) -> RawItems:
    write_unpacked(folder, {"item_features.csv": content})
    assert FULL.read_items is not None
    return FULL.read_items([folder / "item_features.csv"], pl.Series(clicked, dtype=pl.Int64), no_report)


def rows(events: RawEvents) -> list[tuple]:
    return events.table.select("user", "item", "ts", "query", "request").rows()


def test_clicks_of_the_feed(tmp_path) -> None:
    """By hand: in the order of users and milliseconds, one even number a delivery, the item not clicked left out."""
    events = read_events("rec_inter.csv", FILES["rec_inter.csv"], tmp_path)
    assert rows(events) == [
        (1, 20, SECOND + 5, "", 0),
        (1, 30, SECOND + 5, "", 0),
        (1, 10, SECOND + 5, "", 2),
        (2, 30, SECOND + 9, "", 4),
    ]
    assert events.table["action"].unique().to_list() == ["click"]
    assert events.table.schema["ts"] == pl.Int64
    assert events.notes == {"rows of rec_inter.csv left out: shown and not clicked": 1}


def test_clicks_of_the_search(tmp_path) -> None:
    """By hand: one odd number a session of a user, the words of its query joined by blanks."""
    events = read_events("src_inter.csv", FILES["src_inter.csv"], tmp_path)
    assert rows(events) == [
        (1, 20, SECOND + 5, "12 3", 1),
        (1, 60, SECOND + 5, "12 3", 1),
        (2, 10, SECOND + 60, "5", 3),
        (2, 20, SECOND + 70, "", 5),
    ]
    assert events.notes == {"rows of src_inter.csv left out: shown and not clicked": 1}


def test_items_have_captions_in_the_words_of_queries_and_one_path(tmp_path) -> None:
    """By hand; 99 was not clicked and 40 is not described."""
    assert read_items(FILES["item_features.csv"], tmp_path, [10, 20, 30, 40]).table.rows() == [
        (10, "12 3 4", [["Funny", "Funny joke"]]),
        (20, "", [["Film, Television, and Short Dramas"]]),
        (30, "5", []),
    ]


@pytest.mark.parametrize("recipe", KUAISAR, ids=lambda recipe: recipe.variant)
@pytest.mark.parametrize("unpacked_into", ["", "its folder"])
def test_the_zip_and_what_is_unpacked_from_it_make_the_same_log(tmp_path, recipe, unpacked_into) -> None:
    """By hand: of user 1 the two deliveries of the second come before the search of it; user 2 has three clicks."""
    archive = recipe.downloads[0].name
    inner = {"full": "KuaiSAR_v2", "small": "KuaiSAR_final"}[recipe.variant]
    write_zip(tmp_path / archive, inner, FILES)
    write_unpacked(tmp_path / "raw" / (inner if unpacked_into else ""), FILES)
    for folder in (tmp_path, tmp_path / "raw"):
        log = number_events(read_raw(recipe, recipe.find(folder), no_report))
        assert log.offsets.tolist() == [0, 5, 8]
        assert log.item_ids[log.items].tolist() == [20, 30, 10, 20, 60, 30, 10, 20]
        assert log.groups.tolist() == [0, 0, 1, 2, 2, 0, 1, 2]
        assert [log.query_texts[query] for query in log.queries] == ["", "", "", "12 3", "12 3", "", "5", ""]
        assert log.searched.tolist() == [False, False, False, True, True, False, True, False]
        assert dict(zip(log.item_ids[1:], log.titles[1:], strict=True)) == {10: "12 3 4", 20: "", 30: "5", 60: ""}
        assert log.dropped["rows of src_inter.csv left out: shown and not clicked"] == 1


def test_blocks_give_what_one_block_gives(tmp_path, monkeypatch) -> None:
    feed = [(user, item, MONDAY + 1000.0 * item, item % 2) for user in (2, 1) for item in range(20)]
    whole = read_events("rec_inter.csv", feed_file(feed), tmp_path)
    assert rows(whole) == [(u, i, SECOND + i, "", i - 1 + 20 * (u - 1)) for u in (1, 2) for i in range(1, 20, 2)]
    monkeypatch.setattr(archives, "BLOCK", 100)
    in_blocks = FULL.read_events(tmp_path / "rec_inter.csv", no_report)
    assert in_blocks.table.equals(whole.table)
    assert in_blocks.notes == whole.notes


def test_odd_rows_are_left_out_and_counted(tmp_path) -> None:
    """Times that are missing, negative, in seconds, no number or infinite; a row without a user; one good row."""
    times = ["", "-5.0", str(SECOND), "nan", "inf", "1.684742e+12"]
    content = "".join(f"1,{item},1,1,{time},0,0,0,0,0,1,x\n" for item, time in enumerate(times))
    events = read_events("rec_inter.csv", f"{FEED_HEADER}{content},9,1,1,{MONDAY},0,0,0,0,0,1,x\n".encode(), tmp_path)
    assert rows(events) == [(1, 5, SECOND, "", 0)]
    assert events.notes == {
        "rows of rec_inter.csv left out: a field is missing": 2,
        "rows of rec_inter.csv left out: their time is not in milliseconds": 4,
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "rec_inter.csv",
            feed_file([(1, 2, 3.0, 1)]).replace(b"1,2,", b"1,two,"),
            "rec_inter.csv, line 2, '1,two,45400",
        ),
        ("rec_inter.csv", feed_file([(1, 2, 3.0, 1)])[:-3], "rec_inter.csv: the last line, '1,2,45400.0"),
        ("rec_inter.csv", b"<html></html>\n", "rec_inter.csv, line 1: there is no column click, item_id"),
        ("rec_inter.csv", b"", "rec_inter.csv is empty"),
        ("src_inter.csv", search_file([(1, 2, 3.0, 1, 4, [5, 6])]).replace(b'"', b""), "line 2, '[5, 6],2,1,4,VIDEO"),
        ("src_inter.csv", FILES["rec_inter.csv"], "src_inter.csv, line 1: there is no column click_cnt, keyword"),
        ("src_inter.csv", FILES["src_inter.csv"] + b'"[1,2,3\n', "src_inter.csv, line 7, '\"[1,2,3'"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, name, content, message) -> None:
    with pytest.raises(UserError) as caught:
        read_events(name, content, tmp_path)
    assert message in str(caught.value)
    assert "download the archive again" in str(caught.value)


def test_items_that_cannot_be_read_are_refused(tmp_path) -> None:
    content = FILES["item_features.csv"].replace("空".encode(), b"\xe9", 1)
    with pytest.raises(UserError, match=r"item_features\.csv, line 2, '10,.*invalid utf-8"):
        read_items(content, tmp_path, [10])


def test_a_missing_file_is_named_with_its_source(tmp_path) -> None:
    write_unpacked(tmp_path, {"rec_inter.csv": b"", "item_features.csv": b""})
    with pytest.raises(
        UserError, match=r"neither KuaiSAR\.zip nor all of rec_inter\.csv, src_inter\.csv, item_features"
    ):
        SMALL.find(tmp_path)


def test_a_cut_zip_is_refused(tmp_path) -> None:
    path = write_zip(tmp_path / "KuaiSAR.zip", "KuaiSAR_final", FILES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"KuaiSAR\.zip: rec_inter\.csv cannot be read \(File is not a zip file\)"):
        SMALL.read_events(path, no_report)


def almost(header: str) -> st.SearchStrategy[tuple[str, bytes]]:
    """Files of a right header and lines of fields of which most are right."""
    field = st.sampled_from(
        ["1", "2", "", "x", '"', '"[1, 2]"', "[]", "-1", f"{MONDAY}.0", "nan", "1e300", "9" * 30, "é", "\r", "\0"]
    )
    number = header.count(",") + 1
    line = st.lists(st.sampled_from(["1", f"{MONDAY}"]) | field, min_size=number - 1, max_size=number + 1).map(",".join)
    return st.lists(line, max_size=4).map(lambda lines: "\n".join([header.strip(), *lines, ""]).encode())


ANY_EVENTS = st.one_of(
    st.tuples(st.sampled_from(["rec_inter.csv", "src_inter.csv"]), st.binary(max_size=40)),
    st.tuples(st.just("rec_inter.csv"), almost(FEED_HEADER)),
    st.tuples(st.just("src_inter.csv"), almost(SEARCH_HEADER)),
)


@settings(max_examples=200, deadline=None)
@given(ANY_EVENTS)
def test_any_bytes_give_events_or_a_refusal(case) -> None:
    name, content = case
    with tempfile.TemporaryDirectory() as folder:
        try:
            events = read_events(name, content, Path(folder))
        except UserError:
            return
    assert events.table.null_count().sum_horizontal().sum() == 0
    assert len(events.table) + sum(events.notes.values()) < content.count(b"\n")  # every line but the header is told


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | almost(ITEMS_HEADER))
def test_any_bytes_give_items_or_a_refusal(content) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            items = read_items(content, Path(folder), [1, 2])
        except UserError:
            return
    assert set(items.table["item"]) <= {1, 2}


NUMBERS = st.integers(0, 2**52)
TIMES = st.integers(10**11, 10**14)
WORDS = st.lists(NUMBERS, max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, TIMES, st.integers(0, 2), NUMBERS, WORDS), min_size=1, max_size=8))
def test_clicks_that_are_written_are_read_back(shown) -> None:
    """Against a plain sort of what was written."""
    clicked = [row for row in shown if row[3]]
    with tempfile.TemporaryDirectory() as folder:
        feed = read_events("rec_inter.csv", feed_file(row[:4] for row in shown), Path(folder))
        search = read_events("src_inter.csv", search_file(shown), Path(folder))
    by_time = sorted(clicked, key=lambda row: (row[0], row[2]))
    assert [row[:4] for row in rows(feed)] == [(user, item, ms // 1000, "") for user, item, ms, *_ in by_time]
    by_session = sorted(clicked, key=lambda row: (row[0], row[2], row[4]))
    assert [row[:4] for row in rows(search)] == [
        (user, item, ms // 1000, " ".join(map(str, words))) for user, item, ms, _, _, words in by_session
    ]
    requests = {(user, ms, session) for user, _, ms, _, session, _ in clicked}
    assert search.table["request"].n_unique() == len(requests)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS, WORDS, st.sampled_from(["Funny", "Film, TV", "空"])), min_size=1, max_size=5))
def test_items_that_are_written_are_read_back(items) -> None:
    content = items_file((item, words, [name, "empty", "empty", "empty"]) for item, words, name in items)
    with tempfile.TemporaryDirectory() as folder:
        read = read_items(content, Path(folder), [item for item, _, _ in items])
    assert read.table.rows() == [(item, " ".join(map(str, words)), [[name]]) for item, words, name in items]
