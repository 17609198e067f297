"""SASRec, BERT4Rec and GRU4Rec: RecBole's own modules behind the contract of this benchmark.

Papers: W.-C. Kang, J. McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018; F. Sun et al.,
"BERT4Rec: Sequential Recommendation with Bidirectional Encoder Representations from Transformer", CIKM 2019;
B. Hidasi et al., "Session-based Recommendations with Recurrent Neural Networks", ICLR 2016, as improved by Y. K. Tan
et al., "Improved Recurrent Neural Networks for Session-based Recommendations", DLRS 2016.
Repositories: https://github.com/RUCAIBox/RecBole 1.2.1 (the classes used here), https://github.com/kang205/SASRec,
https://github.com/FeiSun/BERT4Rec, https://github.com/hidasib/GRU4Rec.

Layers, initialisation, right padding with positions from 0, and default sizes are RecBole's. Deviations:

- SASRec and GRU4Rec are trained on whole sequences, every target in one pass, instead of on one row for each prefix.
  SASRec trains on prefixes, too, where `augmentation` says so; these share a batch as their sequences do, and are
  padded to the longest of the batch.
- The softmax is over the items 1..V; RecBole's has one more column, for padding, which is never an answer.
- The losses of `objectives` take the place of the softmax, and text that of the id vectors, where settings say so.
- BERT4Rec masks by tensor operations: at least one event of a sequence, with no ceiling on their number. Each
  sequence comes with a copy that has only its last event masked, as in the paper (RecBole: instead, in half
  of the batches). Any event may be masked, whatever `Batch.targets` says: all are training events.
- BERT4Rec has max_history + 1 positions, so that the appended mask costs no event. RecBole drops the oldest
  event of every history for it, however short; here events go only beyond max_history.
- BERT4Rec's output bias has no place under the cosine.
- An empty history scores every item 0 in SASRec and GRU4Rec, which have nothing to read; BERT4Rec reads the mask alone.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.item_inputs import WithMask, text_items
from baselines.objectives import compared, objective
from baselines.recbole_adapter import Catalogue, CausalRecBoleModel, RecBoleModel, gru_config, transformer_config
from baselines.recbole_settings import BERT4RecSettings, GRU4RecSettings, SASRecSettings
from baselines.sequences import refuse_unknown, refuse_unreadable
from synergen.contract import Batch, DataView, Histories, Requests

with torch.autograd.set_detect_anomaly(torch.is_anomaly_enabled()):  # one of RecBole's modules switches it on
    from recbole.model.sequential_recommender.bert4rec import BERT4Rec as RecBoleBERT4Rec
    from recbole.model.sequential_recommender.gru4rec import GRU4Rec as RecBoleGRU4Rec
    from recbole.model.sequential_recommender.sasrec import SASRec as RecBoleSASRec


class SASRec(CausalRecBoleModel):
    """Self-attentive sequential recommendation."""

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings: SASRecSettings = SASRecSettings(**settings)
        self.n_items = data.n_items
        config = transformer_config(self.settings, positions=self.settings.max_history)
        self.net = _CausalSASRec(config, Catalogue(data.n_items))
        if self.settings.inputs != "id":
            self.net.item_embedding = text_items(data, self.settings.hidden_size, self.settings.inputs, "SASRec")

    def states_before(self, items: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
        """(N, D), from whole sequences or, with augmentation, from one row for each of the N."""
        if self.settings.augmentation == "none":
            return super().states_before(items, lengths, wanted)
        rows, last = wanted.nonzero(as_tuple=True)  # (N,), (N,)
        prefixes = items[rows] * (torch.arange(items.shape[1], device=items.device) <= last[:, None])  # (N, T - 1)
        return self.net(prefixes, last + 1)[torch.arange(len(last), device=last.device), last]


class GRU4Rec(CausalRecBoleModel):
    """A recurrent network over the items of a history."""

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings: GRU4RecSettings = GRU4RecSettings(**settings)
        self.n_items = data.n_items
        self.net = _EveryStateGRU4Rec(gru_config(self.settings), Catalogue(data.n_items))
        if self.settings.inputs != "id":
            self.net.item_embedding = text_items(data, self.settings.embedding_size, self.settings.inputs, "GRU4Rec")


class BERT4Rec(RecBoleModel):
    """Bidirectional transformer that fills in masked events; a request is a history with a mask appended."""

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings: BERT4RecSettings = BERT4RecSettings(**settings)
        self.n_items, width = data.n_items, self.settings.hidden_size
        config = transformer_config(self.settings, positions=self.settings.max_history + 1)
        self.net = RecBoleBERT4Rec(config, Catalogue(data.n_items))
        if self.settings.inputs != "id":
            items = text_items(data, width, self.settings.inputs, "BERT4Rec")
            self.net.item_embedding = WithMask(items, data.n_items, width)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the settings, under its name: the mean over the masked events; which ones they are is torch's
        random state.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        items, masked = self.mask_events(batch.events)  # (B', T), (B', T); B <= B' <= 2B
        states = self.net(items.masked_fill(masked, self.net.mask_token))[masked]  # (N, D)
        read = self.items
        bias = self.item_bias()
        if bias is not None:  # as one more dimension, so that logits stay dot products
            states = torch.cat([states, torch.ones_like(states[:, :1])], dim=1)  # (N, D + 1)
            read = self._with_bias
        return {self.settings.loss: objective(self.settings, states, items[masked], read, self.n_items)}

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
        """(B, D): the output at the mask that follows the history.

        Raises:
            UserError: an item that the model does not know.
        """
        history = requests.history.last(self.settings.max_history)
        items, lengths = history.items, history.lengths
        refuse_unknown(items, self.n_items)
        items = F.pad(items, (0, 1)).scatter(1, lengths[:, None], self.net.mask_token)  # (B, T + 1)
        states = self.net(items)  # (B, T + 1, D)
        return compared(self.settings, states[torch.arange(len(lengths), device=lengths.device), lengths])  # (B, D)

    def item_bias(self) -> Tensor | None:
        """(V + 1,), none under the cosine."""
        return None if self.settings.similarity == "cosine" else self.net.output_bias

    def _with_bias(self, ids: Tensor | None = None) -> Tensor:
        """Item vectors and biases (..., D + 1)."""
        vectors = self.items(ids)  # (..., D)
        bias = self.net.output_bias if ids is None else self.net.output_bias[ids]
        return torch.cat([vectors, bias[..., None]], dim=-1)


class _CausalSASRec(RecBoleSASRec):
    """RecBole's SASRec with the output of every event instead of the last."""

    def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
        return output  # (B, T, D)

    def get_attention_mask(self, item_seq: Tensor, bidirectional: bool = False) -> Tensor:
        """(T, T) to add to the scores: RecBole's for each sequence, since padding follows events that never see it."""
        return torch.full((item_seq.shape[1],) * 2, -10000.0, device=item_seq.device).triu(1)


class _EveryStateGRU4Rec(RecBoleGRU4Rec):
    """RecBole's GRU4Rec with the output of every event instead of the last."""

    def gather_indexes(self, output: Tensor, gather_index: Tensor) -> Tensor:
        return output  # (B, T, D)
