"""The laws of the simulated shop: what is drawn against what is known."""

from collections.abc import Callable

import numpy as np
import pytest

from synergen.data.sessions import shoppers as shoppers_module
from synergen.data.sessions.behaviour import attraction, examination, inclusion, policy_logits
from synergen.data.sessions.block import Block, simulate_block
from synergen.data.sessions.catalogue import LARGEST, Catalogue, make_catalogue
from synergen.data.sessions.shoppers import DAY, HORIZON, draw_asks, draw_shoppers
from synergen.data.sessions.slates import draw_events, draw_slates
from synergen.data.sessions.truth import Truth
from synergen.data.sessions.words import CONSUMABLES, DEPARTMENTS, invented_names, misspelt
from synergen.errors import UserError


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return make_catalogue(3_000, np.random.default_rng(0))


@pytest.fixture(scope="module")
def block(catalogue: Catalogue) -> Block:
    return simulate_block(2_000, catalogue, np.random.SeedSequence(1))


@pytest.fixture(scope="module")
def clicked(block: Block) -> np.ndarray:
    return outcome(block, purchases=False)


def outcome(block: Block, *, purchases: bool) -> np.ndarray:
    """(n, S) bool: where the events of that kind fell."""
    events = block.events
    chosen = events.purchases == purchases
    happened = np.zeros(block.slates.items.shape, dtype=bool)
    rows = events.requests[chosen]
    happened[rows, (block.slates.items[rows] == events.items[chosen, None]).argmax(1)] = True
    return happened


def truth_of(block: Block, catalogue: Catalogue) -> Truth:
    return Truth(catalogue.items, block.state, block.slates.click, block.slates.purchase)


def assert_calibrated(happened: np.ndarray, probability: np.ndarray) -> None:
    """Frequencies in twenty bins of equal mass lie within 4 standard errors of the mean probability."""
    for bin_of in np.array_split(np.argsort(probability), 20):
        p = probability[bin_of].astype(np.float64)
        error = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert happened[bin_of].mean() == pytest.approx(p.mean(), abs=4 * error)


def test_clicks_happen_as_often_as_their_probability_says(block: Block, clicked: np.ndarray) -> None:
    shown = block.slates.shown
    assert_calibrated(clicked[shown], block.slates.click[shown])


def test_purchases_happen_as_often_as_their_probability_says(block: Block, clicked: np.ndarray) -> None:
    bought = outcome(block, purchases=True)
    assert not (bought & ~clicked).any()
    assert_calibrated(bought[block.slates.shown], block.slates.purchase[block.slates.shown])


def test_examination_falls_evenly_from_one_to_three_fifths() -> None:
    search, feed = examination(np.array([True, False]))
    assert search[:7] == pytest.approx([1 - 0.4 * k / 6 for k in range(7)])
    assert feed == pytest.approx([1 - 0.4 * k / 14 for k in range(15)])
    assert not search[7:].any()


def test_slates_and_clicks_are_of_the_size_that_the_data_set_promises(block: Block, clicked: np.ndarray) -> None:
    search = block.state.search
    clicks = clicked.sum(1)
    assert 1.0 < clicks[search].mean() < 1.6
    assert 0.9 < clicks[~search].mean() < 1.5
    assert 0.08 < block.events.purchases.mean() < 0.15


def first_click_reciprocal_rank(scores: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, axis=1)
    return 1 / (1 + np.take_along_axis(clicked, order, 1).argmax(1))


@pytest.mark.parametrize("search", [True, False])
def test_the_true_probability_ranks_better_than_anything_else(
    block: Block, catalogue: Catalogue, clicked: np.ndarray, search: bool
) -> None:
    chosen = (block.state.search == search) & clicked.any(1)
    shown, items = block.slates.shown[chosen], block.slates.items[chosen]
    columns = np.arange(items.shape[1])
    others = {
        "policy": np.broadcast_to(-columns, items.shape),
        "popularity": catalogue.items.popularity[items],
        "quality": catalogue.items.quality[items],
        "random": np.random.default_rng(0).random(items.shape),
        "attraction without position": attraction(block.state[chosen], catalogue.items, items),
    }
    oracle = first_click_reciprocal_rank(np.where(shown, block.slates.click[chosen], -np.inf), clicked[chosen])
    for name, scores in others.items():
        gain = oracle - first_click_reciprocal_rank(np.where(shown, scores, -np.inf), clicked[chosen])
        assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5, name


@pytest.mark.parametrize("search", [True, False])
def test_the_first_item_of_a_slate_is_a_draw_from_the_softmax_of_the_logits(
    block: Block, catalogue: Catalogue, search: bool
) -> None:
    # the definition of Plackett-Luce, over all leaves of the request at once
    request = np.flatnonzero((block.state.search == search) & ((block.state.leaves >= 0).sum(1) >= 3))[0]
    draws = draw_slates(block.state[np.full(20_000, request)], catalogue, np.random.default_rng(2)).items
    [logits] = truth_of(block, catalogue).catalogue_log_scores(np.array([request]), "policy")
    softmax = np.exp(logits - np.logaddexp.reduce(logits.astype(np.float64)))
    frequency = np.bincount(draws[:, 0], minlength=len(softmax)) / len(draws)
    error = np.sqrt(softmax * (1 - softmax) / len(draws))
    assert (np.abs(frequency - softmax) <= 5 * error + 1 / len(draws)).all()


@pytest.mark.parametrize("search", [True, False])
def test_catalogue_scores_against_a_simulation_of_one_request(block: Block, catalogue: Catalogue, search: bool) -> None:
    request = np.flatnonzero(block.state.search == search)[3]
    many = block.state[np.full(40_000, request)]
    slates = draw_slates(many, catalogue, np.random.default_rng(3))
    shown = np.bincount(slates.items[slates.shown], minlength=len(catalogue.items)) / len(many)
    clicked = np.bincount(slates.items[slates.shown], slates.click[slates.shown], len(catalogue.items)) / len(many)
    truth = truth_of(block, catalogue)
    [logits] = truth.catalogue_log_scores(np.array([request]), "policy")
    [approximate] = inclusion(np.where(logits > -1e8, logits, -np.inf)[None], np.array([7 if search else 15]))
    assert approximate == pytest.approx(shown, abs=0.02)  # asymptotic in the number of items; 4 SE are 0.01 here
    [oracle] = truth.catalogue_log_scores(np.array([request]), "oracle")
    assert np.exp(oracle) == pytest.approx(clicked, abs=0.02)
    assert (oracle[shown > 0] > -100).all()
    assert (oracle[logits < -1e8] < -1e8).all()


def test_scores_of_shown_items_follow_from_the_stored_probabilities(block: Block, catalogue: Catalogue) -> None:
    requests = np.array([2, 9, 40])
    truth = truth_of(block, catalogue)
    oracle = truth.catalogue_log_scores(requests, "oracle")
    policy = truth.catalogue_log_scores(requests, "policy")
    sizes = np.where(block.state.search[requests], 7, 15)
    shown = inclusion(np.where(policy > -1e8, policy, -np.inf), sizes)
    seen = examination(block.state.search[requests])
    for row, request in enumerate(requests):
        items = block.slates.items[request, : sizes[row]]
        attracted = truth.click(requests)[row, : sizes[row]] / seen[row, : sizes[row]]
        expected = np.log(shown[row, items] * attracted * seen[row, : sizes[row]].mean())
        assert oracle[row, items] == pytest.approx(expected, rel=1e-4)


def test_an_unknown_kind_of_score_is_refused(block: Block, catalogue: Catalogue) -> None:
    with pytest.raises(UserError, match="did you mean 'oracle'"):
        truth_of(block, catalogue).catalogue_log_scores(np.array([0]), "orcale")  # type: ignore[arg-type]


def test_inclusion_fills_the_slate_and_is_even_where_the_logits_are() -> None:
    even = inclusion(np.zeros((1, 20)), np.array([5]))
    assert even == pytest.approx(np.full((1, 20), 0.25))  # 5 of 20
    steep = inclusion(np.linspace(-30, 30, 40)[None], np.array([7]))
    assert steep.sum() == pytest.approx(7)
    assert (steep <= 1).all()


def test_logits_of_shared_and_of_own_items_agree(block: Block, catalogue: Catalogue) -> None:
    few, everything = block.state[:50], np.arange(len(catalogue.items))
    own = block.slates.items[:50, :7]
    laws: list[Callable[..., np.ndarray]] = [policy_logits, attraction]
    for law in laws:
        shared = law(few, catalogue.items, everything)
        assert law(few, catalogue.items, own) == pytest.approx(np.take_along_axis(shared, own, 1), abs=1e-5)


def test_activity_is_the_same_from_joining_to_the_end(catalogue: Catalogue) -> None:
    rng = np.random.default_rng(4)
    shoppers = draw_shoppers(4_000, catalogue, rng)
    asks = draw_asks(shoppers, catalogue, rng)
    joined = shoppers.joined[asks.users]
    place = (asks.times - joined) / (HORIZON - joined)
    weight = 1 / np.bincount(asks.users)[asks.users]  # users count alike: 4,000 bursty samples of a uniform place
    shares = np.histogram(place, bins=5, range=(0, 1), weights=weight)[0] / 4_000
    assert shares == pytest.approx(np.full(5, 0.2), abs=0.025)  # 4 standard errors if all of a user's visits coincide


def test_the_busiest_user_fits_into_the_shortest_membership() -> None:
    longest = shoppers_module._MOST * (shoppers_module._LONGEST + shoppers_module._BETWEEN_VISITS)
    assert longest < HORIZON - shoppers_module._LATEST_JOIN


def test_an_intent_outlives_minutes_but_not_weeks(block: Block) -> None:
    asks = block.asks
    gap = np.diff(asks.times)
    same_user = np.diff(asks.users) == 0
    stays = np.diff(asks.leaf) == 0
    assert stays[same_user & (gap < 900)].mean() > 0.9  # 0.9 keep it, some of the others happen upon the same leaf
    assert stays[same_user & (gap > 7 * DAY)].mean() < 0.5


def test_what_is_used_up_is_looked_for_when_due(catalogue: Catalogue) -> None:
    rng = np.random.default_rng(5)
    shoppers = draw_shoppers(2_000, catalogue, rng)
    asks = draw_asks(shoppers, catalogue, rng)
    gap = np.diff(asks.times, prepend=0)
    begins = (np.diff(asks.users, prepend=-1) > 0) | (gap > 7 * DAY)  # an intent ends in a week but for 0.9 exp(-4.7)
    user, time = asks.users[begins], asks.times[begins]
    habitual = shoppers.habit_leaf[user] >= 0
    due = (time - shoppers.phase[user]) % shoppers.period[user] < shoppers_module._DUE
    bought = asks.leaf[begins] == shoppers.habit_leaf[user]
    assert bought[habitual & due].mean() > 0.65  # 0.7 follow it, less the few that go on with an old intent
    assert bought[habitual & ~due].mean() < 0.2


def test_clicks_of_a_request_go_down_the_slate(block: Block) -> None:
    events = draw_events(block.slates, block.asks, np.random.default_rng(6))
    clicks = ~events.purchases
    requests, items = events.requests[clicks], events.items[clicks]
    position = (block.slates.items[requests] == items[:, None]).argmax(1)
    times = events.times[clicks]
    later = (np.diff(requests) == 0) & (np.diff(times) > 0)  # clicks within one second have no order
    assert (np.diff(position)[later] > 0).all()


def test_titles_say_what_the_items_are(catalogue: Catalogue) -> None:
    items, leaves = catalogue.items, catalogue.leaves
    for item in range(0, len(items), 7):
        title = catalogue.titles[item].lower()
        words = [catalogue.attribute_words[attribute][0] for attribute in items.attributes[item]]
        words += [
            catalogue.brand_names[items.brand[item]].lower(),
            leaves.names[items.leaf[item]][items.name_form[item]],
        ]
        assert all(word in title for word in words), (title, words)


def test_the_largest_catalogue_has_names_enough() -> None:
    catalogue = make_catalogue(LARGEST, np.random.default_rng(0))
    leaves = catalogue.leaves
    assert len({tuple(path) for path in leaves.paths}) == len(leaves) == round(LARGEST / 115)
    assert np.diff(leaves.starts).min() >= 100
    assert np.diff(leaves.starts).max() <= 130
    assert len(set(catalogue.brand_names)) == len(catalogue.brand_names) == LARGEST // 40


def test_the_stock_of_words_is_whole() -> None:
    categories = [category for department in DEPARTMENTS.values() for category in department]
    assert set(categories) >= CONSUMABLES
    for department in DEPARTMENTS.values():
        assert len(department) == 4
        for stock in department.values():
            things = stock.split(", ")
            assert len(things) == 4
            assert all(len(set(thing.split("|"))) == 3 for thing in things)


def test_invented_names_are_distinct_and_misspelling_drops_one_letter() -> None:
    names = invented_names(5_000, np.random.default_rng(0))
    assert len(set(names)) == 5_000
    assert misspelt("sofa", 0) == "sfa"
    assert misspelt("red blanket", 2) == "red blaket"
    assert misspelt("mug", 1) == "mu"
