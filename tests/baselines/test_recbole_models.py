"""SASRec and BERT4Rec against RecBole 1.2.1 itself: the same weights in RecBole's unmodified classes."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from recbole.model.sequential_recommender.bert4rec import BERT4Rec as RecBoleBERT4Rec
from recbole.model.sequential_recommender.sasrec import SASRec as RecBoleSASRec
from torch import Tensor
from torch.nn import functional as F

from baselines.recbole_models import BERT4Rec, SASRec, recbole_config
from synergen.contract import Batch, DataView, Histories, Requests, Task
from synergen.errors import UserError

V = 30
HISTORIES = [[3, 1, 4, 1, 5, 9], [2], [6, 5, 3, 5], [8, 9, 7]]
SMALL = {"hidden_size": 16, "inner_size": 32, "max_history": 9}
EVERYTHING = torch.arange(V + 1)


class Catalogue:
    def num(self, field: str) -> int:
        return V + 1


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
    theirs = RecBoleSASRec(recbole_config(ours.settings, 9), Catalogue()).eval()
    theirs.load_state_dict(ours.net.state_dict())
    return ours, theirs


@pytest.fixture
def bert4rec(make_view: Callable[..., DataView]) -> tuple[BERT4Rec, RecBoleBERT4Rec]:
    ours = BERT4Rec(make_view(V), **SMALL).eval()
    torch.nn.init.normal_(ours.net.output_bias)
    theirs = RecBoleBERT4Rec(recbole_config(ours.settings, 10), Catalogue()).eval()
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


@pytest.mark.parametrize("kind", [SASRec, BERT4Rec])
def test_the_oldest_event_of_a_full_history_counts(
    kind: type[SASRec | BERT4Rec], make_view: Callable[..., DataView], make_requests: Callable[..., Requests]
) -> None:
    model = kind(make_view(V), **SMALL | {"max_history": 3}).eval()
    asked = make_requests([[1, 2, 3], [4, 2, 3]], Task.RECOMMENDATION)
    scores = model.score(asked, EVERYTHING)
    assert not torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize("kind", [SASRec, BERT4Rec])
def test_too_long_training_sequences_are_refused(
    kind: type[SASRec | BERT4Rec], make_view: Callable[..., DataView], make_batch: Callable[..., Batch]
) -> None:
    model = kind(make_view(V), **SMALL | {"max_history": 3})
    assert model.loss(make_batch([[1, 2, 3, 4]]))["softmax"].isfinite()
    with pytest.raises(UserError, match="sequences of 5 events and the model reads 3"):
        model.loss(make_batch([[1, 2, 3, 4, 5]]))


def test_nothing_to_predict_is_no_loss(make_view: Callable[..., DataView], make_batch: Callable[..., Batch]) -> None:
    """A first event cannot be predicted from anything: SASRec skips it."""
    loss = SASRec(make_view(V), **SMALL).loss(make_batch([[4], [5]]))["softmax"]
    loss.backward()
    assert loss.item() == 0.0


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
