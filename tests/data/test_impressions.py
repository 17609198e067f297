"""Logs with impressions against plain dictionaries of the source tables."""

import numpy as np
import pytest
from toys import toy_requests

from synergen.data.filters import Filter, apply_filter
from synergen.data.folder import load_folder
from synergen.data.impressions import number_requests, with_impressions
from synergen.errors import UserError
from synergen.events import EventLog
from synergen.raw import validate


def read(interactions, items, impressions) -> EventLog:
    raw = validate(interactions, items, "toy", "toy")
    return number_requests(with_impressions(raw, impressions, "toy"))


def test_numbering_keeps_what_the_tables_say():
    interactions, _, impressions = toy_requests()
    log = read(*toy_requests())
    shown = log.impressions
    assert shown is not None
    assert log.action_names == ["", "click", "purchase"]  # the rarer is the stronger
    active = set(interactions["user"])
    source = impressions[impressions["user"].isin(active)].sort_values(["user", "ts"], kind="stable")
    assert shown.ids.tolist() == source["request"].tolist()
    assert shown.times.tolist() == source["ts"].tolist()
    assert [log.query_texts[q] for q in shown.queries] == source["query"].tolist()
    got = {}  # the strongest action by request and item
    for row in interactions.itertuples():
        key = (row.request, row.item)
        got[key] = max(got.get(key, 0), log.action_names.index(row.action))
    for m, row in enumerate(source.itertuples()):
        assert [log.item_ids[i] for i in shown.items[m] if i] == row.items
        assert shown.outcomes[m, : len(row.items)].tolist() == [got.get((row.request, i), 0) for i in row.items]
        assert not shown.outcomes[m, len(row.items) :].any()
        assert log.user_ids[shown.users[m]] == row.user


def test_events_see_the_requests_before_theirs():
    interactions, _, _ = toy_requests()
    log = read(*toy_requests())
    shown = log.impressions
    assert shown is not None
    assert log.n_events == len(interactions)
    for m in range(len(shown)):
        user = shown.users[m]
        own = range(log.offsets[user], log.offsets[user + 1])
        assert shown.stops[m] == log.offsets[user] + sum(log.groups[e] < shown.groups[m] for e in own)
        assert shown.groups[m] == m - shown.offsets[user]
    request_of = dict(zip(zip(shown.users, shown.groups, strict=True), shown.ids, strict=True))
    found = sorted(
        (log.user_ids[u], log.item_ids[i], t, log.action_names[a], request_of[u, g])
        for u, i, t, a, g in zip(log.users, log.items, log.times, log.actions, log.groups, strict=True)
    )
    assert found == sorted(interactions.itertuples(index=False, name=None))
    requests = shown.offsets[log.users] + log.groups
    assert log.searched.tolist() == (shown.queries[requests] > 0).tolist()


def test_the_catalogue_holds_what_was_shown_and_never_clicked():
    interactions, items, impressions = toy_requests()
    log = read(interactions, items, impressions)
    everything = {i for slate in impressions["items"] for i in slate}
    assert set(log.item_ids[1:]) == everything > set(interactions["item"])


def test_a_late_purchase_is_an_outcome_of_its_request_and_history_of_later_ones_alone():
    """It happens after the last request of its user."""
    interactions, items, impressions = toy_requests()
    first = interactions[interactions["user"] == "u0"].iloc[0]
    late = first.to_dict() | {"action": "purchase", "ts": int(interactions["ts"].max()) + 999}
    interactions = interactions[
        ~((interactions["request"] == first["request"]) & (interactions["action"] == "purchase"))
    ]
    interactions.loc[len(interactions) + 1000] = late
    log = read(interactions, items, impressions)
    shown = log.impressions
    assert shown is not None
    (request,) = np.flatnonzero(shown.ids == first["request"])
    item = log.item_ids.tolist().index(first["item"])
    assert shown.outcomes[request][shown.items[request] == item] == log.action_names.index("purchase")
    (event,) = np.flatnonzero(log.times == late["ts"])
    assert event == log.offsets[1] - 1
    assert log.groups[event] == shown.offsets[1] - 1
    assert (shown.stops[: shown.offsets[1]] <= event).all()


def test_no_request_has_later_events_as_history():
    """Purchases come up to nine days after their requests."""
    interactions, items, impressions = toy_requests()
    delays = np.random.default_rng(0).integers(0, 9 * 86_400, len(interactions))
    interactions = interactions.assign(ts=interactions["ts"] + delays * (interactions["action"] == "purchase"))
    log = read(interactions, items, impressions)
    shown = log.impressions
    assert shown is not None
    begins = dict(zip(impressions["request"], impressions["ts"], strict=True))
    for request in range(len(shown)):
        user = shown.users[request]
        history = log.times[log.offsets[user] : shown.stops[request]]
        assert (history < shown.times[request]).all()
        own = interactions[interactions["user"] == log.user_ids[user]]
        before = (own["ts"] < shown.times[request]) & (own["request"].map(begins) < shown.times[request])
        assert len(history) == before.sum()


def edited(column, row, value):
    interactions, items, impressions = toy_requests()
    impressions = impressions.astype({column: object})
    impressions.at[row, column] = value
    return interactions, items, impressions


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (lambda: (*toy_requests()[:2], toy_requests()[2].drop(columns="items")), "column 'items' is missing"),
        (lambda: (toy_requests()[0].drop(columns="request"), *toy_requests()[1:]), "no column 'request'"),
        (lambda: edited("ts", 3, "soon"), "row 3: column 'ts' is not a number"),
        (lambda: edited("request", 1, 100), "row 1: its request is told twice"),
        (lambda: (*toy_requests()[:2], toy_requests()[2].iloc[5:]), "its request has no impressions"),
    ],
)
def test_bad_tables_are_refused_with_the_place(tables, message):
    with pytest.raises(UserError, match=message):
        read(*tables())


def test_events_must_be_of_what_their_request_showed():
    interactions, items, impressions = toy_requests()
    interactions.loc[0, "item"] = 39  # never shown
    with pytest.raises(UserError, match="its request did not show its item"):
        read(interactions, items, impressions)
    interactions, items, impressions = toy_requests()
    interactions.loc[0, "user"] = "u11"
    with pytest.raises(UserError, match="its request belongs to another user"):
        read(interactions, items, impressions)


def test_filters_refuse_impressions():
    interactions, items, impressions = toy_requests()
    raw = with_impressions(validate(interactions, items, "toy", "toy"), impressions, "toy")
    with pytest.raises(UserError, match="would tear holes"):
        apply_filter(raw, Filter.K_CORE)


def test_a_folder_may_hold_impressions(tmp_path):
    interactions, items, impressions = toy_requests()
    for name, table in (("interactions", interactions), ("items", items), ("impressions", impressions)):
        table.to_parquet(tmp_path / f"{name}.parquet")
    log = number_requests(load_folder(tmp_path))
    assert log.data_hash == read(*toy_requests()).data_hash
    assert log.data_hash != read(*toy_requests(seed=1)).data_hash
