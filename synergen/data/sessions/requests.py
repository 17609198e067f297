"""Asks become requests: where the policy looks, what it takes the taste to be, and what the query says."""

import numpy as np

from synergen.data.sessions.behaviour import LEAVES_OF_REQUEST, RequestState, gumbel
from synergen.data.sessions.catalogue import MISSPELT, Catalogue, D
from synergen.data.sessions.shoppers import Asks, Shoppers
from synergen.data.sessions.words import misspelt

_SEARCHES, _VAGUE = 0.5, 0.08
_NAME_FORMS = (0.42, 0.20, 0.28, 0.10)  # as titles say it, also as titles say it, as only queries do, misspelt
_SAYS_ATTRIBUTE, _SAYS_IT_AS_TITLES, _SAYS_BRAND = 0.75, 0.6, 0.25
_CHOICE_TEMPERATURE = 0.15  # of the attribute and brand that a query names, among those that suit the target
_SEEN_WIDTH = D // 2  # the policy's view of a taste is blurred: it sees half of its dimensions, with noise
_VIEW_NOISE = 0.7


def draw_requests(
    asks: Asks, shoppers: Shoppers, catalogue: Catalogue, rng: np.random.Generator
) -> tuple[RequestState, list[str]]:
    """The hidden state of the requests, and their queries, "" for feed."""
    n = len(asks.users)
    search = rng.random(n) < _SEARCHES
    vague = search & (rng.random(n) < _VAGUE)
    specific = search & ~vague
    view = shoppers.taste(asks.users, asks.times) + _VIEW_NOISE * rng.standard_normal((n, D), np.float32)
    view[:, _SEEN_WIDTH:] = 0
    attributes = catalogue.leaves.attributes.reshape(len(catalogue.leaves), -1)  # (L, kinds, values) -> (L, m)
    attribute = _suited(asks, attributes, catalogue.attribute_vectors, rng)
    attribute = np.where(specific & (rng.random(n) < _SAYS_ATTRIBUTE), attribute, -1)
    as_titles = rng.random(n) < _SAYS_IT_AS_TITLES
    brand = _suited(asks, catalogue.leaves.brands, catalogue.brand_vectors, rng)
    state = RequestState(
        search=search,
        leaves=_draw_leaves(asks, shoppers, catalogue, search, vague, rng),
        target=asks.target,
        view=view.astype(np.float32),
        price=shoppers.price[asks.users],
        name_form=np.where(specific, rng.choice(len(_NAME_FORMS), n, p=_NAME_FORMS), -1).astype(np.int8),
        wanted_attribute=attribute,
        typed_attribute=np.where(as_titles, attribute, -1),
        brand=np.where(specific & (rng.random(n) < _SAYS_BRAND), brand, -1),
    )
    return state, _queries(state, catalogue, rng)


def _suited(asks: Asks, of_leaf: np.ndarray, vectors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(n,) int32: of the choices of each request's leaf, of_leaf (L, m), one whose vector suits the target."""
    choices = of_leaf[asks.leaf]  # (n, m)
    liking = np.einsum("nd,nmd->nm", asks.target, vectors[choices])
    best = (liking + _CHOICE_TEMPERATURE * gumbel(liking.shape, rng)).argmax(1)
    return np.take_along_axis(choices, best[:, None], 1)[:, 0]


def _draw_leaves(
    asks: Asks,
    shoppers: Shoppers,
    catalogue: Catalogue,
    search: np.ndarray,
    vague: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(n, LEAVES_OF_REQUEST) int32, distinct: in feed two interests and something popular beside the leaf that the
    shopper wants, after a vague query two others of the department, after any other query none."""
    n, n_leaves, n_departments = len(search), len(catalogue.leaves), catalogue.leaves.n_departments
    leaves = np.full((n, LEAVES_OF_REQUEST), -1, np.int32)
    leaves[:, 0] = asks.leaf
    popular = rng.choice(n_leaves, n, p=catalogue.leaves.popularity)
    department = asks.leaf % n_departments
    in_department = (n_leaves - department - 1) // n_departments + 1
    for k in range(1, LEAVES_OF_REQUEST):
        interest = shoppers.interest(asks.users, asks.times, rng) if k < LEAVES_OF_REQUEST - 1 else popular
        sibling = department + n_departments * rng.integers(0, in_department)
        sibling = np.where(vague & (k < LEAVES_OF_REQUEST - 1), sibling, -1)
        leaf = np.where(search, sibling, interest)
        again = (leaves[:, :k] == leaf[:, None]).any(1)
        leaves[:, k] = np.where(again, -1, leaf)
    return leaves


def _queries(state: RequestState, catalogue: Catalogue, rng: np.random.Generator) -> list[str]:
    leaves, n = catalogue.leaves, len(state)
    queries = [""] * n
    department_form, misspelling = rng.integers(0, 2, n), rng.integers(0, 4, n)
    attribute_form = (state.typed_attribute < 0).astype(int)
    rows = np.flatnonzero(state.search)
    columns = (
        state.leaves[:, 0],
        state.name_form,
        state.wanted_attribute,
        attribute_form,
        state.brand,
        department_form,
        misspelling,
    )
    for row, leaf, form, attribute, said, brand, department, place in zip(
        rows.tolist(), *(column[rows].tolist() for column in columns), strict=True
    ):
        if form < 0:
            queries[row] = leaves.department_words[leaf % leaves.n_departments][department]
            continue
        words = misspelt(leaves.names[leaf][0], place) if form == MISSPELT else leaves.names[leaf][form]
        if attribute >= 0:
            words = f"{catalogue.attribute_words[attribute][said]} {words}"
        if brand >= 0:
            words = f"{catalogue.brand_names[brand].lower()} {words}"
        queries[row] = words
    return queries
