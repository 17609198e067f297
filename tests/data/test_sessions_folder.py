"""What `simulate` leaves on disk."""

import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from synergen.data.folder import load_folder
from synergen.data.sessions import VERSION, Truth, folder_for, simulate, write
from synergen.data.sessions.shoppers import HORIZON, START
from synergen.errors import UserError
from synergen.events import number_events
from synergen.files import digest

TABLES = ("interactions", "items", "impressions", "truth", "items_truth")


def table_digest(folder: Path) -> list[str]:
    return [digest(pq.read_table(folder / f"{name}.parquet").to_pandas().to_json()) for name in TABLES]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop") / "sessions-600"
    simulate(folder, 600)
    return folder


@pytest.fixture(scope="module")
def impressions(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "impressions.parquet")


@pytest.fixture(scope="module")
def events(folder: Path, impressions: pd.DataFrame) -> pd.DataFrame:
    """The interactions, with what their request showed and when."""
    events = pd.read_parquet(folder / "interactions.parquet")
    return events.merge(impressions, on="request", suffixes=("", "_asked"), validate="many_to_one")


def test_equal_arguments_give_equal_tables_and_another_seed_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, 100, seed)
    assert table_digest(tmp_path / "a") == table_digest(tmp_path / "b")
    assert not set(table_digest(tmp_path / "a")) & set(table_digest(tmp_path / "c"))


def test_requests_are_numbered_by_row_in_order_of_user_and_time(impressions: pd.DataFrame) -> None:
    assert impressions.request.tolist() == list(range(len(impressions)))
    order = impressions.sort_values(["user", "ts"], kind="stable").request
    assert order.tolist() == impressions.request.tolist()
    assert impressions.user.unique().tolist() == list(range(600))
    assert impressions.groupby("user").size().between(3, 150).all()
    assert impressions.ts.between(START, START + HORIZON).all()


def test_a_slate_holds_distinct_items_seven_in_search_and_fifteen_in_feed(impressions: pd.DataFrame) -> None:
    searched = impressions["query"] != ""
    assert impressions["items"].map(len).tolist() == np.where(searched, 7, 15).tolist()
    assert impressions["items"].map(lambda items: len(set(items)) == len(items)).all()
    assert searched.mean() == pytest.approx(0.5, abs=4 * 0.5 / len(searched) ** 0.5)  # a fair coin, 4 standard errors


def test_only_shown_items_are_clicked_and_only_clicked_ones_bought_later(events: pd.DataFrame) -> None:
    assert all(item in shown for item, shown in zip(events["item"], events["items"], strict=True))
    clicks = events[events.action == "click"].set_index(["request", "item"])
    purchases = events[events.action == "purchase"].set_index(["request", "item"])
    assert clicks.index.is_unique
    assert purchases.index.is_unique
    assert len(purchases) > 0
    assert (purchases.ts > clicks.ts.loc[purchases.index]).all()


def test_events_of_a_request_come_after_it_and_before_the_users_next(
    events: pd.DataFrame, impressions: pd.DataFrame
) -> None:
    following = impressions.ts.shift(-1).where(impressions.user == impressions.user.shift(-1), np.inf)
    assert (events.user == events.user_asked).all()
    assert (events.ts > events.ts_asked).all()
    assert (events.ts.to_numpy() < following.loc[events.request].to_numpy()).all()
    assert events.sort_values(["user", "ts"], kind="stable").index.equals(events.index)


def test_gaps_are_short_within_visits_and_long_between_them(impressions: pd.DataFrame) -> None:
    gaps = impressions.ts.diff()[impressions.user == impressions.user.shift()]
    within, between = gaps[gaps <= 900], gaps[gaps >= 3_600]
    assert len(within) + len(between) == len(gaps)  # the bounds in shoppers.py
    assert within.min() >= 30
    share = len(between) / len(gaps)
    assert share == pytest.approx(1 / 3, abs=4 * (2 / 9 / len(gaps)) ** 0.5)  # one in three begins a visit
    assert between.quantile(0.99) > 20 * between.median()  # a heavy tail: 4.6 times in an exponential one's place


def test_many_queries_hold_words_that_no_title_does(folder: Path, impressions: pd.DataFrame) -> None:
    titles = pd.read_parquet(folder / "items.parquet").title
    known = {word for title in titles for word in title.lower().replace(",", "").split()}
    queries = impressions["query"][impressions["query"] != ""]
    strange = queries.map(lambda query: any(word not in known for word in query.split())).mean()
    # by design 28 % name the thing as no title does, 10 % misspell it, 18 % say an attribute differently, some overlap
    assert 0.35 < strange < 0.6


def test_the_folder_is_a_data_set_like_any_other(folder: Path, events: pd.DataFrame) -> None:
    log = number_events(load_folder(folder))
    assert log.name == "sessions-600"
    assert len(np.unique(log.request_starts)) < log.n_events
    assert log.action_names == ["", "click", "purchase"]
    enough = events.groupby("user").size()
    assert log.n_events == enough[enough >= 3].sum()
    assert all(len(path) == 3 for [path] in log.categories[1:])


def test_the_summary_counts_the_tables(folder: Path, events: pd.DataFrame, impressions: pd.DataFrame) -> None:
    assert json.loads((folder / "sessions.json").read_text()) == {
        "version": VERSION,
        "users": 600,
        "seed": 0,
        "items": 1_000,  # the smallest catalogue
        "requests": len(impressions),
        "searches": (impressions["query"] != "").sum(),
        "clicks": (events.action == "click").sum(),
        "purchases": (events.action == "purchase").sum(),
    }


def test_truth_holds_the_probabilities_of_the_slates(folder: Path, impressions: pd.DataFrame) -> None:
    truth = Truth.load(folder)
    requests = np.array([5, 0, 17])
    stored = pq.read_table(folder / "truth.parquet").to_pandas()
    for known, column in ((truth.click, "click_probability"), (truth.purchase, "purchase_probability")):
        rows = known(requests)
        assert rows.shape == (3, 15)
        for row, request in zip(rows, requests, strict=True):
            shown = len(impressions["items"][request])
            assert row[:shown].tolist() == stored[column][request].tolist()
            assert not row[shown:].any()
    assert (truth.purchase_probability <= truth.click_probability).all()


def test_users_in_several_blocks_are_all_simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write, "_USERS_AT_ONCE", 60)
    seen: list[tuple[int, int]] = []
    simulate(tmp_path / "shop", 130, progress=lambda done, of: seen.append((done, of)))
    assert seen == [(60, 130), (120, 130), (130, 130)]
    shown = pd.read_parquet(tmp_path / "shop" / "impressions.parquet")
    assert shown.user.unique().tolist() == list(range(130))
    assert shown.request.tolist() == list(range(len(shown)))
    events = pd.read_parquet(tmp_path / "shop" / "interactions.parquet").merge(shown, on="request")
    assert (events.user_x == events.user_y).all()
    assert len(Truth.load(tmp_path / "shop").state) == len(shown)


@pytest.mark.parametrize("users", [99, 1_000_001])
def test_too_few_or_too_many_users_are_refused(tmp_path: Path, users: int) -> None:
    with pytest.raises(UserError, match="100 to 1,000,000"):
        simulate(tmp_path / "shop", users)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="exists already"):
        simulate(tmp_path, 100)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="simulate it again"):
        Truth.load(tmp_path)
    (tmp_path / "truth.parquet").write_bytes(b"cut short")
    with pytest.raises(UserError, match="simulate it again"):
        Truth.load(tmp_path)


def fail_with(error: Exception) -> object:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(("error", "raised"), [(OSError(28, "No space left"), UserError), (ValueError(), ValueError)])
def test_a_failing_writer_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, raised: type[Exception]
) -> None:
    monkeypatch.setattr(write, "block_tables", fail_with(error))
    with pytest.raises(raised):
        simulate(tmp_path / "shop", 100)
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_no_folder_and_the_next_one_clears_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))

    def die(done: int, of: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    place = tmp_path / "sessions" / f"v{VERSION}-seed5" / "sessions-100"
    child = multiprocessing.get_context("fork").Process(target=simulate, args=(place, 100, 5, die))
    child.start()
    child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert [path.suffix for path in place.parent.iterdir()] == [".tmp"]
    assert folder_for(100, 5) == place
    assert sorted(path.name for path in place.parent.iterdir()) == ["sessions-100", "sessions-100.lock"]


def test_the_cache_simulates_once_and_names_thousands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))
    made: list[Path] = []
    monkeypatch.setattr(write, "simulate", lambda folder, users, seed: (made.append(folder), folder.mkdir()))
    assert folder_for(50_000) == folder_for(50_000)
    assert folder_for(1_500, 2).name == "sessions-1500"
    parent = tmp_path / "sessions"
    assert made == [parent / f"v{VERSION}-seed0" / "sessions-50k", parent / f"v{VERSION}-seed2" / "sessions-1500"]


def test_processes_that_ask_together_simulate_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path))

    def slowly(folder: Path, users: int, seed: int) -> None:
        time.sleep(0.3)  # long enough for the others to arrive
        folder.mkdir()  # fails where it exists

    monkeypatch.setattr(write, "simulate", slowly)
    children = [multiprocessing.get_context("fork").Process(target=folder_for, args=(100,)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
    assert [child.exitcode for child in children] == [0] * 3


def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SYNERGEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="SYNERGEN_CACHE"):
        folder_for(100)
