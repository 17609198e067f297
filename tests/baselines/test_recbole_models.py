"""SASRec, BERT4Rec and GRU4Rec against RecBole 1.2.1 itself: the same weights in RecBole's unmodified classes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recbole.model.sequential_recommender.bert4rec import BERT4Rec as RecBoleBERT4Rec
from recbole.model.sequential_recommender.gru4rec import GRU4Rec as RecBoleGRU4Rec
from recbole.model.sequential_recommender.sasrec import SASRec as RecBoleSASRec
from torch import Tensor
from torch.nn import functional as F

from baselines.recbole_adapter import Catalogue, gru_config, transformer_config
from baselines.recbole_models import BERT4Rec, GRU4Rec, SASRec
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.model.losses import full_softmax

V = 30
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5], [8, 9, 7]]
SMALL = {"hidden_size": 16, "inner_size": 32, "max_history": 9}
EVERYTHING = torch.arange(V + 1)


def interaction(rows: list[list[int]], width: int = 9) -> dict[str, Tensor]:
    return {
        "item_id_list": torch.tensor([row + [0] * (width - len(row)) for row in rows]),
        "item_length": torch.tensor([len(row) for row in rows]),
    }


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(3)


@pytest.fixture
def sasrec(make_view: Callable[..., DataView]) -> tuple[SASRec, RecBoleSASRec]:
    ours = SASRec(make_view(V), **SMALL).eval()
    theirs = RecBoleSASRec(transformer_config(ours.settings, 9), Catalogue(V)).eval()
    theirs.load_state_dict(ours.net.state_dict())
    return ours, theirs


@pytest.fixture
def bert4rec(make_view: Callable[..., DataView]) -> tuple[BERT4Rec, RecBoleBERT4Rec]:
    ours = BERT4Rec(make_view(V), **SMALL).eval()
    torch.nn.init.normal_(ours.net.output_bias)
    theirs = RecBoleBERT4Rec(transformer_config(ours.settings, 10), Catalogue(V)).eval()
    theirs.load_state_dict(ours.net.state_dict())
    return ours, theirs


@pytest.fixture
def gru4rec(make_view: Callable[..., DataView]) -> tuple[GRU4Rec, RecBoleGRU4Rec]:
    ours = GRU4Rec(make_view(V), embedding_size=16, hidden_size=24, n_layers=2, max_history=9).eval()
    theirs = RecBoleGRU4Rec(gru_config(ours.settings), Catalogue(V)).eval()
    theirs.load_state_dict(ours.net.state_dict())
    return ours, theirs


def test_sasrec_scores_are_recboles(
    sasrec: tuple[SASRec, RecBoleSASRec], make_requests: Callable[..., Requests]
) -> None:
    ours, theirs = sasrec
    scores = ours.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING)
    expected = theirs.full_sort_predict(interaction(HISTORIES))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_sasrec_loss_is_recboles_without_its_padding_column(
    sasrec: tuple[SASRec, RecBoleSASRec], make_batch: Callable[..., Batch]
) -> None:
    """RecBole's softmax has V + 1 columns, ours V. Where RecBole gives padding the probability p0, the loss
    over the V items is RecBole's plus log(1 - p0), since all other items share 1 - p0."""
    ours, theirs = sasrec
    for row in HISTORIES:
        sequence = [*row, 11]
        last = make_batch([sequence])
        last = replace(last, targets=torch.arange(len(sequence))[None] == len(row))
        asked = interaction([row]) | {"item_id": torch.tensor([11])}
        padding = theirs.full_sort_predict(asked).softmax(-1)[0, 0]
        expected = theirs.calculate_loss(asked) + torch.log1p(-padding)
        torch.testing.assert_close(ours.loss(last)["softmax"], expected, rtol=0, atol=2e-6)


def test_sasrec_whole_sequences_are_the_mean_over_prefixes(
    sasrec: tuple[SASRec, RecBoleSASRec], make_batch: Callable[..., Batch]
) -> None:
    """Prefix augmentation has one row a target; the first event of a sequence has no prefix and is no row."""
    ours, theirs = sasrec
    rows = [(row[:e], row[e]) for row in HISTORIES for e in range(1, len(row))]
    logits = theirs.full_sort_predict(interaction([prefix for prefix, _ in rows]))[:, 1:]
    expected = F.cross_entropy(logits, torch.tensor([item - 1 for _, item in rows]))
    torch.testing.assert_close(ours.loss(make_batch(HISTORIES))["softmax"], expected, rtol=0, atol=2e-6)


def test_sasrec_prefixes_learn_what_whole_sequences_do(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target has the same prefix in both and the model is causal; of the 14 events 8 are targets here with an event
    before them."""
    ours = SASRec(make_view(V), **SMALL).eval()
    augmented = SASRec(make_view(V), **SMALL, augmentation="prefix").eval()
    augmented.load_state_dict(ours.state_dict())
    batch = make_batch(HISTORIES, targets_before=4)
    rows = []
    forward = augmented.net.forward
    monkeypatch.setattr(augmented.net, "forward", lambda *given: rows.append(len(given[0])) or forward(*given))
    whole, prefixes = ours.loss(batch)["softmax"], augmented.loss(batch)["softmax"]
    torch.testing.assert_close(prefixes, whole, rtol=0, atol=1e-6)
    assert rows == [8]


def test_sasrec_mask_draws_and_softmax_are_recboles_to_the_bit(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout and one seed: RecBole's forward of whole sequences with its own mask, and the plain formula. So a
    recorded run can be repeated."""
    torch.manual_seed(0)
    ours = SASRec(make_view(V), **SMALL)
    torch.manual_seed(0)
    theirs = RecBoleSASRec(transformer_config(ours.settings, 9), Catalogue(V))
    monkeypatch.setattr(theirs, "gather_indexes", lambda output, index: output)
    batch = make_batch(HISTORIES)
    items, wanted = batch.events.items, batch.targets[:, 1:]
    torch.manual_seed(1)
    loss = ours.loss(batch)["softmax"]
    torch.manual_seed(1)
    states = theirs(items[:, :-1], batch.events.lengths)[wanted]
    assert torch.equal(loss, full_softmax(states, theirs.item_embedding.weight, items[:, 1:][wanted], temperature=1.0))


def test_gru4rec_scores_are_recboles(
    gru4rec: tuple[GRU4Rec, RecBoleGRU4Rec], make_requests: Callable[..., Requests]
) -> None:
    ours, theirs = gru4rec
    scores = ours.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING)
    torch.testing.assert_close(scores, theirs.full_sort_predict(interaction(HISTORIES)), rtol=0, atol=1e-6)


def test_gru4rec_whole_sequences_are_the_mean_over_prefixes(
    gru4rec: tuple[GRU4Rec, RecBoleGRU4Rec], make_batch: Callable[..., Batch]
) -> None:
    """As for SASRec: one row a target, without the padding column."""
    ours, theirs = gru4rec
    rows = [(row[:e], row[e]) for row in HISTORIES for e in range(1, len(row))]
    logits = theirs.full_sort_predict(interaction([prefix for prefix, _ in rows]))[:, 1:]
    expected = F.cross_entropy(logits, torch.tensor([item - 1 for _, item in rows]))
    torch.testing.assert_close(ours.loss(make_batch(HISTORIES))["softmax"], expected, rtol=0, atol=2e-6)


def test_sasrec_empty_history_ties_all_items(
    sasrec: tuple[SASRec, RecBoleSASRec], make_requests: Callable[..., Requests]
) -> None:
    scores = sasrec[0].score(make_requests([[], [1]], Task.RECOMMENDATION), EVERYTHING)
    assert scores[0].tolist() == [0.0] * (V + 1)
    assert scores[1].unique().numel() > 1


def test_bert4rec_scores_are_recboles(
    bert4rec: tuple[BERT4Rec, RecBoleBERT4Rec], make_requests: Callable[..., Requests]
) -> None:
    """RecBole drops the oldest event when it appends the mask, however short the history; we keep it. So our
    answer to a history is RecBole's to the same history with any event put in front."""
    ours, theirs = bert4rec
    scores = ours.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING)
    expected = theirs.full_sort_predict(interaction([[29, *row] for row in HISTORIES], width=10))
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-6)


def test_bert4rec_masks_are_predicted_like_recboles(
    bert4rec: tuple[BERT4Rec, RecBoleBERT4Rec],
    make_batch: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The loss at hand-set masks, from RecBole's forward of the same masked rows. RecBole's calculate_loss is
    not the reference: it leaves out masks at position 0, its padding, and counts the padding column."""
    ours, theirs = bert4rec
    batch = make_batch(HISTORIES)
    masked = torch.zeros(4, 6, dtype=torch.bool)
    places = [(0, 0), (0, 4), (2, 3), (3, 1)]
    for row, event in places:
        masked[row, event] = True
    monkeypatch.setattr(ours, "mask_events", lambda events: (events.items, masked))
    seen = batch.events.items.clone()
    seen[masked] = V + 1
    states = theirs(seen)
    table = theirs.item_embedding.weight[:-1]
    logits = torch.stack([table @ states[at] + theirs.output_bias for at in places])
    answers = torch.tensor([HISTORIES[row][event] for row, event in places])
    expected = F.cross_entropy(logits[:, 1:], answers - 1)
    torch.testing.assert_close(ours.loss(batch)["softmax"], expected, rtol=0, atol=2e-6)


def test_cloze_masks(make_view: Callable[..., DataView], make_histories: Callable[..., Histories]) -> None:
    """By definition: events only, at least one a sequence, at the ratio set; copies mask the last only."""
    model = BERT4Rec(make_view(V), mask_ratio=0.3)
    events = make_histories([[1 + i % V for i in range(40)]] * 200 + [[5, 6]] * 100, width=43)
    items, masked = model.mask_events(events)
    cloze, last = masked[:300], masked[300:]
    assert torch.equal(items, events.items.repeat(2, 1))
    assert not (masked & ~events.valid.repeat(2, 1)).any()
    assert cloze.any(1).all()
    assert torch.equal(last.nonzero()[:, 1], events.lengths - 1)
    # 8,000 draws at .3: standard deviation .005. Of two events the first is masked at .3 + .7² / 2 = .545.
    assert cloze[:200].sum() / 8000 == pytest.approx(0.3, abs=0.02)
    assert cloze[200:, 0].float().mean() == pytest.approx(0.545, abs=0.2)


def test_last_only_share(make_view: Callable[..., DataView], make_histories: Callable[..., Histories]) -> None:
    """The number of copies is binomial; 0 copies none; a user without events has nothing to mask."""
    events = make_histories([[1, 2, 3]] * 400)
    none = BERT4Rec(make_view(V), last_only_share=0.0)
    half = BERT4Rec(make_view(V), last_only_share=0.5)
    assert len(none.mask_events(events)[0]) == 400
    assert 550 < len(half.mask_events(events)[0]) < 650  # mean 600, standard deviation 10
    assert not none.mask_events(make_histories([[], []]))[1].any()
    assert not BERT4Rec(make_view(V)).mask_events(make_histories([[], []]))[1].any()


def test_bert4rec_softmax_is_the_plain_formula_to_the_bit(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    """With dropout and one seed: logits are dot products plus a bias. So a recorded run can be repeated."""
    ours, batch = BERT4Rec(make_view(V), **SMALL), make_batch(HISTORIES)
    torch.nn.init.normal_(ours.net.output_bias)
    torch.manual_seed(1)
    loss = ours.loss(batch)["softmax"]
    torch.manual_seed(1)
    items, masked = ours.mask_events(batch.events)
    states = ours.net(items.masked_fill(masked, V + 1))[masked]
    table = torch.cat([ours.net.item_embedding.weight[:-1], ours.net.output_bias[:, None]], dim=1)
    states = torch.cat([states, torch.ones(len(states), 1)], dim=1)
    assert torch.equal(loss, full_softmax(states, table, items[masked], temperature=1.0))


def test_bert4rec_has_no_bias_under_the_cosine(
    make_view: Callable[..., DataView], make_batch: Callable[..., Batch], make_requests: Callable[..., Requests]
) -> None:
    """The logits of the cosine lie in [-1, 1], whatever the bias; scores are cosines, too."""
    model = BERT4Rec(make_view(V), **SMALL, similarity="cosine").eval()
    scores = model.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING)
    torch.nn.init.constant_(model.net.output_bias, 7.0)
    assert torch.equal(model.score(make_requests(HISTORIES, Task.RECOMMENDATION), EVERYTHING), scores)
    assert scores.abs().max() <= 1 + 1e-6
    loss = model.loss(make_batch(HISTORIES))["softmax"]
    assert abs(loss.item() - torch.log(torch.tensor(float(V))).item()) <= 2


def test_import_leaves_the_process_alone(tmp_path: Path) -> None:
    """RecBole's anomaly detection, command-line parsing, device choice, and log folders stay out."""
    code = (
        "import os, sys, torch; before = dict(os.environ); import baselines.recbole_models; "
        "print(torch.is_anomaly_enabled(), sys.argv, dict(os.environ) == before)"
    )
    command = [sys.executable, "-c", code, "--model", "GRU4Rec"]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False ['-c', '--model', 'GRU4Rec'] True"
    assert list(tmp_path.iterdir()) == []
