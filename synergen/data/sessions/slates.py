"""What is shown, clicked and bought."""

from dataclasses import dataclass

import numpy as np

from synergen.data.sessions.behaviour import (
    FEED_SLATE,
    LEAVES_OF_REQUEST,
    RequestState,
    attraction,
    examination,
    gumbel,
    policy_logits,
    purchase_given_click,
    slate_sizes,
)
from synergen.data.sessions.catalogue import Catalogue
from synergen.data.sessions.shoppers import Asks


@dataclass(frozen=True)
class Slates:
    """n slates in shown order, padded with item -1 and probability 0 to FEED_SLATE."""

    items: np.ndarray  # (n, S) int32
    click: np.ndarray  # (n, S) float32 probability
    purchase: np.ndarray  # (n, S) float32 probability of a click and a purchase

    @property
    def shown(self) -> np.ndarray:
        """(n, S) bool: false on padding."""
        return self.items >= 0


@dataclass(frozen=True)
class Events:
    """N clicks and purchases, in order of request and time."""

    requests: np.ndarray  # (N,) int64: row of the request
    items: np.ndarray  # (N,) int32
    times: np.ndarray  # (N,) int64 seconds into the horizon
    purchases: np.ndarray  # (N,) bool


def draw_slates(state: RequestState, catalogue: Catalogue, rng: np.random.Generator) -> Slates:
    """A Plackett-Luce draw for each request: the highest of logit + Gumbel noise among the items of all its leaves.

    The pairs of request and leaf are taken leaf by leaf, so that each leaf costs one matrix product.
    """
    requests, slots = np.nonzero(state.leaves >= 0)
    leaf = state.leaves[requests, slots]
    order = np.argsort(leaf, kind="stable")
    requests, slots, leaf = requests[order], slots[order], leaf[order]
    asked = state[requests]
    keys = np.full((len(state), LEAVES_OF_REQUEST, FEED_SLATE), -np.inf, np.float32)
    items = np.full(keys.shape, -1, np.int32)
    present, firsts = np.unique(leaf, return_index=True)
    for leaf_number, first, last in zip(present, firsts, [*firsts[1:], len(leaf)], strict=True):
        start, stop = catalogue.leaves.starts[leaf_number : leaf_number + 2]
        logits = policy_logits(asked[first:last], catalogue.items, np.arange(start, stop))
        noisy = logits + gumbel(logits.shape, rng)
        top = np.argpartition(-noisy, FEED_SLATE, axis=1)[:, :FEED_SLATE]
        keys[requests[first:last], slots[first:last]] = np.take_along_axis(noisy, top, 1)
        items[requests[first:last], slots[first:last]] = start + top
    best = np.argsort(-keys.reshape(len(state), -1), axis=1)[:, :FEED_SLATE]  # (n, LEAVES_OF_REQUEST · S) -> (n, S)
    items = np.take_along_axis(items.reshape(len(state), -1), best, 1)
    shown = np.arange(FEED_SLATE) < slate_sizes(state.search)[:, None]
    click = attraction(state, catalogue.items, items) * examination(state.search)
    purchase = click * purchase_given_click(state, catalogue.items, items)
    return Slates(np.where(shown, items, -1), click, purchase)


def draw_events(slates: Slates, asks: Asks, rng: np.random.Generator) -> Events:
    """Clicks go down the slate during the first part of the dwell, purchases follow their click within the rest."""
    clicked = rng.random(slates.click.shape, np.float32) < slates.click
    rows, positions = np.nonzero(clicked)
    given_click = slates.purchase[rows, positions] / slates.click[rows, positions]
    bought = rng.random(len(rows)) < given_click
    moment = np.sort(np.where(clicked, rng.random(clicked.shape), 2.0), axis=1)
    nth = np.cumsum(clicked, axis=1)[rows, positions] - 1
    dwell = asks.dwell[rows]
    clicks = asks.times[rows] + 1 + (0.6 * dwell * moment[rows, nth]).astype(np.int64)
    purchases = clicks + 1 + (0.3 * dwell * rng.random(len(rows))).astype(np.int64)
    requests = np.concatenate([rows, rows[bought]])
    items = slates.items[rows, positions]
    items = np.concatenate([items, items[bought]])
    times = np.concatenate([clicks, purchases[bought]])
    is_purchase = np.arange(len(requests)) >= len(rows)
    order = np.lexsort((is_purchase, times, requests))
    return Events(requests[order], items[order], times[order], is_purchase[order])
