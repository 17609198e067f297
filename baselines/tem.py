"""TEM and its relatives QEM, ZAM and AEM: product search by the query and, TEM most of all, the items before it.

Papers: K. Bi, Q. Ai, W. B. Croft, "A Transformer-based Embedding Model for Personalized Product Search", SIGIR 2020
(TEM); Q. Ai, D. Hill, S. Vishwanathan, W. B. Croft, "A Zero Attention Model for Personalized Product Search", CIKM
2019 (ZAM, AEM, QEM). Repository: https://github.com/kepingbi/ProdSearch (models/item_transformer.py).

Query, layers and loss are the repository's, in its default mode, where the score is the inner product of item and
request (`use_dot_prod`). The mode with the candidate inside the encoder is left out, and so are item vectors of the
history apart from those that are scored (`sep_prod_emb`). Deviations:

- The repository draws the gains of the layer norms from N(0, 1), as its initialisation takes them for weights; here
  they are 1. It also draws vectors of items and words from N(0, 1), so that logits of deviation √D would have to be
  unlearnt first; here they, and the sinusoids added to them, are smaller by √D. `faithful` restores both. The attention
  of ZAM and AEM begins as TEM's does.
- The history is what came before the request, as `do_seq_review_train` has it, up to max_history (the repository: 20).
- Items are not told apart by reviews, which our data lack, but by the words of their texts (titles and categories, the
  first 24); a word is drawn anew for each target, which is the repository's window of one word.
- Negative items are never the target, and all logits are raised by a constant (see `baselines.objectives`). The
  repository sums binary cross-entropies over the 1 + K logits of items and those of words; `gbce` is the mean of the
  former, and the latter are divided by as much.
- One block serves all targets of a sequence in one pass: its items do not read the query. With more blocks each
  target is a row of its own.
- Where the history is empty, AEM reads nothing (the repository: the padding), so the request is half the query and
  half the bias of its output.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from baselines import objectives
from baselines.asked import Asked, cut
from baselines.item_inputs import ReadsItemText, text_items
from baselines.joint_layers import padded_table
from baselines.objectives import ObjectiveSettings
from baselines.pointwise import pointwise
from baselines.query_words import Vocabulary
from baselines.recbole_settings import Inputs
from baselines.sequences import refuse_unknown, refuse_unreadable
from baselines.tem_layers import Attention, Encoder, QueryEncoder
from synergen.contract import Batch, DataView, DotProductRecommender, Histories, Requests, Task
from synergen.data.queries import words_of
from synergen.errors import UserError
from synergen.model.fusion import ItemTable
from synergen.settings import refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted

HISTORIES = ("none", "attention", "zero_attention", "transformer")

_WORD_NEGATIVES = 5
_DISTORTION = 0.75


@dataclass(frozen=True)
class TEMSettings(ObjectiveSettings):
    """The defaults are the repository's; binary cross-entropy is gBCE that does not calibrate.

    history: what is read of it: none (QEM), attention of the query to its items (AEM), and to nothing (zero_attention,
        ZAM), or a transformer over both (TEM).
    layers, ffn_width: of the transformer.
    item_bias: a trained number of each item is added to its scores (`sim_func` bias_product).
    words_weight: of the loss that predicts the words of a target's text from its vector; 0 for none.
    requests_per_sequence: random targets that are trained on of each sequence and epoch where there is more than one
        layer; 0 for all.
    inputs: what an item vector is made of: a trained id vector, a trained projection of its frozen text vector, or
        their sum.
    faithful: weights begin as in the repository.
    """

    loss: str = "gbce"
    negatives: int = 5
    calibration: float = 0.0
    history: str = "transformer"
    width: int = 128
    layers: int = 1
    heads: int = 8
    ffn_width: int = 512
    dropout: float = 0.1
    max_history: int = 20
    item_bias: bool = False
    words_weight: float = 1.0
    requests_per_sequence: int = 0
    inputs: Inputs = "id"
    faithful: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, known in (("history", HISTORIES), ("inputs", get_args(Inputs))):
            refuse_unlisted(self, name, known)
        refuse_below(self, 1, "width", "layers", "heads", "ffn_width", "max_history")
        refuse_below(self, 0, "words_weight", "requests_per_sequence")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_share(self, "dropout")
        if self.item_bias and self.similarity == "cosine":
            raise UserError(f"{type(self).__name__}: item_bias has no place under the cosine; set similarity to 'dot'")


class TEM(ReadsItemText, DotProductRecommender):
    """Search by the inner product of an item with what a request looks for. Users are their histories: a stranger, or
    one without any event, is answered by the query, and a query without known words by the history."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.SEARCH})
    settings_type: ClassVar[type[TEMSettings]] = TEMSettings

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings, self.n_items = self.settings_type(**settings), data.n_items
        width, dropout = self.settings.width, self.settings.dropout
        self.items = _item_table(data, self.settings, type(self).__name__)
        vocabulary = Vocabulary([*data.query_texts, *data.item_texts])
        deviation = _deviation(self.settings)
        words = padded_table(len(vocabulary), width, deviation)
        self.queries = QueryEncoder(data.query_texts, vocabulary, words, dropout)
        self.titles = ItemWords(data.item_texts, data.item_counts, vocabulary, words)
        self.bias = nn.Parameter(torch.zeros(data.n_items + 1)) if self.settings.item_bias else None
        self.reader: nn.Module | None = None
        if self.settings.history == "transformer":
            sizes = (width, self.settings.layers, self.settings.heads, self.settings.ffn_width)
            longest = self.settings.max_history + 1  # of a training sequence, whose last event is placed but not read
            self.reader = Encoder(*sizes, dropout, longest, deviation, self.settings.faithful)
        elif self.settings.history != "none":
            self.reader = Attention(width, self.settings.heads, dropout)

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return objectives.trained_against(settings)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's mean over the targets that were searched for, under its name, and that of their words.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        searched = batch.targets & batch.events.valid & (batch.events.queries > 0)  # (B, T)
        states, targets = self._searches(replace(batch, targets=searched))  # (N, D), (N,)
        items = self.items if self.bias is None else self._with_bias
        if self.bias is not None:  # as one more dimension, so that logits stay dot products
            states = torch.cat([states, torch.ones_like(states[:, :1])], dim=1)  # (N, D + 1)
        terms = {self.settings.loss: objectives.objective(self.settings, states, targets, items, self.n_items)}
        if self.settings.words_weight:
            divided_by = 1 + self.settings.negatives if self.settings.loss == "gbce" else 1
            terms["words"] = self.settings.words_weight * self.titles(targets, self.items(targets)) / divided_by
        return terms

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D)

        Raises:
            UserError: an item that the model does not know.
        """
        refuse_unknown(requests.history.items, self.n_items)
        asked = Asked.of(requests)
        states = self.states(asked.queries, asked.history.last(self.settings.max_history))
        return objectives.compared(self.settings, states)

    def item_vectors(self) -> Tensor:
        """(V + 1, D): of length 1 under the cosine."""
        return objectives.compared(self.settings, self.items())

    def item_bias(self) -> Tensor | None:
        """(V + 1,), where settings want it."""
        return self.bias

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """Words that the model was not built with are not read; `vectors` are not needed."""
        self.queries.mean.hold(texts)

    def states(self, queries: Tensor, history: Histories) -> Tensor:
        """(B, D): what requests with these queries (B,) look for after these histories."""
        return self._states(queries[:, None], history, history.valid[:, None]).squeeze(1)

    def tokens(self, history: Histories) -> Tensor:
        """(B, T, D): the events as the encoder reads them."""
        return self.items(history.items)

    def _searches(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """States (N, D) of the targets of a batch, and these items (N,)."""
        if self.settings.layers > 1:
            asked, targets = cut(batch, self.settings.requests_per_sequence)
            return self.states(asked.queries, asked.history), targets
        events, wanted = batch.events, batch.targets
        most = max(1, int(wanted.sum(1).max()))
        places = wanted.int().argsort(dim=1, descending=True, stable=True)[:, :most]  # (B, R): targets first
        queries, items, groups = (x.gather(1, places) for x in (events.queries, events.items, events.groups))
        earlier = events.groups[:, None] < groups[:, :, None]  # (B, R, T)
        states = self._states(queries, events, earlier & events.valid[:, None])  # (B, R, D)
        real = wanted.gather(1, places)  # (B, R): some rows have fewer than R
        return states[real], items[real]

    def _states(self, queries: Tensor, history: Histories, may_read: Tensor) -> Tensor:
        """(B, R, D) of queries (B, R) that read of a history (B, T) what they may (B, R, T)."""
        vectors = self.queries(queries)  # (B, R, D)
        if self.reader is None:
            return vectors
        tokens = self.tokens(history)  # (B, T, D)
        if self.settings.history == "transformer":
            return self.reader(vectors, tokens, may_read)
        nothing = torch.zeros_like(vectors) if self.settings.history == "zero_attention" else None
        return (self.reader(vectors, tokens, may_read, nothing) + vectors) / 2

    def _with_bias(self, ids: Tensor | None = None) -> Tensor:
        """Item vectors and biases (..., D + 1)."""
        assert self.bias is not None
        bias = self.bias if ids is None else self.bias[ids]
        return torch.cat([self.items(ids), bias[..., None]], dim=-1)


class ItemWords(nn.Module):
    """The loss of predicting a word of an item's text from the item's vector, e · w + b, against random words.

    Args:
        titles: V + 1 item texts.
        counts: (V + 1,) training events; a word is drawn as often as these show it, to the power 3/4.
        words: vectors (W + 1, D), shared with the queries.
    """

    def __init__(self, titles: Sequence[str], counts: np.ndarray, vocabulary: Vocabulary, words: nn.Embedding) -> None:
        super().__init__()
        self.words = words
        self.bias = nn.Parameter(torch.zeros(len(vocabulary) + 1))
        self.register_buffer("numbers", vocabulary.table(titles), persistent=False)
        shown = np.zeros(len(vocabulary) + 1)
        for title, count in zip(titles, counts, strict=True):
            for word in words_of(title):
                shown[vocabulary.number[word]] += count
        self.register_buffer("upto", torch.from_numpy(np.cumsum(shown[1:] ** _DISTORTION)), persistent=False)

    numbers: Tensor  # (V + 1, L) int64: the words of each title
    upto: Tensor  # (W,) float64: cumulative weights of the words

    def forward(self, items: Tensor, vectors: Tensor) -> Tensor:
        """The binary cross-entropies of a word and those it stands against, summed; the mean over items (N,) with
        vectors (N, D), of which those without words count for nothing. 0 where no item counts."""
        if not len(self.upto):
            return 0 * vectors.sum()
        titles = self.numbers[items]  # (N, L)
        lengths = (titles > 0).sum(1)  # (N,)
        written = lengths > 0
        titles, lengths, vectors = titles[written], lengths[written], vectors[written]
        one = (torch.rand(len(titles), device=titles.device) * lengths).long()  # (N,)
        shape = (len(titles), _WORD_NEGATIVES)
        point = torch.rand(shape, device=titles.device, dtype=torch.float64) * self.upto[-1:]
        others = torch.searchsorted(self.upto, point, right=True).clamp(max=len(self.upto) - 1) + 1  # (N, K)
        numbers = torch.cat([titles.gather(1, one[:, None]), others], dim=1)  # (N, 1 + K)
        scores = (self.words(numbers) @ vectors[..., None]).squeeze(-1) + self.bias[numbers]
        return (1 + _WORD_NEGATIVES) * pointwise("bce", scores)


def _deviation(settings: TEMSettings) -> float:
    return 1.0 if settings.faithful else settings.width**-0.5


def _item_table(data: DataView, settings: TEMSettings, model: str) -> ItemTable:
    if settings.inputs != "id":
        return text_items(data, settings.width, settings.inputs, model)
    items = ItemTable(data.n_items, settings.width, "id", None)
    items.id = padded_table(data.n_items, settings.width, _deviation(settings))
    return items
