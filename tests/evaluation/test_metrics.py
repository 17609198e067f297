"""Metrics against hand computation, against ir_measures, and against what must hold for any ranks."""

import math

import ir_measures
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ir_measures import RR, Qrel, R, ScoredDoc, nDCG

from synergen.errors import UserError
from synergen.evaluation.metrics import metric_values, metrics, rank_of_positive

LOG2_3 = 1.584962500721156  # log2(3)


@pytest.mark.parametrize(
    ("scores", "positive", "excluded", "expected"),
    [
        ([0.9, 0.5, 0.1], 0, [], 1.0),  # nothing better
        ([0.9, 0.5, 0.1], 2, [], 3.0),  # two better
        ([0.5, 0.5, 0.1], 0, [], 1.5),  # one tie: first or second
        ([0.7, 0.5, 0.5, 0.5], 1, [], 3.0),  # one better, two ties: 1 + 1 + 2/2
        ([0.5, 0.5, 0.5, 0.5], 3, [], 2.5),  # all equal: the middle of 1..4
        ([0.9, 0.8, 0.5, 0.1], 2, [0], 2.0),  # the better column 0 does not count
        ([0.9, 0.5, 0.5], 2, [0, 1], 1.0),  # neither does a tie
        ([0.9, 0.5], 1, [1], 2.0),  # an excluded positive is still ranked
        ([-math.inf, 0.0, math.inf], 1, [], 2.0),  # infinities are ordered like other scores
        ([-math.inf, -math.inf], 0, [], 1.5),
        ([0.3], 0, [], 1.0),
    ],
)
def test_rank_by_hand(scores: list[float], positive: int, excluded: list[int], expected: float) -> None:
    """1 + #better + ½·#ties, counted by eye."""
    mask = torch.zeros(1, len(scores), dtype=torch.bool)
    mask[0, excluded] = True
    rank = rank_of_positive(torch.tensor([scores]), torch.tensor([positive]), mask)
    assert rank.dtype == torch.float64
    assert rank.tolist() == [expected]


def test_rows_are_ranked_apart_and_the_mask_is_left_alone() -> None:
    """Each row's positive stands in its own column; by eye."""
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]])
    mask = torch.zeros(2, 3, dtype=torch.bool)
    assert rank_of_positive(scores, torch.tensor([2, 0]), None).tolist() == [3.0, 1.0]
    assert rank_of_positive(scores, torch.tensor([2, 0]), mask).tolist() == [3.0, 1.0]
    assert not mask.any()


def test_nan_scores_are_refused() -> None:
    """NaN compares false with everything, so it would count as the best rank."""
    scores = torch.tensor([[0.1, 0.2], [math.nan, 0.2]])
    with pytest.raises(ValueError, match="NaN in 1 of 2 requests"):
        rank_of_positive(scores, torch.tensor([0, 0]), None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("R@1", [1, 0, 0, 0, 0]),
        ("R@2", [1, 1, 1, 0, 0]),
        ("R@10", [1, 1, 1, 1, 0]),
        ("N@1", [1, 0, 0, 0, 0]),
        ("N@2", [1, 1 / math.log2(2.5), 1 / LOG2_3, 0, 0]),
        ("N@10", [1, 1 / math.log2(2.5), 1 / LOG2_3, 0.5, 0]),  # log2(3 + 1) = 2
        ("MRR", [1, 2 / 3, 1 / 2, 1 / 3, 1 / 11]),
    ],
)
def test_metrics_by_hand(name: str, expected: list[float]) -> None:
    """From the definitions, for ranks 1, 1½ (a tie), 2, 3, 11."""
    np.testing.assert_allclose(metric_values(np.array([1, 1.5, 2, 3, 11]), name), expected, rtol=1e-14)


def test_means_leave_out_users_who_were_not_asked() -> None:
    """Ranks 1 and 3: R@2 = ½, MRR = (1 + ⅓)/2; the NaN user counts for nothing and stays NaN."""
    ranks = np.array([1.0, np.nan, 3.0])
    assert metrics(ranks, ["R@2", "MRR"]) == pytest.approx({"R@2": 0.5, "MRR": 2 / 3})
    assert np.isnan(metric_values(ranks, "R@2")).tolist() == [False, True, False]


def test_faults_are_named() -> None:
    """A name outside the definitions, a rank below 1, nobody asked."""
    with pytest.raises(UserError, match=r"unknown metric 'R@0'"):
        metric_values(np.array([1.0]), "R@0")
    with pytest.raises(UserError, match=r"unknown metric 'HR@10'"):
        metrics(np.array([1.0]), ["HR@10"])
    with pytest.raises(ValueError, match=r"a rank is 0\.5"):
        metric_values(np.array([2.0, 0.5]), "MRR")
    with pytest.raises(UserError, match="no user was asked"):
        metrics(np.array([np.nan, np.nan]), ["MRR"])


def test_agrees_with_ir_measures() -> None:
    """200 rankings of 60 distinct scores; the expected values are those of ir_measures (trec_eval)."""
    rng = np.random.default_rng(0)
    users, candidates = 200, 60
    scores = rng.permuted(np.tile(np.arange(candidates, dtype=float), (users, 1)), axis=1)
    positives = rng.integers(0, candidates, users)
    qrels = [Qrel(str(u), str(c), 1) for u, c in enumerate(positives)]
    run = [ScoredDoc(str(u), str(c), scores[u, c]) for u in range(users) for c in range(candidates)]
    measures = {"R@1": R @ 1, "R@5": R @ 5, "R@10": R @ 10, "N@5": nDCG @ 5, "N@10": nDCG @ 10, "MRR": RR}
    ranks = rank_of_positive(torch.from_numpy(scores), torch.from_numpy(positives), None).numpy()
    reference: dict[str, dict[int, float]] = {name: {} for name in measures}
    names = {str(measure): name for name, measure in measures.items()}
    for value in ir_measures.iter_calc(list(measures.values()), qrels, run):
        reference[names[str(value.measure)]][int(value.query_id)] = value.value
    for name, by_user in reference.items():
        expected = [by_user[u] for u in range(users)]
        np.testing.assert_allclose(metric_values(ranks, name), expected, atol=1e-9)


whole_ranks = st.lists(st.integers(1, 300), min_size=1, max_size=40)
cutoffs = st.tuples(st.integers(1, 100), st.integers(1, 100))


@given(whole_ranks, cutoffs)
def test_recall_and_ndcg_bound_one_another(ranks: list[int], ks: tuple[int, int]) -> None:
    """A hit at a rank in (k, l] gains between 1/log2(l + 1) and 1/log2(k + 2); means keep a linear bound."""
    k, cut = min(ks), min(ks) + max(ks)
    m = metrics(np.array(ranks, dtype=float), [f"R@{k}", f"R@{cut}", f"N@{k}", f"N@{cut}", "R@1", "N@1"])
    hits = m[f"R@{cut}"] - m[f"R@{k}"]
    assert m[f"N@{k}"] + hits / math.log2(cut + 1) <= m[f"N@{cut}"] + 1e-12
    assert m[f"N@{cut}"] <= m[f"N@{k}"] + hits / math.log2(k + 2) + 1e-12
    assert m["N@1"] == m["R@1"]


whole_scores = st.lists(st.integers(-8, 8), min_size=2, max_size=30)


@given(whole_scores, st.data())
def test_rank_is_unchanged_by_increasing_functions(scores: list[int], data: st.DataObject) -> None:
    """Order and ties are all that a rank reads; exp and x³ keep both on small whole numbers."""
    column = torch.tensor([data.draw(st.integers(0, len(scores) - 1))])
    x = torch.tensor([scores], dtype=torch.float64)
    ranks = {float(rank_of_positive(y, column, None)) for y in (x, 3 * x - 7, x**3, x.exp())}
    assert len(ranks) == 1


@given(whole_scores)
def test_ranks_of_all_columns_sum_like_those_of_an_order(scores: list[int]) -> None:
    """Averaging over ties keeps the sum 1 + … + C."""
    size = len(scores)
    x = torch.tensor([scores], dtype=torch.float32).expand(size, size)
    assert float(rank_of_positive(x, torch.arange(size), None).sum()) == size * (size + 1) / 2


@given(st.integers(1, 50), st.floats(-1e6, 1e6), st.data())
def test_constant_scores_give_the_middle_rank(size: int, value: float, data: st.DataObject) -> None:
    """A model that knows nothing gets (C + 1)/2 wherever the positive stands."""
    column = torch.tensor([data.draw(st.integers(0, size - 1))])
    assert float(rank_of_positive(torch.full((1, size), value), column, None)) == (size + 1) / 2
