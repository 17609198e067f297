"""The simulation as Arrow tables."""

from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa

from synergen.data.sessions.behaviour import RequestState
from synergen.data.sessions.block import Block
from synergen.data.sessions.catalogue import Catalogue, Items
from synergen.data.sessions.shoppers import START


def catalogue_tables(catalogue: Catalogue) -> dict[str, Any]:
    """What is known and what is true of the items."""
    paths = [[catalogue.leaves.paths[leaf]] for leaf in catalogue.items.leaf.tolist()]
    known = {"item": np.arange(len(catalogue.items)), "title": catalogue.titles, "categories": paths}
    return {"items": _table(known), "items_truth": _table(_columns(catalogue.items))}


def block_tables(block: Block, first_user: int, first_request: int) -> dict[str, Any]:
    """What was done and shown, and the truth, with users and requests numbered on from the given ones."""
    asks, events, slates = block.asks, block.events, block.slates
    interactions = {
        "user": first_user + asks.users[events.requests],
        "item": events.items,
        "ts": START + events.times,
        "action": np.where(events.purchases, "purchase", "click"),
        "request": first_request + events.requests,
    }
    impressions = {
        "request": first_request + np.arange(len(asks.users)),
        "user": first_user + asks.users,
        "ts": START + asks.times,
        "query": block.queries,
        "items": _lists(slates.items, slates.shown),
    }
    truth = {
        "click_probability": _lists(slates.click, slates.shown),
        "purchase_probability": _lists(slates.purchase, slates.shown),
    }
    return {
        "interactions": _table(interactions),
        "impressions": _table(impressions),
        "truth": _table(truth | _columns(block.state)),
    }


def _columns(record: RequestState | Items) -> dict[str, np.ndarray]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _table(columns: dict[str, Any]) -> Any:
    return pa.table({name: _array(values) for name, values in columns.items()})


def _array(values: Any) -> Any:
    """A column; the rows of a matrix become lists of fixed size."""
    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    return values if isinstance(values, pa.Array) else pa.array(values)


def _lists(values: np.ndarray, kept: np.ndarray) -> Any:
    """The rows of `values` as lists of what is `kept`."""
    offsets = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values[kept]))
