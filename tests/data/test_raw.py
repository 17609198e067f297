"""Ids as numbers, against Python lists of the same values."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synergen.errors import UserError
from synergen.raw import Coded, by_user_and_time, catalogue, described, validate, whole_seconds, without_duplicates

words = st.text(st.characters(codec="utf-8"), max_size=3)
columns = st.one_of(
    st.lists(st.none() | words, min_size=1, max_size=20).map(lambda v: pl.Series(v, dtype=pl.String)),
    st.lists(st.none() | st.integers(-3, 3), min_size=1, max_size=20).map(lambda v: pl.Series(v, dtype=pl.Int64)),
    st.lists(st.none() | st.integers(0, 2**62), min_size=1, max_size=20).map(lambda v: pl.Series(v, dtype=pl.Int64)),
    st.lists(st.none() | st.sampled_from("abc"), min_size=1, max_size=20).map(
        lambda v: pl.Series(v, dtype=pl.Enum(["c", "b", "a"]))
    ),
)


@given(columns)
def test_numbers_stand_for_the_values(values):
    coded = Coded.of(values)
    assert coded.values().to_list() == values.to_list()
    assert len(set(coded.ids)) == len(coded.ids)
    assert coded.counts.tolist() == [values.to_list().count(one) for one in coded.ids]


@given(columns, st.data())
def test_ids_that_are_left_are_sorted(values, data):
    rows = np.array(data.draw(st.lists(st.sampled_from(range(len(values))), min_size=1)))
    kept = [values.to_list()[row] for row in rows]
    left = Coded.of(values)[rows].present()
    texts = pl.Series(kept, dtype=pl.String if isinstance(values.dtype, pl.Enum) else values.dtype)
    assert left.ids.to_list() == sorted(set(texts) - {None})
    assert left.values().to_list() == kept


@given(st.lists(words, min_size=1), st.lists(words, min_size=1))
def test_two_columns_share_the_ids_of_both(first, second):
    both = Coded.of(pl.Series(first)).with_ids_of(Coded.of(pl.Series(second)))
    for one, values in zip(both, (first, second), strict=True):
        assert one.ids.to_list() == sorted({*first, *second})
        assert one.values().to_list() == values


def test_columns_of_other_kinds_do_not_follow():
    with pytest.raises(TypeError, match="String does not go with Int64"):
        Coded.of(pl.Series([1])).with_ids_of(Coded.of(pl.Series(["a"])))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0, 5, 2**31, 2**33])), min_size=1))
def test_events_are_sorted_by_user_and_time_and_ties_keep_their_order(pairs):
    users, times = (np.array(column) for column in zip(*pairs, strict=True))
    expected = sorted(range(len(pairs)), key=lambda row: pairs[row])  # Python's sort is stable
    assert by_user_and_time(users.astype(np.int32), times).tolist() == expected


def table(*rows, columns=("user", "item", "ts")):
    return pl.DataFrame(rows, schema=list(columns), orient="row")


rows = st.lists(st.tuples(words, st.integers(0, 3), st.sampled_from([0, 5, 7, 2**33])), min_size=1)


@given(rows, rows)
def test_logs_one_after_the_other_are_the_log_of_all_files(early, late):
    first, second = table(*early), table(*late)
    logs = [validate(one, None, "x", "x", drop_duplicates=False) for one in (first, second, pl.concat([first, second]))]
    joined = logs[0].followed_by(logs[1], "second")
    assert joined.frame().equals(logs[2].frame())


def test_files_with_other_columns_do_not_follow():
    first = validate(table(("a", 1, 5)), None, "x", "x")
    with pytest.raises(UserError, match="second: column 'query' is in only one of the files"):
        first.followed_by(validate(table(("a", 1, 5)).with_columns(query=pl.lit("q")), None, "x", "x"), "second")
    with pytest.raises(UserError, match="second: column 'item' is of another kind"):
        first.followed_by(validate(table(("a", "one", 5)), None, "x", "x"), "second")


def test_duplicates_agree_in_every_column():
    rows = table(("a", 1, 5), ("a", 1, 5), ("a", 1, 6)).with_columns(action=pl.Series(["x", "x", "x"]))
    raw = validate(rows, None, "x", "x", drop_duplicates=False)
    assert len(raw) == 3
    assert len(without_duplicates(raw)) == 2
    other = validate(rows.with_columns(action=pl.Series(["x", "y", "x"])), None, "x", "x")
    assert len(other) == 3


def test_milliseconds_are_noticed():
    with pytest.raises(UserError, match=r"log\.csv: row 1: column 'ts' is in milliseconds; divide it by 1000"):
        whole_seconds(pl.Series([1_400_000_000, 1_400_000_000_000]), "log.csv")


def test_ids_of_mixed_kinds_are_refused():
    import pandas as pd

    mixed = pd.DataFrame({"user": ["a", 1], "item": [1, 2], "ts": [1, 2]})
    with pytest.raises(UserError, match="log: a column mixes kinds of values"):
        validate(mixed, None, "x", "log")


def test_items_are_found_though_their_numbers_are_written_as_text():
    known = catalogue(pl.DataFrame({"item": ["7", "8", "7"], "title": [" seven ", None, "again"]}), "items")
    assert described(pl.Series([8, 7, 9]), known) == (["", "seven", ""], [[], [], []])
