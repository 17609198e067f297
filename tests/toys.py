"""A made-up shop."""

import numpy as np
import pandas as pd


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
