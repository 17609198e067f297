"""The two laws of the shop: what the logging policy shows, and what a shopper clicks and buys.

    slate     ~ Plackett-Luce over the items of the request's leaves, with policy_logits, without replacement
    P(click)  = attraction(request, item) · examination(position)
    P(buy)    = P(click) · purchase_given_click(request, item)

Everything here is a function of a request's hidden state and of items, so that the simulation and those who score the
whole catalogue share it.
"""

from dataclasses import dataclass, fields

import numpy as np

from synergen.data.sessions.catalogue import Items

SEARCH_SLATE, FEED_SLATE = 7, 15
LEAVES_OF_REQUEST = 4

# Weights of the two laws, in log-odds; of the leaf, for each of the request's leaves.
_POLICY_POPULARITY, _POLICY_VIEW, _POLICY_ATTRIBUTE, _POLICY_BRAND, _POLICY_NAME = 0.5, 0.45, 1.0, 1.2, 0.5
_CLICK_ATTRIBUTE, _CLICK_BRAND, _CLICK_QUALITY, _CLICK_PRICE = 2.6, 2.6, 1.0, 0.4
_CLICK_TARGET = np.array([1.4, 0.7], np.float32)  # feed, search: who searches has said what it is that they look for
_CLICK_LEAF = np.array([[2.2, 0.5, 0.5, 0.0], [1.5, 0.0, 0.0, 0.0]], np.float32)  # feed, search
_CLICK_BASE = np.array([-4.5, -4.3], np.float32)
_BUY_BASE, _BUY_TARGET, _BUY_QUALITY, _BUY_PRICE = -2.4, 0.3, 0.8, 0.9
_LAST_EXAMINED = 0.6


@dataclass(frozen=True)
class RequestState:
    """The hidden state of n requests. -1 stands for none."""

    search: np.ndarray  # (n,) bool: search or feed
    leaves: np.ndarray  # (n, LEAVES_OF_REQUEST) int32: where the policy looks; the first is the leaf the shopper wants
    target: np.ndarray  # (n, D) float32: what the shopper looks for
    view: np.ndarray  # (n, D) float32: what the policy takes the shopper's taste to be
    price: np.ndarray  # (n,) float32: the price level that suits the shopper
    name_form: np.ndarray  # (n,) int8: how the query names the leaf
    wanted_attribute: np.ndarray  # (n,) int32: what the query means
    typed_attribute: np.ndarray  # (n,) int32: the same where the query says it in the words of titles
    brand: np.ndarray  # (n,) int32

    def __len__(self) -> int:
        return len(self.search)

    def __getitem__(self, rows: slice | np.ndarray) -> "RequestState":
        return RequestState(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


def slate_sizes(search: np.ndarray) -> np.ndarray:
    """(n,) items shown."""
    return np.where(search, SEARCH_SLATE, FEED_SLATE)


def policy_logits(state: RequestState, items: Items, at: np.ndarray) -> np.ndarray:
    """(n, m) float32 of the items `at`, (m,) shared by all requests or (n, m), wherever they stand in the tree.

    The policy knows popularity, a blurred taste, and whether the query's words stand in the title: it is lexical.
    """
    return (
        _POLICY_POPULARITY * items.popularity[at]
        + _POLICY_VIEW * _dot(state.view, items.vector[at])
        + _POLICY_NAME * (items.name_form[at] == state.name_form[:, None])
        + _POLICY_ATTRIBUTE * _has(items, at, state.typed_attribute)
        + _POLICY_BRAND * (items.brand[at] == state.brand[:, None])
    ).astype(np.float32)


def attraction(state: RequestState, items: Items, at: np.ndarray) -> np.ndarray:
    """(n, m) float32 P(click | examined) of the items `at`, (m,) or (n, m)."""
    search = state.search.astype(np.intp)
    leaf = items.leaf[at]
    in_leaf = sum((leaf == state.leaves[:, k, None]) * _CLICK_LEAF[search, k, None] for k in range(LEAVES_OF_REQUEST))
    return _sigmoid(
        _CLICK_BASE[search, None]
        + in_leaf
        + _CLICK_TARGET[search, None] * _dot(state.target, items.vector[at])
        + _CLICK_ATTRIBUTE * _has(items, at, state.wanted_attribute)
        + _CLICK_BRAND * (items.brand[at] == state.brand[:, None])
        + _CLICK_QUALITY * items.quality[at]
        - _CLICK_PRICE * np.abs(items.price[at] - state.price[:, None])
    )


def purchase_given_click(state: RequestState, items: Items, at: np.ndarray) -> np.ndarray:
    """(n, m) float32 P(purchase | click) of the items `at`, (m,) or (n, m)."""
    return _sigmoid(
        _BUY_BASE
        + _BUY_TARGET * _dot(state.target, items.vector[at])
        + _BUY_QUALITY * items.quality[at]
        - _BUY_PRICE * np.abs(items.price[at] - state.price[:, None])
    )


def examination(search: np.ndarray) -> np.ndarray:
    """(n, FEED_SLATE) float32 P(examined) by position, falling evenly down the slate; 0 beyond its end."""
    sizes = slate_sizes(search)[:, None]
    position = np.arange(FEED_SLATE)
    chance = 1 - (1 - _LAST_EXAMINED) * position / (sizes - 1)
    return np.where(position < sizes, chance, 0).astype(np.float32)


def inclusion(logits: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(n, m) P(item in the slate) for Plackett-Luce draws of sizes (n,) without replacement; -inf is never drawn.

    Item i comes at an exponential time of rate w_i, the slate is who comes first; with the time s at which it is full
    taken for a constant, P_i = 1 - exp(-w_i s), where s solves Σ P_i = size. This is the asymptotic inclusion
    probability of successive sampling (Rosén 1972). Each row needs more than `size` items that can be drawn.
    """
    weights = np.exp(logits - logits.max(1, keepdims=True)).astype(np.float64)
    full = sizes[:, None] / weights.sum(1, keepdims=True)
    for _ in range(20):  # Newton; ΣP is concave in s and the start is left of the root, so it never overshoots
        stay = np.exp(-weights * full)
        full += (sizes[:, None] - (1 - stay).sum(1, keepdims=True)) / (weights * stay).sum(1, keepdims=True)
    return -np.expm1(-weights * full)


def gumbel(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Standard Gumbel noise, float32: who has the highest logit + noise is a draw from the softmax."""
    return -np.log(np.maximum(rng.standard_exponential(shape, np.float32), np.finfo(np.float32).tiny))


def _dot(requests: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(n, m) inner products of requests (n, D) with vectors (m, D) or (n, m, D)."""
    if vectors.ndim == 2:
        return requests @ vectors.T
    return np.einsum("nd,nmd->nm", requests, vectors)


def _has(items: Items, at: np.ndarray, attribute: np.ndarray) -> np.ndarray:
    """(n, m) bool: the item has the attribute (n,)."""
    return (items.attributes[at] == attribute[:, None, None]).any(-1)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 / (1 + np.exp(-x))).astype(np.float32)
