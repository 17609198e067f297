"""A made-up shop."""

from pathlib import Path

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


def toy_shop(folder: Path, users: int, items: int) -> Path:
    """`toy_tables` as a folder that the commands read."""
    folder.mkdir()
    for table, name in zip(toy_tables(users=users, items=items), ("interactions", "items"), strict=True):
        table.to_parquet(folder / f"{name}.parquet")
    return folder


def toy_requests(
    users: int = 12, items: int = 40, seed: int = 0, days: int = 30
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Interactions, items and impressions of a made-up shop: slates of 3 to 6 items of which none, one or two are
    clicked, some bought; requests hours apart, every second one a search. The last item is never shown."""
    rng = np.random.default_rng(seed)
    _, catalogue = toy_tables(1, items)
    shown, events, request = [], [], 100
    for user in range(users):
        times = np.sort(rng.integers(0, days * 86_400, rng.integers(4, 15))) + 1_500_000_000
        for time in times:
            slate = rng.choice(items - 1, rng.integers(3, 7), replace=False)
            query = "" if rng.random() < 0.5 else f"query {slate[0] % 5}"
            shown.append((request, f"u{user}", time, query, slate.tolist()))
            for at, item in enumerate(rng.permutation(slate)[: rng.choice([0, 1, 1, 2])]):
                events.append((f"u{user}", int(item), time + 5 * at, "click", request))
                if rng.random() < 0.3:
                    events.append((f"u{user}", int(item), time + 5 * at + 1, "purchase", request))
            request += 1
    interactions = pd.DataFrame(events, columns=["user", "item", "ts", "action", "request"])
    impressions = pd.DataFrame(shown, columns=["request", "user", "ts", "query", "items"])
    return interactions, catalogue, impressions
