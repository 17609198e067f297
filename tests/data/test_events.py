"""Validation and numbering of logs. Expected values are written out by hand from the documented rules."""

import numpy as np
import pandas as pd
import pytest

from synergen.data.dataset import find_source, load_dataset, statistics
from synergen.data.filters import Filter, apply_filter
from synergen.errors import UserError
from synergen.events import number_events
from synergen.raw import validate


def log_of(rows, items=None, **columns):
    frame = pd.DataFrame(rows, columns=["user", "item", "ts"]).assign(**columns)
    return validate(frame, items, "hand", "hand.csv")


ROWS = [("b", 9, 30), ("a", 7, 20), ("a", 8, 10), ("a", 9, 20), ("b", 7, 30), ("b", 8, 5)]


def test_sort_is_by_user_then_time_then_file_order():
    log = number_events(log_of(ROWS))
    assert log.user_ids.tolist() == ["a", "b"]
    assert log.offsets.tolist() == [0, 3, 6]
    # items 7, 8, 9 become 1, 2, 3; user a's two events at 20 and user b's two at 30 keep their file order
    assert log.items.tolist() == [2, 1, 3, 2, 3, 1]
    assert log.item_ids.tolist() == [None, 7, 8, 9]


def test_users_with_fewer_than_three_events_are_dropped_and_counted():
    log = number_events(log_of([*ROWS, ("c", 7, 1), ("c", 8, 2)]))
    assert log.n_users == 2
    assert log.dropped["users with fewer than 3 events"] == 1


def test_duplicated_events_are_dropped_and_counted():
    raw = log_of([*ROWS, ("a", 8, 10)])
    assert len(raw) == 6
    assert raw.dropped["duplicated events"] == 1


def test_events_of_one_request_share_a_group():
    log = number_events(
        log_of(
            [("a", 1, 1), ("a", 2, 1), ("a", 3, 2), ("b", 1, 1), ("b", 2, 2), ("b", 3, 2)],
            request=["r1", "r1", "r2", "r3", "r4", "r4"],
        )
    )
    assert log.groups.tolist() == [0, 0, 1, 0, 1, 1]


def test_without_requests_every_event_is_its_own_group():
    assert number_events(log_of(ROWS)).groups.tolist() == [0, 1, 2, 0, 1, 2]


def test_queries_of_the_log_are_kept():
    log = number_events(log_of(ROWS, query=["", "tea", None, "cup", "tea", " "]))
    assert log.query_texts == ["", "cup", "tea"]
    assert log.queries.tolist() == [0, 2, 1, 0, 0, 2]
    assert log.searched.tolist() == [False, True, True, False, False, True]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", 1, 1), (None, 2, 2)], ["hand.csv", "row 1", "user", "null"]),
        ([("a", None, 1)], ["row 0", "item", "null"]),
        ([("a", 1, None)], ["row 0", "ts", "null"]),
        ([("a", 1, 5), ("a", 2, -5), ("a", 3, -6)], ["row 1 and 1 more", "negative"]),
        ([("a", 1, 5.5)], ["row 0", "whole"]),
        ([("a", 1, "noon")], ["row 0", "not a number"]),
        ([], ["no events"]),
        ([("a", 1, 1), ("a", 2, 2)], ["hand", "no user has 3"]),
    ],
)
def test_bad_rows_are_named_with_the_remedy(rows, words):
    with pytest.raises(UserError) as error:
        number_events(log_of(rows))
    for word in words:
        assert word in str(error.value)


def test_missing_column_is_named():
    with pytest.raises(UserError, match=r"x\.parquet: column 'ts' is missing.*user, item, time"):
        validate(pd.DataFrame({"user": [1], "item": [2], "time": [3]}), None, "x", "x.parquet")


def test_items_without_text_are_kept_and_counted():
    items = pd.DataFrame({"item": [7, 8], "title": ["A &amp; B", None]})
    log = number_events(log_of(ROWS, items))
    assert log.titles == ["", "A &amp; B", "", ""]


def test_times_may_be_dates():
    frame = pd.DataFrame(
        {
            "user": ["a"] * 3,
            "item": [1, 2, 3],
            "ts": pd.to_datetime([86_400, 172_800, 1], unit="s"),
        }
    )
    assert number_events(validate(frame, None, "d", "d")).times.tolist() == [1, 86_400, 172_800]


def test_one_pass_counts_once_and_k_core_repeats():
    # item z occurs once, so under a count of 2 user b keeps one event in one pass and leaves in the 2-core
    rows = [("a", "x", 1), ("a", "y", 2), ("c", "x", 1), ("c", "y", 2), ("b", "z", 1), ("b", "x", 2)]
    raw = log_of(rows)
    assert len(apply_filter(raw, Filter.ONE_PASS, 2)) == 5
    assert len(apply_filter(raw, Filter.K_CORE, 2)) == 4
    with pytest.raises(UserError, match="no event is left"):
        apply_filter(raw, Filter.K_CORE, 9)


def test_folder_in_csv_and_parquet_agree(toy_folder, tmp_path):
    folder = tmp_path / "csv" / "toy"
    folder.mkdir(parents=True)
    for name in ("interactions", "items"):
        pd.read_parquet(toy_folder / f"{name}.parquet").to_csv(folder / f"{name}.csv", index=False)
    parquet, csv = (load_dataset(str(f), search_share=0.5) for f in (toy_folder, folder))
    assert parquet.log.data_hash == csv.log.data_hash


def test_html_entities_and_category_paths_of_a_folder(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    pd.DataFrame(ROWS, columns=["user", "item", "ts"]).to_csv(folder / "interactions.csv", index=False)
    pd.DataFrame(
        {
            "item": [7, 8, 9],
            "title": ["Tom &amp; Jerry", "x", ""],
            "categories": ["Toys > Mice|Films > Cartoons", None, "Toys > Cats"],
        }
    ).to_csv(folder / "items.csv", index=False)
    dataset = load_dataset(str(folder), search_share=0.5)
    assert dataset.log.titles[1] == "Tom & Jerry"
    assert dataset.log.categories[1] == [["Toys", "Mice"], ["Films", "Cartoons"]]
    assert dataset.item_texts()[1] == "Tom & Jerry. Toys Mice Films Cartoons"
    assert statistics(dataset)["items without a query"] == pytest.approx(1 / 3)


def test_truncated_parquet_is_named(toy_folder):
    path = toy_folder / "interactions.parquet"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"interactions\.parquet: cannot be read.*cut short"):
        load_dataset(str(toy_folder), search_share=0.5)


def test_unknown_data_set_names_the_nearest(tmp_path):
    with pytest.raises(UserError, match="did you mean 'ml-100k'"):
        find_source("ml100k")
    with pytest.raises(UserError, match="does not exist"):
        find_source(str(tmp_path / "nothing"))
    with pytest.raises(UserError, match="no interactions"):
        load_dataset(str(tmp_path), search_share=0.5)


def test_ml_100k_has_its_published_size():
    # GroupLens: 943 users, 1,682 films, 100,000 ratings, every user at least 20
    dataset = load_dataset("ml-100k", search_share=0.5)
    assert (dataset.log.n_users, dataset.log.n_items, dataset.log.n_events) == (943, 1682, 100_000)
    assert np.diff(dataset.log.offsets).min() == 20
    assert dataset.log.titles[1] == "Toy Story 1995"
    assert dataset.log.action_names[1:] == [f"rating {r}" for r in range(1, 6)]
    assert dataset.log.action_is_outcome
