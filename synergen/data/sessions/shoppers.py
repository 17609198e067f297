"""Who visits when, and what each is after."""

from dataclasses import dataclass

import numpy as np

from synergen.data.sessions.behaviour import gumbel
from synergen.data.sessions.catalogue import Catalogue, D

DAY, HOUR = 86_400, 3_600
START = 1_735_689_600
"""First second of the horizon: 1 January 2025, UTC."""
HORIZON = 90 * DAY

_LATEST_JOIN = 0.85 * HORIZON
_FEWEST, _MOST = 3, 150
_MEDIAN_REQUESTS, _SPREAD_REQUESTS = 8.7, 1.0
_NEW_VISIT = 1 / 3
_SHORTEST, _MEDIAN_GAP, _LONGEST = 30, 60, 900  # seconds from one request of a visit to the next
_BETWEEN_VISITS = HOUR  # at least
_BURSTINESS = 1.7

_INTERESTS = np.array([0.35, 0.22, 0.15, 0.12, 0.09, 0.07])
_AFFINITY = 1.0  # of taste for the centre of a leaf
_EXPLORES = 0.12
_DRIFT = 0.8  # radians that a taste turns over the horizon
_KEEPS, _FORGETS = 0.9, 1.5 * DAY
_HAS_HABIT, _FOLLOWS_HABIT, _DUE = 0.5, 0.7, 3 * DAY
_SHORTEST_PERIOD, _LONGEST_PERIOD = 10 * DAY, 30 * DAY

_TASTE_SHARE, _INTENT_SHARE, _CHANCE_SHARE = 0.35, 0.55, 0.10


@dataclass(frozen=True)
class Shoppers:
    """n users: what stays with them."""

    n_requests: np.ndarray  # (n,) int64
    joined: np.ndarray  # (n,) float64 seconds into the horizon
    tastes: np.ndarray  # (2, n, D) float32: at the start, and a right angle away
    price: np.ndarray  # (n,) float32
    interests: np.ndarray  # (2, n, K) int32 leaves: before and after the change
    changes: np.ndarray  # (n, K) float64 seconds into the horizon, beyond it for interests that stay
    habit_leaf: np.ndarray  # (n,) int32: what is bought again and again, -1 for none
    habit: np.ndarray  # (n, D) float32: the kind of it that the user sticks to
    period: np.ndarray  # (n,) float64 seconds
    phase: np.ndarray  # (n,) float64 seconds

    def taste(self, users: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(M, D) float32 at `times` seconds into the horizon: it turns slowly."""
        angle = (_DRIFT * times / HORIZON).astype(np.float32)[:, None]
        return np.cos(angle) * self.tastes[0, users] + np.sin(angle) * self.tastes[1, users]

    def interest(self, users: np.ndarray, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(M,) int32 one of each user's leaves of that time, drawn by weight."""
        slot = rng.choice(len(_INTERESTS), len(users), p=_INTERESTS)
        changed = (times >= self.changes[users, slot]).astype(np.intp)
        return self.interests[changed, users, slot]


@dataclass(frozen=True)
class Asks:
    """M requests, in order of user and time."""

    users: np.ndarray  # (M,) int64, counted from 0
    times: np.ndarray  # (M,) int64 seconds into the horizon
    dwell: np.ndarray  # (M,) int64 seconds that the user spends on it: no other request comes sooner
    leaf: np.ndarray  # (M,) int32: where the user looks
    target: np.ndarray  # (M, D) float32: what for


def draw_shoppers(n: int, catalogue: Catalogue, rng: np.random.Generator) -> Shoppers:
    """n users. The shop grows: they join over the horizon and stay."""
    leaves = catalogue.leaves
    tastes = rng.standard_normal((2, n, D), np.float32)
    liking = np.log(leaves.popularity) + _AFFINITY * tastes[0] @ leaves.centres.T  # (n, L)
    used_up = leaves.popularity * leaves.consumable
    habit_leaf = rng.choice(len(leaves), n, p=used_up / used_up.sum()).astype(np.int32)
    period = rng.uniform(_SHORTEST_PERIOD, _LONGEST_PERIOD, n)
    requests = rng.lognormal(np.log(_MEDIAN_REQUESTS), _SPREAD_REQUESTS, n)
    return Shoppers(
        n_requests=np.clip(np.rint(requests), _FEWEST, _MOST).astype(np.int64),
        joined=rng.uniform(0, _LATEST_JOIN, n),
        tastes=tastes,
        price=rng.standard_normal(n, np.float32),
        interests=np.stack([_draw_interests(liking, rng) for _ in range(2)]),
        changes=rng.uniform(0, 2 * HORIZON, (n, len(_INTERESTS))),
        habit_leaf=np.where(rng.random(n) < _HAS_HABIT, habit_leaf, -1),
        habit=rng.standard_normal((n, D), np.float32),
        period=period,
        phase=rng.uniform(0, period),
    )


def _draw_interests(liking: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n, K) int32 distinct leaves, the dearest first (a Gumbel-top-k draw)."""
    keys = liking + gumbel(liking.shape, rng)
    top = np.argpartition(-keys, len(_INTERESTS) - 1, axis=1)[:, : len(_INTERESTS)]
    order = np.argsort(-np.take_along_axis(keys, top, 1), axis=1)
    return np.take_along_axis(top, order, 1).astype(np.int32)


def draw_asks(shoppers: Shoppers, catalogue: Catalogue, rng: np.random.Generator) -> Asks:
    """When the users ask, and what for. An intent outlives a request the likelier the sooner the next one comes."""
    users = np.repeat(np.arange(len(shoppers.n_requests)), shoppers.n_requests)
    times, dwell, first = _draw_times(shoppers, users, rng)
    gap = np.diff(times, prepend=0)
    fresh = first | (rng.random(len(users)) >= _KEEPS * np.exp(-gap / _FORGETS))
    intent = np.cumsum(fresh) - 1  # (M,) number of the intent that a request serves
    began = np.flatnonzero(fresh)
    leaf, wish = _draw_intents(shoppers, catalogue, users[began], times[began], rng)
    target = (
        _TASTE_SHARE**0.5 * shoppers.taste(users, times)
        + _INTENT_SHARE**0.5 * wish[intent]
        + _CHANCE_SHARE**0.5 * rng.standard_normal((len(users), D), np.float32)
    )
    return Asks(users, times, dwell, leaf[intent], target.astype(np.float32))


def _draw_times(
    shoppers: Shoppers, users: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times and dwells (M,) int64, and which requests are a user's first.

    A user's time from joining to the end of the horizon, less what the visits take, is shared out among the gaps
    between visits in heavy-tailed parts. The gap that holds both ends (time taken for a circle) is drawn in
    proportion to its length: so activity comes in bursts and yet is equally likely at all times of the membership.
    """
    n, m = len(shoppers.n_requests), len(users)
    starts = np.cumsum(shoppers.n_requests) - shoppers.n_requests
    first = np.zeros(m, dtype=bool)
    first[starts] = True
    visit = first | (rng.random(m) < _NEW_VISIT)
    dwell = np.clip(rng.lognormal(np.log(_MEDIAN_GAP), 1.0, m), _SHORTEST, _LONGEST).astype(np.int64)
    needed = dwell + _BETWEEN_VISITS * visit
    spare = HORIZON - shoppers.joined - np.bincount(users, needed, n)  # positive: see the test of the busiest user
    part = rng.lognormal(0, _BURSTINESS, m) * visit
    parts = np.bincount(users, part, n)
    race = part / rng.standard_exponential(m)
    around = np.flatnonzero(race == np.repeat(np.maximum.reduceat(race, starts), shoppers.n_requests))
    gap_around = part[around]
    part[around] = part[starts]
    part[starts] = gap_around * rng.random(n)  # the rest of it comes after the last visit
    before = (spare[users] * part / parts[users]).astype(np.int64) + _BETWEEN_VISITS * visit
    elapsed = np.cumsum(before + dwell) - dwell
    times = (
        shoppers.joined.astype(np.int64)[users] + elapsed - np.repeat((elapsed - before)[starts], shoppers.n_requests)
    )
    return times, dwell, first


def _draw_intents(
    shoppers: Shoppers, catalogue: Catalogue, users: np.ndarray, times: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of each intent that begins: its leaf (N,) int32 and its wish (N, D) float32."""
    n = len(users)
    leaf = shoppers.interest(users, times, rng)
    explored = rng.choice(len(catalogue.leaves), n, p=catalogue.leaves.popularity).astype(np.int32)
    leaf = np.where(rng.random(n) < _EXPLORES, explored, leaf)
    since_due = (times - shoppers.phase[users]) % shoppers.period[users]
    due = (shoppers.habit_leaf[users] >= 0) & (since_due < _DUE) & (rng.random(n) < _FOLLOWS_HABIT)
    leaf = np.where(due, shoppers.habit_leaf[users], leaf)
    wish = np.where(due[:, None], shoppers.habit[users], rng.standard_normal((n, D), np.float32))
    return leaf, wish
