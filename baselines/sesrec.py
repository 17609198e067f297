"""SESRec: recommendation from what a user was shown and from what the user searched for, each told apart by whether the
other agrees.

Paper: Z. Si et al., "When Search Meets Recommendation: Learning Disentangled Search Representation for
Recommendation", SIGIR 2023. Repository: https://github.com/Ethan00Si/SESREC-SIGIR-2023 (models/SESRec.py).

Layers, losses and sizes are the repository's for Amazon. What a user was shown are the events without a query, what the
user searched for are those with one. Deviations:

- The padding of one history does not count in what the other agrees with; `faithful` has it count, as the repository
  does, where all histories are padded to the same width.
- A history without an event is the zero vector and has no part in the contrast. The repository's code gives NaN.
- The alignment is over the searches that some target of a batch has in its history, each once. Both directions use
  q W i; the repository's second one uses i W q. The learnt temperature stays above 0.
- Negatives are drawn uniformly, as the candidates of this benchmark are. The repository draws both by popularity, which
  `sampling: popular` does for the negatives.
- Trained by the loop of this benchmark: no schedule of the rate and no weight decay (the repository: 1e-5).
- Projections of attention begin as Xavier's normal numbers of each matrix, like all other layers.
- Places are counted from the newest event where `places` says so: the end of a history then has the same vectors
  whatever its length.
- The vectors of strangers, and of queries and words that are padding, are zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn

from baselines import pointwise
from baselines.asked import Asked, cut
from baselines.item_inputs import ReadsItemText, text_items
from baselines.joint_layers import QueryItemAlignment, TargetAttention, UserTable, perceptron
from baselines.pointwise import Negatives, PointwiseSettings
from baselines.query_words import QueryWords, Vocabulary
from baselines.recbole_settings import Inputs
from baselines.sequences import refuse_unknown
from baselines.sesrec_layers import CoAttention, Encoder, Side, widened
from baselines.unisar_layers import PLACES, by_kind, initialise
from synergen.contract import Batch, DataView, PairRecommender, Requests, Task
from synergen.errors import UserError
from synergen.settings import LATER, refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted

_HIDDEN = (200, 80)
"""Widths of the network on top."""


@dataclass(frozen=True)
class SESRecSettings(PointwiseSettings):
    """Defaults: the repository's configuration for Amazon.

    max_history, max_of_kind: the last events that are read, of both kinds together and of each.
    query_width: of the vector of a query's id, and of a word's.
    margin: of the contrast between the events that the other history agrees with and the rest.
    temperature: of the alignment, where it begins.
    alignment_negatives: random items and queries that a search stands against.
    alignment_weight, contrast_weight: of these terms beside the loss of the scores.
    inputs: what an item vector is made of: id, text or both.
    places: whether an event's place is counted from the oldest event of its kind that is read, as in the repository, or
        the newest.
    user_vectors: whether each user has a vector, as in the repository.
    faithful: padding takes part in the co-attention, as in the repository.
    """

    width: int = 32
    query_width: int = 16
    layers: int = 1
    heads: int = 4
    dropout: float = 0.1
    max_history: int = 50
    max_of_kind: int = 15
    margin: float = 0.1
    temperature: float = 0.1
    alignment_negatives: int = 1024
    alignment_weight: float = 0.1
    contrast_weight: float = 0.001
    inputs: Inputs = "id"
    places: str = field(default="oldest", metadata=LATER)
    user_vectors: bool = field(default=True, metadata=LATER)
    faithful: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "width", "query_width", "layers", "heads", "alignment_negatives")
        refuse_below(self, 1, "max_history", "max_of_kind")
        refuse_below(self, 0, "margin", "alignment_weight", "contrast_weight")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_share(self, "dropout")
        refuse_unlisted(self, "inputs", get_args(Inputs))
        refuse_unlisted(self, "places", PLACES)
        if self.faithful and self.places != "oldest":
            raise UserError("SESRec: faithful counts places from the oldest event; leave places as it is")


@dataclass(frozen=True)
class Read:
    """B requests before any candidate is seen."""

    shown: Side
    searched: Side
    users: Tensor  # (B, D)


class SESRec(ReadsItemText, PairRecommender):
    """Two histories, each pooled for a candidate as a whole, where the other agrees and where it does not."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = made = SESRecSettings(**settings)
        self.n_items, self.n_queries, width = data.n_items, data.n_queries, made.width
        self.pair_width = 2 * (8 * width + sum(_HIDDEN)) + made.max_of_kind
        self.negatives = Negatives(made, data.item_counts)
        self.items: nn.Module = nn.Embedding(data.n_items + 1, width, padding_idx=0)
        self.users = UserTable(data.n_users, width, made.user_vectors)
        self.queries = nn.Embedding(data.n_queries + 1, made.query_width, padding_idx=0)
        vocabulary = Vocabulary(data.query_texts)
        table = nn.Embedding(len(vocabulary) + 1, made.query_width, padding_idx=0)
        self.words = QueryWords(data.query_texts, vocabulary, table)
        self.map_item, self.map_query = nn.Linear(width, width), nn.Linear(2 * made.query_width, width)
        self.search_bias = nn.Parameter(torch.empty(1, width))  # the repository's kinds of search: on Amazon, one
        self.shown_positions = nn.Parameter(torch.empty(made.max_of_kind, width))
        self.searched_positions = nn.Parameter(torch.empty(made.max_of_kind, width))
        self.encode_shown, self.encode_searched = (
            Encoder(width, made.heads, made.layers, made.dropout) for _ in range(2)
        )
        self.co_attention = CoAttention(width)
        self.pool_shown, self.pool_searched = TargetAttention(width, width), TargetAttention(width, width)
        self.alignment = QueryItemAlignment(width, width, made.temperature)
        self.predict = perceptron([8 * width, *_HIDDEN, 1], made.dropout, last_activation=False)
        self._initialise()
        if made.inputs != "id":
            self.items = text_items(data, width, made.inputs, "SESRec")

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return pointwise.trained_against(settings)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the scores under its name, `alignment` and `contrast`, weighted.

        Raises:
            UserError: an item that the model does not know.
        """
        refuse_unknown(batch.events.items, self.n_items)
        asked, chosen = cut(batch, self.settings.requests_per_sequence)
        read = self._read(asked)
        scores = self.compare(read, self.negatives(chosen))
        return {
            self.settings.loss: pointwise.pointwise(self.settings.loss, scores),
            "alignment": self.settings.alignment_weight * self._aligned(*_searches(batch)),
            "contrast": self.settings.contrast_weight * self._contrast(read),
        }

    def read(self, requests: Requests) -> Read:
        """The encoded histories.

        Raises:
            UserError: an item that the model does not know.
        """
        refuse_unknown(requests.history.items, self.n_items)
        return self._read(Asked.of(requests))

    def compare(self, read: Read, candidates: Tensor) -> Tensor:
        """(B, C) logits, of which the repository takes the sigmoid."""
        items = self._item(candidates)  # (C, D) or (B, C, D)
        parts = [
            pool(side.states, mask, items)
            for pool, side in ((self.pool_shown, read.shown), (self.pool_searched, read.searched))
            for mask in (side.valid, side.alike, side.unlike)
        ]
        parts += [read.users[:, None].expand_as(parts[0]), items.expand_as(parts[0])]  # (B, C, D) each
        return self.predict(torch.cat(parts, dim=-1)).squeeze(-1)

    def _initialise(self) -> None:
        self.apply(initialise)
        for table in self.modules():
            if isinstance(table, nn.Embedding):
                nn.init.xavier_normal_(table.weight)
                nn.init.zeros_(table.weight[0])
        for rows in (self.search_bias, self.shown_positions, self.searched_positions):
            nn.init.xavier_normal_(rows)

    def _item(self, items: Tensor) -> Tensor:
        return self.map_item(self.items(items))

    def _query(self, queries: Tensor) -> Tensor:
        return self.map_query(torch.cat([self.queries(queries), self.words(queries)], dim=-1))

    def _read(self, asked: Asked) -> Read:
        most, faithful = self.settings.max_of_kind, self.settings.faithful
        newest = self.settings.places == "newest"
        kinds = by_kind(asked.history.last(self.settings.max_history), most, newest)
        shown, searched = (widened(kind, most) for kind in kinds) if faithful else kinds
        places = [side.places if newest else slice(side.items.shape[1]) for side in (shown, searched)]
        items = self._item(shown.items) + self.shown_positions[places[0]]
        queries = self._query(searched.queries) + self.search_bias + self.searched_positions[places[1]]
        clicks = self._item(searched.items) * searched.valid[..., None]
        states = self.encode_shown(items, shown.valid), self.encode_searched(queries + clicks, searched.valid)
        valid = shown.valid, searched.valid
        weights = self.co_attention(*states, *valid, padding=faithful)
        first, second = (Side.of(*side) for side in zip(states, valid, weights, strict=True))
        return Read(first, second, self.users(asked.users))

    def _contrast(self, read: Read) -> Tensor:
        """The mean over the requests that have both histories."""
        both = read.shown.valid.any(1) & read.searched.valid.any(1)  # (B,)
        of_each = read.shown.contrast(self.settings.margin) + read.searched.contrast(self.settings.margin)  # (B,)
        return of_each[both].sum() / both.sum().clamp(min=1)

    def _aligned(self, queries: Tensor, items: Tensor) -> Tensor:
        """The alignment of M searches; 0 without any."""
        if not len(queries):
            return self.search_bias.new_zeros(())
        count, device = (self.settings.alignment_negatives,), queries.device
        others = torch.randint(1, self.n_items + 1, count, device=device)
        other_queries = torch.randint(1, self.n_queries + 1, count, device=device)
        return self.alignment(self._query(queries), self._item(items), self._item(others), self._query(other_queries))


def _searches(batch: Batch) -> tuple[Tensor, Tensor]:
    """Queries (M,) of the searches that some target of their sequence comes after, and the items (M,) they led to."""
    events = batch.events
    latest = (events.groups * (batch.targets & events.valid)).amax(1, keepdim=True)  # (B, 1)
    known = events.valid & (events.queries > 0) & (events.groups < latest)
    return events.queries[known], events.items[known]
