"""What every model of the registry owes to `synergen.contract`: one suite, no model exempt.

Expected values are the definitions of the contract: two inputs that say the same must give the same scores.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from baselines import registry
from synergen.contract import Batch, DataView, Histories, Recommender, Requests, Task
from synergen.errors import UserError

V = 30
EVERYTHING = torch.arange(1, V + 1)
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5], [], [8, 9, 7]]
SEQUENCES = [[1, 2, 3, 4, 5], [6, 7, 8, 9], [11, 12, 13], [14, 15], [16, 17, 18, 19, 20, 21], [22, 23, 24]]

SEARCHER = {"width": 16, "heads": 2, "ffn_width": 32, "dropout": 0.0, "max_history": 8}
SMALL: dict[str, dict[str, Any]] = {
    "SynerGen": {
        "width": 16, "layers": 2, "heads": 2, "ffn_width": 32, "dropout": 0.0, "embedding_dropout": 0.0,
        "max_history": 8,
    },
    "SASRec": {"hidden_size": 16, "hidden_dropout": 0.0, "attention_dropout": 0.0, "max_history": 8},
    "BERT4Rec": {"hidden_size": 16, "hidden_dropout": 0.0, "attention_dropout": 0.0, "max_history": 8},
    "GRU4Rec": {"embedding_size": 16, "hidden_size": 16, "dropout": 0.0, "max_history": 8},
    "HSTU": {"width": 16, "heads": 2, "qk_width": 8, "v_width": 8, "dropout": 0.0, "max_history": 8},
    "HSTU-large": {"width": 16, "heads": 4, "qk_width": 4, "v_width": 4, "dropout": 0.0, "max_history": 8},
    "SASRec-HSTU": {"width": 16, "heads": 2, "ffn_width": 16, "dropout": 0.0, "max_history": 8},
    "HLLM": {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "ffn_width": 32, "max_tokens": 24, "max_history": 8},
    "HLLM-scratch": {"width": 16, "layers": 1, "heads": 2, "kv_heads": 2, "ffn_width": 32, "max_history": 8},
    "UniSAR": {
        "width": 16, "id_width": 16, "experts": 2, "dropout": 0.0, "loss": "softmax", "negatives": 29,
        "search_weight": 1.0, "alignment_negatives": 16, "max_of_kind": 3, "max_history": 8,
    },
    "UnifiedSSR": {"width": 16, "heads": 2, "ffn_width": 16, "dropout": 0.0, "max_history": 8},
    "SESRec": {
        "width": 16, "query_width": 8, "heads": 2, "dropout": 0.0, "negatives": 16, "alignment_negatives": 8,
        "max_history": 8,
    },
    "USER": {"width": 16, "ffn_width": 16, "dropout": 0.0, "negatives": 64, "max_history": 8},
    "TEM": SEARCHER,
    "QEM": SEARCHER | {"history": "none"},
    "ZAM": SEARCHER | {"history": "zero_attention"},
    "AEM": SEARCHER | {"history": "attention"},
    "CoPPS": SEARCHER | {"loss": "softmax"},
}  # fmt: skip
"""Sizes that train in seconds, without dropout. A model that is not named here has its defaults."""

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "SynerGen": [{"inputs": "both"}, {"inputs": "id", "retrieval_loss": "full_softmax", "ranking_head": False}],
    "SASRec": [
        {},
        {"augmentation": "prefix", "inputs": "both"},
        {"loss": "gbce", "negatives": 8, "calibration": 0.0},
    ],
    "BERT4Rec": [
        {},
        {"inputs": "text"},
        {"loss": "sampled", "negatives": 30, "similarity": "cosine", "temperature": 0.1},
    ],
    "GRU4Rec": [{}, {"inputs": "both"}],
    "HSTU": [{"bias": "both"}, {"bias": "none", "loss": "softmax", "similarity": "dot", "temperature": 1.0}],
    "UnifiedSSR": [{}, {"inputs": "both", "loss": "softmax", "sessions": "faithful"}],
    "SESRec": [{}, {"inputs": "both", "loss": "softmax", "sampling": "uniform", "negatives": 30}],
    "USER": [{}, {"inputs": "both", "loss": "softmax", "layers": 2, "session_gap_seconds": 3600}],
    "TEM": [{}, {"layers": 2, "inputs": "both", "item_bias": True}, {"loss": "softmax", "words_weight": 0.0}],
    "CoPPS": [{}, {"neighbours": 0}],
}
"""Settings that make another model of the same name."""


OBSERVED: list[Batch] = []
"""What models that learn nothing by gradient are shown."""


@pytest.fixture(scope="module", autouse=True)
def _observed(make_batch: Callable[..., Batch]) -> None:
    OBSERVED.append(make_batch(SEQUENCES))


@dataclass(frozen=True)
class Case:
    """A model with the task to test it on."""

    name: str
    settings: dict[str, Any]
    task: Task

    @property
    def learns(self) -> bool:
        return registry.model_class(self.name).learns

    def build(self, data: DataView, seed: int = 0, **others: Any) -> Recommender:
        torch.manual_seed(seed)
        model = registry.build(self.name, data, self.settings | others).eval()
        if not model.learns:
            model.observe(OBSERVED)
        return model


CASES = [
    pytest.param(
        Case(name, SMALL.get(name, {}) | variant, task),
        id="-".join([name, *(str(value) for value in variant.values()), task]),
    )
    for name in registry.MODELS
    for variant in VARIANTS.get(name, [{}])
    for task in sorted(registry.tasks_of(name))
]
LEARNERS = [case for case in CASES if case.values[0].learns]  # type: ignore[union-attr]
OTHERS = [case for case in CASES if case not in LEARNERS]
HISTORY_READERS = [
    case
    for case in CASES
    if "max_history" in {field.name for field in fields(registry.settings_type(case.values[0].name))}
    and case.values[0].settings.get("history") != "none"  # type: ignore[union-attr]
]
# BERT4Rec is trained to fill gaps from both sides, and asked only with the mask at the end.
CAUSAL_LEARNERS = [case for case in LEARNERS if case.values[0].name != "BERT4Rec"]
SEARCHERS = [case for case in CASES if Task.SEARCH in registry.tasks_of(case.values[0].name)]  # type: ignore[union-attr]
# QEM reads no history, and some of the queries lead to more than one item.
ABLE_LEARNERS = [case for case in LEARNERS if case.values[0].name != "QEM"]  # type: ignore[union-attr]
every_model = pytest.mark.parametrize("case", CASES)
every_learner = pytest.mark.parametrize("case", LEARNERS)


@pytest.fixture(scope="module")
def data(request: pytest.FixtureRequest) -> DataView:
    return request.getfixturevalue("make_view")(V)


def same(left: torch.Tensor, right: torch.Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


def step(model: Recommender, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    total = torch.stack(list(model.loss(batch).values())).sum()
    optimiser.zero_grad()
    total.backward()
    optimiser.step()
    return total.item()


@every_model
def test_scores_are_finite_also_without_history(
    case: Case, data: DataView, make_requests: Callable[..., Requests]
) -> None:
    model = case.build(data)
    everyone: list[list[list[int]]] = [HISTORIES, [[], []], [[]]]
    for rows in everyone:
        scores = model.score(make_requests(rows, case.task), EVERYTHING)
        assert scores.shape == (len(rows), V)
        assert scores.isfinite().all()


@every_model
def test_padding_changes_no_score(case: Case, data: DataView, make_requests: Callable[..., Requests]) -> None:
    model = case.build(data)
    scores = [model.score(make_requests(HISTORIES, case.task, width=width), EVERYTHING) for width in (6, 7, 8, 12)]
    for other in scores[1:]:
        same(other, scores[0])


@every_model
def test_batch_order_changes_no_score(case: Case, data: DataView, make_requests: Callable[..., Requests]) -> None:
    model = case.build(data)
    asked = make_requests(HISTORIES, case.task, width=6)
    backwards = make_requests(HISTORIES[::-1], case.task, width=6)
    backwards = replace(backwards, queries=asked.queries.flip(0))
    scores = model.score(asked, EVERYTHING)
    same(model.score(backwards, EVERYTHING).flip(0), scores)
    alone = make_requests(HISTORIES[:1], case.task)
    same(model.score(replace(alone, queries=asked.queries[:1]), EVERYTHING), scores[:1])


@every_model
def test_a_candidates_score_ignores_the_others(
    case: Case, data: DataView, make_requests: Callable[..., Requests]
) -> None:
    model = case.build(data)
    asked = make_requests(HISTORIES, case.task)
    scores = model.score(asked, EVERYTHING)
    order = torch.randperm(V, generator=torch.Generator().manual_seed(1))
    same(model.score(asked, EVERYTHING[order]), scores[:, order])
    own = torch.stack([EVERYTHING.roll(row) for row in range(len(HISTORIES))])  # (B, V)
    same(model.score(asked, own), scores.gather(1, own - 1))
    same(model.score(asked, own[:, :1]), scores.gather(1, own[:, :1] - 1))


@every_model
def test_a_request_sees_its_history_only(case: Case, data: DataView, make_requests: Callable[..., Requests]) -> None:
    """What lies beyond `lengths` is the future or padding: a model may not read it."""
    model = case.build(data)
    past, future = [[3, 1, 4], [2, 6]], [[3, 1, 4, 15, 9], [2, 6, 5, 3, 5]]
    asked = make_requests(past, case.task)
    longer = make_requests(future, case.task)
    leaking = replace(asked, history=replace(longer.history, lengths=asked.history.lengths))
    same(model.score(leaking, EVERYTHING), model.score(asked, EVERYTHING))


@pytest.mark.parametrize("case", HISTORY_READERS)
def test_events_beyond_max_history_are_forgotten(
    case: Case, data: DataView, make_requests: Callable[..., Requests]
) -> None:
    model = case.build(data, max_history=3)
    histories = [[7, 8, 1, 2, 3]], [[9, 9, 1, 2, 3]], [[4, 1, 2]]
    scores = [model.score(make_requests(rows, case.task), EVERYTHING) for rows in histories]
    same(scores[0], scores[1])
    assert not torch.allclose(scores[0], scores[2])


@every_model
def test_strangers_and_known_users_get_scores(
    case: Case, data: DataView, make_requests: Callable[..., Requests]
) -> None:
    """That nothing is said of users, and that they are 0, both say that they are strangers."""
    model = case.build(replace(data, n_users=len(HISTORIES)))
    asked = make_requests(HISTORIES, case.task)
    scores = model.score(asked, EVERYTHING)
    same(model.score(replace(asked, users=torch.zeros_like(asked.times)), EVERYTHING), scores)
    known = model.score(replace(asked, users=torch.arange(1, len(HISTORIES) + 1)), EVERYTHING)
    assert scores.isfinite().all()
    assert known.isfinite().all()


@every_model
@pytest.mark.parametrize("searched", [False, True])
def test_histories_of_searches_alone_or_of_none_are_read(
    searched: bool,
    case: Case,
    data: DataView,
    make_batch: Callable[..., Batch],
    make_requests: Callable[..., Requests],
) -> None:
    model = case.build(data)

    def alike(events: Histories) -> Histories:
        return replace(events, queries=(1 + events.items % 5) * events.valid * searched)

    asked = make_requests(HISTORIES, case.task)
    assert model.score(replace(asked, history=alike(asked.history)), EVERYTHING).isfinite().all()
    if case.learns:
        batch = make_batch(SEQUENCES)
        terms = model.train().loss(replace(batch, events=alike(batch.events)))
        torch.stack(list(terms.values())).sum().backward()
        assert all(term.isfinite() for term in terms.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("case", SEARCHERS)
def test_other_queries_can_be_held(case: Case, data: DataView, make_requests: Callable[..., Requests]) -> None:
    """Old queries score as before and repetitions like them; one of unknown words, or none, gets finite scores."""
    model = case.build(data)
    asked = make_requests(HISTORIES, case.task)
    scores = model.score(asked, EVERYTHING)
    assert data.query_vectors is not None
    texts = [*data.query_texts, *data.query_texts[1:], "unheard"]
    unknown = np.zeros_like(data.query_vectors[:1])
    model.hold_queries(texts, np.concatenate([data.query_vectors, data.query_vectors[1:], unknown]))
    same(model.score(asked, EVERYTHING), scores)

    def numbered(queries: Callable[[torch.Tensor], torch.Tensor]) -> Requests:
        history = replace(asked.history, queries=queries(asked.history.queries))
        return replace(asked, queries=queries(asked.queries), history=history)

    same(model.score(numbered(lambda ids: ids + data.n_queries * (ids > 0)), EVERYTHING), scores)
    for other in (len(texts) - 1, 0):
        assert model.score(numbered(lambda ids, other=other: other * (ids > 0)), EVERYTHING).isfinite().all()


@every_model
def test_scores_and_shapes_survive_a_reload(
    case: Case, data: DataView, make_requests: Callable[..., Requests], tmp_path: Path
) -> None:
    model, other = case.build(data, seed=1), case.build(data, seed=2)
    asked = make_requests(HISTORIES, case.task)
    scores = model.score(asked, EVERYTHING)
    assert torch.equal(other.score(asked, EVERYTHING), scores) is not case.learns
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(other.score(asked, EVERYTHING), scores)


@every_model
def test_unknown_settings_are_refused_with_the_nearest(case: Case, data: DataView) -> None:
    for field in fields(registry.settings_type(case.name))[:3]:
        with pytest.raises(UserError, match=f"'{field.name}x' in settings of {case.name}: did you mean"):
            case.build(data, **{f"{field.name}x": 1})
    with pytest.raises(UserError, match=f"'zzz' in settings of {case.name}"):
        case.build(data, zzz=1)


@every_learner
def test_same_seed_same_result(
    case: Case, data: DataView, make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    results = []
    for seed in (5, 5, 6):
        model = case.build(data, seed=seed).train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        losses = [step(model, make_batch(SEQUENCES), optimiser) for _ in range(3)]
        scores = model.eval().score(make_requests(HISTORIES, case.task), EVERYTHING)
        results.append((losses, scores.tolist()))
    assert results[0] == results[1]
    assert results[0] != results[2]


@pytest.mark.parametrize("case", CAUSAL_LEARNERS)
def test_the_future_leaves_the_past_alone(case: Case, data: DataView, make_batch: Callable[..., Batch]) -> None:
    """The loss at the first three events is the same whatever comes after them."""
    model = case.build(data)
    endings = ([4, 5, 6], [20, 21, 22], [3, 1, 2])
    values = []
    for ending in endings:
        torch.manual_seed(0)
        batch = make_batch([[1, 2, 3, *ending], [7, 8, 9, *ending]], targets_before=3)
        later = torch.arange(6) >= 3
        events = batch.events
        shift = sum(ending) * later  # the times, queries, and requests of later events change too
        events = replace(events, times=events.times + shift, queries=events.queries * ~later)
        values.append(torch.stack(list(model.loss(replace(batch, events=events)).values())))
    same(values[1], values[0])
    same(values[2], values[0])
    torch.manual_seed(0)
    changed = make_batch([[1, 25, 3, 4, 5, 6], [7, 26, 9, 4, 5, 6]], targets_before=3)
    assert not torch.allclose(torch.stack(list(model.loss(changed).values())), values[0])


@pytest.mark.parametrize("case", ABLE_LEARNERS)
def test_one_batch_can_be_learnt_by_heart(
    case: Case, data: DataView, make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    """Each sequence ends in an item that no other has; after training on them all, the model asked for the next item
    of each beginning puts that item above all that the user has not had yet."""
    model = case.build(data).train()
    batch = make_batch(SEQUENCES)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    first = step(model, batch, optimiser)
    for _ in range(99):
        last = step(model, batch, optimiser)
    assert last < first / 2
    searched = batch.events.queries.gather(1, batch.events.lengths[:, None] - 1)[:, 0]  # (B,)
    mine = searched > 0 if case.task is Task.SEARCH else searched == 0
    rows = [row for row, use in zip(SEQUENCES, mine.tolist(), strict=True) if use]
    asked = replace(make_requests([row[:-1] for row in rows], case.task), queries=searched[mine])
    with torch.no_grad():
        scores = model.eval().score(asked, EVERYTHING)
    for place, row in enumerate(rows):
        scores[place, torch.tensor(row[:-1]) - 1] = -torch.inf
    assert (scores.argmax(1) + 1).tolist() == [row[-1] for row in rows]


@every_learner
def test_loss_terms_are_finite_scalars_in_bfloat16_too(
    case: Case, data: DataView, make_batch: Callable[..., Batch]
) -> None:
    model = case.build(data).train()
    for batch in (make_batch(SEQUENCES), make_batch([[1], [2]]), make_batch([[1, 2], []])):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            terms = model.loss(batch)
        assert all(term.shape == () and term.isfinite() for term in terms.values())
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_learner
def test_every_parameter_has_one_learning_rate(case: Case, data: DataView) -> None:
    model = case.build(data)
    groups = model.parameter_groups()
    assert set(groups) == {"dense", "sparse"}
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())


@pytest.mark.parametrize("case", OTHERS)
def test_models_that_do_not_learn_have_no_loss(case: Case, data: DataView, make_batch: Callable[..., Batch]) -> None:
    model = case.build(data)
    assert list(model.parameters()) == []
    with pytest.raises(TypeError, match=f"{case.name} has nothing to learn"):
        model.loss(make_batch(SEQUENCES))
