"""SASRec and BERT4Rec: RecBole's own modules behind the contract of this benchmark.

Papers: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; F. Sun et al.,
"BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM 2019.
Repositories: https://github.com/RUCAIBox/RecBole 1.2.1 (the classes used here),
https://github.com/kang205/SASRec, https://github.com/FeiSun/BERT4Rec.

Layers, initialisation, right padding with positions from 0, and default sizes are RecBole's. Deviations:

- SASRec is trained on whole sequences, every target in one pass, instead of on one row for each prefix.
- The softmax is over the items 1..V; RecBole's has one more column, for padding, which is never an answer.
- BERT4Rec masks by tensor operations: at least one event of a sequence, with no ceiling on their number. Each
  sequence comes with a copy that has only its last event masked, as in the paper (RecBole: instead, in half
  of the batches). Any event may be masked, whatever `Batch.targets` says: all are training events.
- BERT4Rec has max_history + 1 positions, so that the appended mask costs no event. RecBole drops the oldest
  event of every history for it, however short; here events go only beyond max_history.
- An empty history scores every item 0 in SASRec, which has nothing to read; BERT4Rec reads the mask alone.

RecBole's configuration, data sets and trainer are not used: they parse sys.argv, set environment variables,
write folders, and keep times in float32.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from synergen.contract import Batch, DataView, DotProductRecommender, Histories, Requests, Task
from synergen.errors import UserError
from synergen.model.losses import full_softmax

with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):  # one of RecBole's modules switches it on
    from recbole.model.sequential_recommender.bert4rec import BERT4Rec as RecBoleBERT4Rec
    from recbole.model.sequential_recommender.sasrec import SASRec as RecBoleSASRec


@dataclass(frozen=True)
class SASRecSettings:
    """Sizes of the transformer, and the last events of a history that it reads. Defaults: RecBole's."""

    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    inner_size: int = 256
    hidden_dropout: float = 0.5
    attention_dropout: float = 0.5
    max_history: int = 50

    def __post_init__(self) -> None:
        if min(self.hidden_size, self.n_layers, self.n_heads, self.inner_size, self.max_history) < 1:
            raise UserError(f"impossible settings {self}: every size is 1 or more")
        if self.hidden_size % self.n_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} does not divide into n_heads {self.n_heads}: use a multiple"
            )
        if not (0 <= self.hidden_dropout < 1 and 0 <= self.attention_dropout < 1):
            raise UserError(f"impossible settings {self}: a dropout is 0 or more and less than 1")


@dataclass(frozen=True)
class BERT4RecSettings(SASRecSettings):
    """mask_ratio: probability that an event is masked. last_only_share: share of the sequences that are
    repeated with only the last event masked, which is what a request looks like."""

    hidden_dropout: float = 0.2
    attention_dropout: float = 0.2
    mask_ratio: float = 0.2
    last_only_share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (0 <= self.mask_ratio <= 1 and 0 <= self.last_only_share <= 1):
            raise UserError(f"impossible settings {self}: mask_ratio and last_only_share lie between 0 and 1")


class SASRec(DotProductRecommender):
    """Self-attentive sequential recommendation: the output at an event looks for the next item."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = SASRecSettings(**settings)
        config = recbole_config(self.settings, positions=self.settings.max_history)
        self.net = _EveryPosition(config, _Catalogue(data.n_items))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`softmax`: mean cross-entropy over the targets that have an event before them.

        Raises:
            UserError: a sequence is longer than max_history + 1 events.
        """
        _check_width(batch, self.settings)
        events = batch.events
        states = self.net(events.items[:, :-1], events.lengths)  # (B, T - 1, D)
        predicted = (batch.targets & events.valid)[:, 1:]  # (B, T - 1)
        items = events.items[:, 1:][predicted]  # (N,)
        return {"softmax": _softmax_loss(states[predicted], self.item_vectors(), None, items)}

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the output at the last event, zero for an empty history."""
        history = requests.history.last(self.settings.max_history)
        items, lengths = history.items, history.lengths
        states = self.net(items, lengths)  # (B, T, D)
        last = states[torch.arange(len(lengths), device=lengths.device), (lengths - 1).clamp(min=0)]  # (B, D)
        return last.masked_fill((lengths == 0)[:, None], 0.0)

    def item_vectors(self) -> Tensor:
        """(V + 1, D): the input embeddings, which RecBole shares with the output."""
        return self.net.item_embedding.weight


class BERT4Rec(DotProductRecommender):
    """Bidirectional transformer that fills in masked events; a request is a history with a mask appended."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = BERT4RecSettings(**settings)
        config = recbole_config(self.settings, positions=self.settings.max_history + 1)
        self.net = RecBoleBERT4Rec(config, _Catalogue(data.n_items))

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`softmax`: mean cross-entropy over the masked events; which ones they are is torch's random state.

        Raises:
            UserError: a sequence is longer than max_history + 1 events.
        """
        _check_width(batch, self.settings)
        items, masked = self.mask_events(batch.events)  # (B', T), (B', T); B <= B' <= 2B
        states = self.net(items.masked_fill(masked, self.net.mask_token))  # (B', T, D)
        return {"softmax": _softmax_loss(states[masked], self.item_vectors(), self.item_bias(), items[masked])}

    def mask_events(self, events: Histories) -> tuple[Tensor, Tensor]:
        """Items of the sequences and then of their copies, (B', T), and which are masked, (B', T) bool."""
        valid, lengths = events.valid, events.lengths[:, None]  # (B, T), (B, 1)
        device = valid.device
        steps = torch.arange(valid.shape[1], device=device)  # (T,)
        cloze = valid & (torch.rand(valid.shape, device=device) < self.settings.mask_ratio)  # (B, T)
        one = steps == (torch.rand(lengths.shape, device=device) * lengths).long()  # (B, T): any one event
        cloze |= one & valid & ~cloze.any(1, keepdim=True)
        copied = torch.rand(len(valid), device=device) < self.settings.last_only_share
        last = (steps == lengths - 1)[copied]
        return torch.cat([events.items, events.items[copied]]), torch.cat([cloze, last])

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the output at the mask that follows the history."""
        history = requests.history.last(self.settings.max_history)
        items, lengths = history.items, history.lengths
        items = F.pad(items, (0, 1)).scatter(1, lengths[:, None], self.net.mask_token)  # (B, T + 1)
        states = self.net(items)  # (B, T + 1, D)
        return states[torch.arange(len(lengths), device=lengths.device), lengths]  # (B, D)

    def item_vectors(self) -> Tensor:
        """(V + 1, D): the input embeddings without the mask's."""
        return self.net.item_embedding.weight[: self.net.n_items]

    def item_bias(self) -> Tensor:
        """(V + 1,)"""
        return self.net.output_bias


class _EveryPosition(RecBoleSASRec):
    """RecBole's SASRec with the output of every event instead of the last."""

    def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
        return output  # (B, T, D)


class _Catalogue:
    """All that RecBole's models ask of a data set."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def num(self, field: str) -> int:
        return self.n_items + 1  # with padding


def recbole_config(settings: SASRecSettings, positions: int) -> dict[str, Any]:
    """The keys that RecBole's transformers look up, with its own values for what is not a setting here."""
    return {
        "hidden_size": settings.hidden_size,
        "n_layers": settings.n_layers,
        "n_heads": settings.n_heads,
        "inner_size": settings.inner_size,
        "hidden_dropout_prob": settings.hidden_dropout,
        "attn_dropout_prob": settings.attention_dropout,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "initializer_range": 0.02,
        "loss_type": "CE",
        "MAX_ITEM_LIST_LENGTH": positions,
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "ITEM_LIST_LENGTH_FIELD": "item_length",
        "LIST_SUFFIX": "_list",
        "NEG_PREFIX": "neg_",
        "mask_ratio": 0.0,  # this and the next four: for RecBole's own masking and negatives, not used here
        "MASK_ITEM_SEQ": "Mask_item_id_list",
        "POS_ITEMS": "Pos_item_id",
        "NEG_ITEMS": "Neg_item_id",
        "MASK_INDEX": "MASK_INDEX",
        "device": "cpu",  # stored by RecBole and never read
    }


def _softmax_loss(states: Tensor, vectors: Tensor, bias: Tensor | None, items: Tensor) -> Tensor:
    """Mean cross-entropy of N items against the items 1..V; 0 when there is nothing to predict."""
    if bias is not None:  # as one more dimension, so that the softmax stays one of dot products
        states = torch.cat([states, torch.ones_like(states[:, :1])], dim=1)  # (N, D + 1)
        vectors = torch.cat([vectors, bias[:, None]], dim=1)  # (V + 1, D + 1)
    return full_softmax(states, vectors, items, temperature=1.0)


def _check_width(batch: Batch, settings: SASRecSettings) -> None:
    width = batch.events.items.shape[1]
    if width > settings.max_history + 1:
        raise UserError(
            f"a training batch has sequences of {width} events and the model reads {settings.max_history} "
            f"before the one it predicts: cut sequences to max_history + 1, or raise the setting max_history"
        )
