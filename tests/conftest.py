"""A small log that every room of the tests can use."""

import numpy as np
import pandas as pd
import pytest
import torch

from synergen.data.dataset import Dataset, prepare
from synergen.events import validate


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def toy_tables(users: int = 30, items: int = 160, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Interactions and items of a made-up shop: each user walks along the item numbers, titles share words."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        start, length = int(rng.integers(items)), int(rng.integers(5, 12))
        for step in range(length):
            rows.append((f"u{user}", (start + 3 * step) % items, 1_000_000_000 + 86_400 * (user + step)))
    interactions = pd.DataFrame(rows, columns=["user", "item", "ts"])
    words = ["red", "blue", "green", "large", "small", "wool", "silk"]
    titles = [f"{words[i % 7]} {words[(i // 7) % 7]} thing {i}" for i in range(items)]
    return interactions, pd.DataFrame({"item": range(items), "title": titles})


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
