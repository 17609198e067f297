"""A block of users, simulated from first to last."""

from dataclasses import dataclass

import numpy as np

from synergen.data.sessions.behaviour import RequestState
from synergen.data.sessions.catalogue import Catalogue
from synergen.data.sessions.requests import draw_requests
from synergen.data.sessions.shoppers import Asks, draw_asks, draw_shoppers
from synergen.data.sessions.slates import Events, Slates, draw_events, draw_slates


@dataclass(frozen=True)
class Block:
    """Everything that n users did; users and requests are counted from 0 within the block."""

    asks: Asks
    state: RequestState
    queries: list[str]
    slates: Slates
    events: Events


def simulate_block(users: int, catalogue: Catalogue, seed: np.random.SeedSequence) -> Block:
    rng = np.random.default_rng(seed)
    shoppers = draw_shoppers(users, catalogue, rng)
    asks = draw_asks(shoppers, catalogue, rng)
    state, queries = draw_requests(asks, shoppers, catalogue, rng)
    slates = draw_slates(state, catalogue, rng)
    return Block(asks, state, queries, slates, draw_events(slates, asks, rng))
