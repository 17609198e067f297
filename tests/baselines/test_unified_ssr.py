"""UnifiedSSR against numbers of the authors' own code (golden/README.md says how made), and one request at a time."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.objectives import gbce
from baselines.unified_ssr import UnifiedSSR, _at, _first_of_request
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

SMALL: dict[str, Any] = {"width": 8, "heads": 2, "ffn_width": 16, "layers": 2, "dropout": 0.0, "max_history": 6}
FULL = slice(2)  # rows of the golden file without padding
EVERYTHING = torch.arange(1, 13)


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(Path(__file__).parent / "golden" / "unified_ssr.npz") as file:
        values = {name: torch.from_numpy(file[name]) for name in file.files}
    return {name: value.long() if value.dtype == torch.int8 else value for name, value in values.items()}


def authors(golden: dict[str, Tensor], view: DataView, **settings: Any) -> UnifiedSSR:
    """The model with the weights of the file."""
    texts = [" ".join(chr(96 + word) * 3 for word in row if word) for row in golden["words"].tolist()]
    texts.append(" ".join(chr(97 + word) * 3 for word in range(9)))  # so that words are numbered as in the file
    data = replace(view, n_items=12, n_users=4, n_queries=6, query_texts=texts)
    model = UnifiedSSR(data, **SMALL, sessions="faithful", **settings).eval()
    model.load_state_dict({k.removeprefix("weight:"): v for k, v in golden.items() if k.startswith("weight:")})
    return model


def streams(model: UnifiedSSR, golden: dict[str, Tensor], task: Task) -> list[Tensor]:
    return model._streams(task, golden["items"], golden["queries"], golden["users"], golden["lengths"])


@pytest.mark.parametrize(("faithful", "prefix"), [(True, ""), (False, "causal_")])
def test_states_are_the_authors(
    faithful: bool, prefix: str, golden: dict[str, Tensor], make_view: Callable[..., DataView]
) -> None:
    """By default, those of their layers one after the other, under the mask that they define and do not use."""
    model = authors(golden, make_view(12), faithful=faithful)
    valid = torch.arange(6) < golden["lengths"][:, None]  # (B, T)
    [recommending] = streams(model, golden, Task.RECOMMENDATION)
    wanted = golden[f"{prefix}recommending"][valid[:, 1:]]
    torch.testing.assert_close(recommending[:, 1:][valid[:, 1:]], wanted, rtol=0, atol=1e-5)
    for stream, name in zip(streams(model, golden, Task.SEARCH), ("products", "asked"), strict=True):
        torch.testing.assert_close(stream[valid], golden[prefix + name][valid], rtol=0, atol=1e-5)


def test_losses_are_the_authors(golden: dict[str, Tensor], make_view: Callable[..., DataView]) -> None:
    """Theirs is a sum over 1 + K; a search weighs the losses of its streams."""
    model = authors(golden, make_view(12), faithful=True)
    targets, negatives = golden["items"][:, 1:], golden["negatives"][:, 1:]
    valid, items = targets > 0, model.item_vectors()

    def theirs(states: Tensor) -> Tensor:
        scores = states[:, 1:][valid][:, None] @ items[torch.cat([targets[..., None], negatives], -1)[valid]].mT
        return gbce(scores[:, 0, 0], scores[:, 0, 1:], power=1.0) * scores.shape[-1]

    [recommending] = streams(model, golden, Task.RECOMMENDATION)
    torch.testing.assert_close(theirs(recommending), golden["recommendation_loss"], rtol=0, atol=2e-5)
    search = model._mixed([theirs(stream) for stream in streams(model, golden, Task.SEARCH)])
    torch.testing.assert_close(search, golden["search_loss"], rtol=0, atol=2e-5)


def test_sessions_are_the_authors(golden: dict[str, Tensor], make_view: Callable[..., DataView]) -> None:
    model = authors(golden, make_view(12), faithful=True)
    assert model.sessions is not None
    trained = torch.ones(2, 5, dtype=torch.bool)
    for task, names, total in (
        (Task.RECOMMENDATION, ["recommending"], "intra"),
        (Task.SEARCH, ["products", "asked"], "inter"),
    ):
        found, correlation = model.sessions([x[FULL, 1:] for x in streams(model, golden, task)], trained)
        torch.testing.assert_close(correlation, golden[total], rtol=0, atol=1e-5)
        for stream, name in zip(found, names, strict=True):
            torch.testing.assert_close(stream, golden[f"{name}_doubled"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", list(Task))
def test_what_is_trained_is_what_answers(
    task: Task, make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """The state of each event of a sequence is that of a request with the events of earlier requests as history."""
    model = UnifiedSSR(replace(make_view(12), n_users=3), **SMALL).eval()
    events = make_batch([[1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11]]).events
    groups = torch.tensor([[0, 1, 1, 2, 3, 3, 3], [0, 0, 1, 2, 0, 0, 0]])
    queries = (1 + groups % 5) * events.valid  # one to a request
    users = torch.tensor([2, 3])
    whole = model._streams(task, events.items, queries, users, events.lengths)
    states = model._mixed([_at(stream, _first_of_request(groups)) for stream in whole])
    for row, length in enumerate(events.lengths.tolist()):
        for place in range(length):
            before = int((groups[row, :length] < groups[row, place]).sum())
            columns = {f.name: getattr(events, f.name)[[row], :before] for f in fields(Histories)[:-1]}
            columns["queries"] = queries[[row], :before]
            history = Histories(**columns, lengths=torch.tensor([before]))
            query = queries[row, [place]] * (task is Task.SEARCH)
            asked = Requests(task, history, events.times[row, [place]], query, torch.ones(1), users[[row]])
            torch.testing.assert_close(model.user_vectors(asked)[0], states[row, place])


def test_only_the_authors_attention_shows_what_is_to_be_predicted(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """The state that predicts event 1 after another event 2."""
    for faithful in (False, True):
        model = UnifiedSSR(make_view(12), **SMALL, faithful=faithful).eval()
        seen = []
        for later in (3, 4):
            events = make_batch([[1, 2, later, 5]]).events
            users = torch.zeros(1, dtype=torch.int64)
            [stream] = model._streams(Task.RECOMMENDATION, events.items, events.queries, users, events.lengths)
            seen.append(stream[0, 1])
        assert torch.equal(*seen) is not faithful


def test_windows_learn_where_they_are_soft(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """Comparisons have no gradient, so that the authors' windows stay where they begin."""
    for sessions in ("faithful", "soft"):
        torch.manual_seed(0)
        model = UnifiedSSR(make_view(12), **SMALL, sessions=sessions)
        assert model.sessions is not None
        torch.stack(list(model.loss(make_batch([[1, 2, 3, 4, 5, 6, 7], [8, 9, 1, 2]])).values())).sum().backward()
        gradient = model.sessions.offsets.weight.grad
        assert (gradient is not None and bool(gradient.any())) is (sessions == "soft")


def test_queries_are_read_by_their_words(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """Other numbers for the same texts change nothing; unknown words and no query at all are the same."""
    view = make_view(12)
    model = UnifiedSSR(view, **SMALL).eval()
    asked = make_requests([[1, 2, 3], [], [4, 5]], Task.SEARCH)
    scores = model.score(asked, EVERYTHING)
    backwards = ["", *view.query_texts[:0:-1]]
    turned = replace(asked.history, queries=(6 - asked.history.queries) * (asked.history.queries > 0))
    model.hold_queries([*backwards, "unheard words"], None)
    again = replace(asked, history=turned, queries=6 - asked.queries)
    torch.testing.assert_close(model.score(again, EVERYTHING), scores)
    unknown, empty = (replace(again, queries=torch.full((3,), query)) for query in (6, 0))
    torch.testing.assert_close(model.score(unknown, EVERYTHING), model.score(empty, EVERYTHING))
    assert not torch.allclose(model.score(empty, EVERYTHING), scores)


def test_users_are_known_and_strangers_are_not(
    make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    """A stranger's vector is zero; without history a recommendation knows nothing."""
    model = UnifiedSSR(replace(make_view(12), n_users=3), **SMALL).eval()
    for task in Task:
        asked = make_requests([[1, 2], [1, 2], []], task)
        asked = replace(asked, queries=asked.queries[[0, 0, 2]])
        known = model.score(replace(asked, users=torch.tensor([0, 2, 3])), EVERYTHING)
        torch.testing.assert_close(known[0], model.score(asked, EVERYTHING)[1])
        assert not torch.allclose(known[1], known[0])
        assert bool(known[2].any()) is (task is Task.SEARCH)


def test_positions_can_be_left_out(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    """Without them two orders of events whose last is the same are alike after one layer: attention has no order."""
    events = make_batch([[1, 2, 3, 4], [2, 1, 3, 4]]).events
    for scale, alike in ((0.0, True), (1.0, False)):
        model = UnifiedSSR(make_view(12), **(SMALL | {"layers": 1}), position_scale=scale).eval()
        users = torch.zeros(2, dtype=torch.int64)
        streams = model._streams(Task.RECOMMENDATION, events.items, events.queries, users, events.lengths)
        assert torch.allclose(streams[0][0, 3], streams[0][1, 3], atol=1e-6) is alike


def test_the_share_of_the_products_stays_in_bounds(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = UnifiedSSR(make_view(12), **SMALL)
    for value, kept in ((1.5, 0.9), (-1.0, 0.1)):
        model.product_share.data.fill_(value)
        model.loss(make_batch([[1, 2, 3]]))
        assert model.product_share.item() == pytest.approx(kept)


def test_impossible_settings_are_refused(make_view: Callable[..., DataView]) -> None:
    with pytest.raises(UserError, match="unknown sessions 'sotf'"):
        UnifiedSSR(make_view(12), sessions="sotf")
    with pytest.raises(UserError, match="width is 10; it must be a multiple of heads, which is 4"):
        UnifiedSSR(make_view(12), width=10)
    with pytest.raises(UserError, match="UnifiedSSR: setting 'inputs' is 'both' but the data have no item text"):
        UnifiedSSR(replace(make_view(12), item_vectors=None), inputs="both")
