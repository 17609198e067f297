"""Random weights and inputs: no figure depends on data."""

import numpy as np
import torch

from synergen.contract import Batch, DataView, Histories
from synergen.events import EventLog
from synergen.model.decoder import Decoder
from synergen.model.time_rope import Rotation, TimeRope

START, DAY = 1_700_000_000, 86_400


def decoder(width: int, heads: int) -> Decoder:
    torch.manual_seed(0)
    return Decoder(width, layers=2, heads=heads, ffn_width=4 * width, dropout=0.0)


def rope(width: int, heads: int) -> TimeRope:
    return TimeRope(width // heads // 2, "mixed", DAY, 2.0, 3650.0)


def rotation(rope: TimeRope, batch: int, steps: int, later: int) -> Rotation:
    """Of one token a day, each `later` seconds after its hour."""
    positions = torch.arange(steps).expand(batch, -1)
    times = START + positions * DAY
    return rope(times + later, positions, times[:, :1])


def catalogue(n_items: int) -> DataView:
    return DataView(
        n_items=n_items, n_queries=0, n_actions=1, item_texts=[""] * (n_items + 1), query_texts=[""],
        item_counts=np.ones(n_items + 1, dtype=np.int64),
    )  # fmt: skip


def training_batch(batch: int, steps: int, n_items: int) -> Batch:
    """Full histories of one event a day, each a request of its own and a target."""
    shape = (batch, steps)
    order = torch.arange(steps).expand(shape)
    events = Histories(
        items=torch.randint(1, n_items + 1, shape),
        actions=torch.ones(shape, dtype=torch.int64),
        times=START + order * DAY,
        queries=torch.zeros(shape, dtype=torch.int64),
        groups=order,
        lengths=torch.full((batch,), steps),
    )
    return Batch(events, torch.ones(shape, dtype=torch.bool), events.actions, torch.arange(batch))


def log(n_users: int, n_items: int) -> EventLog:
    """Histories of five events or more, one a day and each a request of its own: 15 on average, by a power law of
    exponent 2.4 that is cut at 1,000."""
    rng = np.random.default_rng(0)
    lengths = np.minimum(5 * rng.random(n_users) ** (-1 / 1.4), 1000).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    n = int(offsets[-1])
    order = np.arange(n) - np.repeat(offsets[:-1], lengths)
    return EventLog(
        name="made up", offsets=offsets, items=rng.integers(1, n_items + 1, n, dtype=np.int32),
        actions=np.ones(n, np.int16), times=START + order * DAY, groups=order.astype(np.int32),
        queries=np.zeros(n, np.int32), searched=np.zeros(n, bool), user_ids=np.arange(n_users),
        item_ids=np.arange(n_items + 1), titles=[], categories=[], action_names=["", "view"], query_texts=[""],
        action_is_outcome=False, categories_are_flat=True, dropped={},
    )  # fmt: skip
