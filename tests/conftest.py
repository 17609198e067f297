"""A small log that every room of the tests can use."""

import pytest
import torch
from toys import toy_requests, toy_tables

from synergen.data.dataset import Dataset, prepare
from synergen.data.impressions import with_impressions
from synergen.data.splits import TimeSplit
from synergen.raw import validate


@pytest.fixture(scope="session")
def _cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _alone(_cache, monkeypatch) -> None:
    """Fixed random numbers, one thread as in real runs, and no file outside the test's own folders."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    monkeypatch.setenv("SYNERGEN_CACHE", _cache)


@pytest.fixture
def toy() -> Dataset:
    """30 users, about 140 items that occur, titles with shared words, half of the past events searches."""
    interactions, items = toy_tables()
    return prepare(validate(interactions, items, "toy", "toy"), search_share=0.5)


@pytest.fixture
def split() -> TimeSplit:
    """Requests of 40 users with slates, clicks and purchases, split at a point of time."""
    interactions, items, impressions = toy_requests(users=40)
    raw = with_impressions(validate(interactions, items, "toy", "toy"), impressions, "toy")
    found = prepare(raw, 0.0, "time").split
    assert isinstance(found, TimeSplit)
    return found


@pytest.fixture
def toy_folder(tmp_path):
    """The same log as a folder of parquet files."""
    folder = tmp_path / "toy"
    folder.mkdir()
    interactions, items = toy_tables()
    interactions.to_parquet(folder / "interactions.parquet")
    items.to_parquet(folder / "items.parquet")
    return folder
