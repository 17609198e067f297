"""A small log that every room of the tests can use."""

import pytest
import torch
from toys import toy_tables

from synergen.data.dataset import Dataset, prepare
from synergen.events import validate


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def toy() -> Dataset:
    """30 users, about 140 items that occur, titles with shared words, half of the past events searches."""
    interactions, items = toy_tables()
    return prepare(validate(interactions, items, "toy", "toy"), search_share=0.5)


@pytest.fixture
def toy_folder(tmp_path):
    """The same log as a folder of parquet files."""
    folder = tmp_path / "toy"
    folder.mkdir()
    interactions, items = toy_tables()
    interactions.to_parquet(folder / "interactions.parquet")
    items.to_parquet(folder / "items.parquet")
    return folder
