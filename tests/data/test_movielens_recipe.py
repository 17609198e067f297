import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from movielens_files import FILES, FILMS_1M, FILMS_20M, RATINGS_1M, RATINGS_20M, write_unpacked, write_zip

from synergen.data.queries import category_queries
from synergen.data.recipe import RawEvents, RawItems
from synergen.data.recipes import archives
from synergen.data.recipes.movielens import ML_1M, ML_20M
from synergen.data.sources import read_raw
from synergen.errors import UserError
from synergen.events import number_events

RECIPES = {"ml-1m": ML_1M[0], "ml-20m": ML_20M[0]}
EDITIONS = pytest.mark.parametrize("name", RECIPES)


def no_report(*_: object) -> None:
    pass


def read_ratings(name: str, content: bytes, folder: Path) -> RawEvents:
    ratings, _ = FILES[name]
    write_unpacked(folder, {ratings: content})
    return RECIPES[name].read_events(folder / ratings, no_report)


def read_films(name: str, content: bytes, folder: Path, rated: list[int]) -> RawItems:
    _, films = FILES[name]
    write_unpacked(folder, {films: content})
    read = RECIPES[name].read_items
    assert read is not None
    return read([folder / films], pl.Series(rated, dtype=pl.Int32), no_report)


def rows(events: RawEvents) -> list[tuple]:
    return events.table.select("user", "item", "action", "ts").rows()


RATINGS_OF_1M = [
    (2, 20, "rating 5", 978300760),
    (1, 10, "rating 3", 978302109),
    (1, 20, "rating 1", 978301968),
    (2, 10, "rating 4", 978300275),
]
"""What the miniature file says, by hand."""


def test_ratings_and_films_of_1m(tmp_path) -> None:
    events = read_ratings("ml-1m", RATINGS_1M, tmp_path)
    assert rows(events) == RATINGS_OF_1M
    assert events.notes == {}
    assert events.table.schema["ts"] == pl.Int64
    # as the file says, by hand
    assert read_films("ml-1m", FILMS_1M, tmp_path, [10, 20]).table.rows() == [
        (10, "Amélie: A Tale (1995)", [["Animation", "Children's", "Comedy"]]),
        (20, "Plain::Colons (1996)", [["Drama"]]),
    ]


def test_ratings_and_films_of_20m(tmp_path) -> None:
    """What the miniature files say, by hand."""
    assert rows(read_ratings("ml-20m", RATINGS_20M, tmp_path)) == [
        (2, 20, "rating 4.5", 1112486027),
        (1, 10, "rating 0.5", 1112484676),
        (1, 30, "rating 5.0", 1112484819),
    ]
    assert read_films("ml-20m", FILMS_20M, tmp_path, [10, 20, 30]).table.rows() == [
        (10, 'Tale of "Two" Cities, A (1995)', [["Drama", "Romance"]]),
        (20, "Amélie (2001)", []),
        (30, "Plain (1996)", [["Drama"]]),
    ]


@EDITIONS
@pytest.mark.parametrize("inner", ["", "as published"])
def test_the_zip_and_what_is_unpacked_from_it_are_the_same(tmp_path, name, inner) -> None:
    recipe = RECIPES[name]
    write_zip(tmp_path / f"{name}.zip", name, FILES[name])
    write_unpacked(tmp_path / "raw" / (name if inner else ""), FILES[name])
    packed, unpacked = recipe.find(tmp_path), recipe.find(tmp_path / "raw")
    assert packed.all == (tmp_path / f"{name}.zip",)
    assert [path.name for path in unpacked.all] == list(FILES[name])
    (events, films), (other_events, other_films) = (
        (recipe.read_events(files.events[0], no_report), files.about_items) for files in (packed, unpacked)
    )
    assert events.table.equals(other_events.table)
    assert recipe.read_items is not None
    rated = events.table["item"].unique()
    assert recipe.read_items(films, rated, no_report).table.equals(
        recipe.read_items(other_films, rated, no_report).table
    )


@EDITIONS
def test_blocks_and_progress(tmp_path, monkeypatch, name) -> None:
    """Blocks of one or two lines give what one block gives, and the bytes read add up to the size of the file."""
    recipe, (ratings, content) = RECIPES[name], next(iter(FILES[name].items()))
    whole = read_ratings(name, content, tmp_path)
    monkeypatch.setattr(archives, "BLOCK", 40)
    told: list[tuple[str, int, int]] = []
    in_blocks = recipe.read_events(tmp_path / ratings, lambda *about: told.append(about))
    assert in_blocks.table.equals(whole.table)
    assert len(told) == -(-len(content) // 40)
    assert told[0] == (f"reading {ratings}", 40, len(content))
    assert told[-1] == (f"reading {ratings}", len(content), len(content))


def test_a_log_is_made_of_the_files(tmp_path) -> None:
    """Three ratings a user are the least that is kept; genres become the one path, and so the query, of a film."""
    ratings = b"".join(b"%d::%d::5::%d\n" % (user, film, 10 - film) for user in (1, 2) for film in (1, 2, 3))
    films = b"1::One (1990)::Film-Noir|Comedy\n2::Two (1991)::Comedy\n3::Three (1992)::Comedy\n"
    write_unpacked(tmp_path, {"ratings.dat": ratings, "movies.dat": films})
    log = number_events(read_raw(ML_1M[0], ML_1M[0].find(tmp_path), no_report))
    assert (log.n_users, log.n_items, log.n_events) == (2, 3, 6)
    assert log.item_ids[log.items].tolist() == [3, 2, 1, 3, 2, 1]  # times fall with the number of the film
    assert log.titles == ["", "One (1990)", "Two (1991)", "Three (1992)"]
    assert log.action_is_outcome
    assert log.categories_are_flat
    # the hyphen goes, as the rule for queries says
    assert category_queries(log.categories, min_levels=1).texts == ["", "comedy", "filmnoir comedy"]


@EDITIONS
def test_odd_rows_are_left_out_or_converted_and_counted(tmp_path, name) -> None:
    """Two short lines, an empty field and a blank line; one negative time; one time in milliseconds."""
    odd = "1::2::5.0::100|1::2|1|1::::5.0::100||7::8::5.0::-1|7::9::5.0::1112486027999|"
    content = odd.replace("|", "\n")
    if name == "ml-1m":
        content = content.replace("5.0", "5")
    else:
        content = "userId,movieId,rating,timestamp\n" + content.replace("::", ",")
    events = read_ratings(name, content.encode(), tmp_path)
    stars = "5" if name == "ml-1m" else "5.0"
    assert rows(events) == [(1, 2, f"rating {stars}", 100), (7, 9, f"rating {stars}", 1112486027)]
    assert events.notes == {
        "lines left out: a field is missing": 4,
        "events left out: their time is before 1970": 1,
        "events whose time was in milliseconds": 1,
    }


BAD_LINES = [
    b"x::2::5::3",
    b"1::2.0::5::3",
    b"1::2::6::3",
    b"1::2::5::3::4",
    b"1::2::5::3x",
    b"3000000000::2::5::3",
    b"\xff",
]


@pytest.mark.parametrize("bad", BAD_LINES)
@pytest.mark.parametrize("place", [0, 1, 57, 99])
def test_a_line_that_is_no_rating_is_named(tmp_path, monkeypatch, bad, place) -> None:
    """The number is the place at which the line was put, from 1, whatever block it falls into."""
    lines = [b"1::2::5::978300760"] * 100
    lines[place] = bad
    monkeypatch.setattr(archives, "BLOCK", 300)
    shown = bad.decode("utf-8", "replace")
    with pytest.raises(UserError) as caught:
        read_ratings("ml-1m", b"\n".join(lines) + b"\n", tmp_path)
    assert f"ratings.dat, line {place + 1}, '{shown}': " in str(caught.value)
    assert "repair or remove the line" in str(caught.value)


def test_the_header_counts_as_a_line(tmp_path) -> None:
    with pytest.raises(UserError, match=r"ratings\.csv, line 3, '1,2,5\.5,3': could not parse `5\.5`"):
        read_ratings("ml-20m", RATINGS_20M.replace(b"1,10,0.5,1112484676", b"1,2,5.5,3"), tmp_path)


def test_headers_may_have_a_byte_order_mark_and_another_order(tmp_path) -> None:
    content = b"\xef\xbb\xbftimestamp,rating,note,movieId,userId\r\n7,3.5,new,20,2\r\n"
    assert rows(read_ratings("ml-20m", content, tmp_path)) == [(2, 20, "rating 3.5", 7)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"userId;movieId;rating;timestamp\n1;2;3.5;4\n",
            "line 1: there is no column movieId, rating, timestamp, userId",
        ),
        (b"1,2,3.5,4\n", "line 1: there is no column"),
        (b"<!doctype html>\n<html></html>\n", "in '<!doctype html>'; this is another file, or a web page"),
        (b"userId,movieId,rating,timestamp\n1,2,3.5,4\n1,2,3.5,111", "the last line, '1,2,3.5,111', has no end"),
        (b"", "ratings.csv is empty"),
    ],
)
def test_another_file_or_a_cut_one_is_refused(tmp_path, content, message) -> None:
    with pytest.raises(UserError) as caught:
        read_ratings("ml-20m", content, tmp_path)
    assert message in str(caught.value)
    assert "download the archive again" in str(caught.value)


def test_a_file_that_cannot_be_opened_is_refused(tmp_path) -> None:
    with pytest.raises(UserError, match=r"ratings\.dat: cannot be read \(No such file or directory\)"):
        RECIPES["ml-1m"].read_events(tmp_path / "ratings.dat", no_report)


@EDITIONS
def test_damaged_zips_are_refused(tmp_path, name) -> None:
    """Cut anywhere, a web page, another archive, and a flipped byte of the packed ratings, which the CRC finds."""
    path = write_zip(tmp_path / f"{name}.zip", name, FILES[name])
    whole = path.read_bytes()
    start = whole.index(f"{name}/ratings".encode()) + len(f"{name}/ratings.dat")
    flipped = whole[: start + 5] + bytes([whole[start + 5] ^ 0x10]) + whole[start + 6 :]
    write_zip(tmp_path / "other.zip", name, {"other.csv": b"1\n"})
    contents = {
        "cut": whole[: len(whole) // 2],
        "nearly whole": whole[:-1],
        "page": b"<html>404</html>\n",
        "empty": b"",
        "flipped": flipped,
        "other": (tmp_path / "other.zip").read_bytes(),
    }
    for content in contents.values():
        path.write_bytes(content)
        with pytest.raises(UserError, match=rf"{name}\.zip: .*download the archive again"):
            RECIPES[name].read_events(path, no_report)


@EDITIONS
def test_missing_files_are_named_with_their_source(tmp_path, name) -> None:
    ratings, films = FILES[name]
    write_unpacked(tmp_path, {ratings: b""})
    with pytest.raises(UserError) as caught:
        RECIPES[name].find(tmp_path)
    assert f"there is neither {name}.zip nor all of {ratings}, {films}" in str(caught.value)
    assert f"https://files.grouplens.org/datasets/movielens/{name}.zip" in str(caught.value)


def test_films_in_utf8_are_read_like_those_in_latin1(tmp_path) -> None:
    utf8 = FILMS_1M.decode("latin-1").encode()
    assert utf8 != FILMS_1M
    assert read_films("ml-1m", utf8, tmp_path, [10]).table.equals(read_films("ml-1m", FILMS_1M, tmp_path, [10]).table)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("ml-1m", b"10::A::Drama\n20::no genres\n", "movies.dat, line 2, '20::no genres': this is not the id, title"),
        ("ml-1m", b"x::A::Drama\n", "movies.dat, line 1, 'x::A::Drama': this is not"),
        ("ml-1m", b"10::A::Drama\n20::B::Dra", "the last line, '20::B::Dra', has no end"),
        ("ml-20m", b"movieId,title,genres\n10,A, Tale,Drama\n", "movies.csv, line 2, '10,A, Tale,Drama': this is not"),
        ("ml-20m", b'movieId,title,genres\n10,"A,Drama\n', "movies.csv: unexpected end of data"),
        ("ml-20m", b"<html></html>\n", "movies.csv, line 1, '<html></html>': this is not"),
    ],
)
def test_a_line_that_is_no_film_is_refused(tmp_path, name, content, message) -> None:
    with pytest.raises(UserError) as caught:
        read_films(name, content, tmp_path, [10])
    assert message in str(caught.value)


def almost(separator: str, *fields: str) -> st.SearchStrategy[bytes]:
    """Files of lines of which most have these fields, with what breaks parsers strewn in."""
    odd = st.sampled_from(["", "x", '"', ",", "::", "\r", "\0", "é", "-1", "1e9", "9" * 30, "nan", " 1", *fields])
    field = st.one_of(st.sampled_from(fields), odd)
    line = st.lists(field, min_size=1, max_size=5).map(separator.join)
    whole = st.lists(line, max_size=6).map(lambda lines: "".join(f"{one}\n" for one in lines).encode())
    return st.tuples(whole, st.binary(max_size=3)).map(b"".join)


ANY_RATINGS_1M = st.binary(max_size=60) | almost("::", "1", "2", "5", "978300760")
ANY_RATINGS_20M = st.binary(max_size=60) | almost(",", "1", "2", "4.5", "978300760").map(
    lambda content: b"userId,movieId,rating,timestamp\n" + content
)
ANY_FILMS_1M = st.binary(max_size=60) | almost("::", "1", "A (1990)", "Drama|Comedy")
ANY_FILMS_20M = st.binary(max_size=60) | almost(",", "1", '"A (1990)"', "Drama|Comedy").map(
    lambda content: b"movieId,title,genres\n" + content
)


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.just("ml-1m"), ANY_RATINGS_1M) | st.tuples(st.just("ml-20m"), ANY_RATINGS_20M))
@example(("ml-20m", b"x^,userId,movieId,rating,timestamp\n"))  # the first bytes of zlib
def test_any_bytes_give_ratings_or_a_refusal(case) -> None:
    name, content = case
    with tempfile.TemporaryDirectory() as folder:
        try:
            events = read_ratings(name, content, Path(folder))
        except UserError:
            return
    assert events.table.null_count().sum_horizontal().sum() == 0
    assert len(events.table) + sum(n for note, n in events.notes.items() if "left out" in note) <= content.count(b"\n")


@settings(max_examples=200, deadline=None)
@given(st.tuples(st.just("ml-1m"), ANY_FILMS_1M) | st.tuples(st.just("ml-20m"), ANY_FILMS_20M))
def test_any_bytes_give_films_or_a_refusal(case) -> None:
    name, content = case
    with tempfile.TemporaryDirectory() as folder:
        try:
            films = read_films(name, content, Path(folder), [1, 2])
        except UserError:
            return
    assert set(films.table["item"]) <= {1, 2}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_zip_with_a_changed_byte_gives_the_same_ratings_or_a_refusal(place, change) -> None:
    """Which of the two depends on what the byte was for; the checksum of each packed file sees to the rest."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_zip(Path(folder) / "ml-1m.zip", "ml-1m", FILES["ml-1m"])
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= change
        path.write_bytes(content)
        try:
            events = RECIPES["ml-1m"].read_events(path, no_report)
        except UserError:
            return
    assert rows(events) == RATINGS_OF_1M


IDS = st.integers(0, 2**31 - 1)
RATINGS = st.tuples(IDS, IDS, st.integers(1, 10), st.integers(0, 10**11))


@settings(max_examples=100, deadline=None)
@given(st.lists(RATINGS, min_size=1, max_size=10), st.sampled_from(["\n", "\r\n"]))
def test_ratings_that_are_written_are_read_back(ratings, end) -> None:
    """Against the values that were written, which a plain split of the lines would give."""
    with tempfile.TemporaryDirectory() as folder:
        halves = "".join(f"{u},{i},{half / 2},{t}{end}" for u, i, half, t in ratings)
        events = read_ratings("ml-20m", f"userId,movieId,rating,timestamp{end}{halves}".encode(), Path(folder))
        assert rows(events) == [(u, i, f"rating {half / 2}", t) for u, i, half, t in ratings]
        stars = "".join(f"{u}::{i}::{half % 5 + 1}::{t}{end}" for u, i, half, t in ratings)
        events = read_ratings("ml-1m", stars.encode(), Path(folder))
        assert rows(events) == [(u, i, f"rating {half % 5 + 1}", t) for u, i, half, t in ratings]


def quoted(text: str) -> str:
    return '"{}"'.format(text.replace('"', '""'))


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="|"), min_size=1, max_size=12)
FILMS = st.tuples(IDS, NAMES, st.lists(NAMES, min_size=1, max_size=3))


@settings(max_examples=100, deadline=None)
@given(st.lists(FILMS, min_size=1, max_size=5, unique_by=lambda film: film[0]))
def test_films_that_are_written_are_read_back(films) -> None:
    """Titles and genres with any quotes, commas and letters."""
    lines = [f"{i},{quoted(title)},{quoted('|'.join(genres))}\n" for i, title, genres in films]
    content = "".join(["movieId,title,genres\n", *lines]).encode()
    with tempfile.TemporaryDirectory() as folder:
        read = read_films("ml-20m", content, Path(folder), [i for i, _, _ in films])
    assert read.table.rows() == [(i, title, [genres]) for i, title, genres in films]
