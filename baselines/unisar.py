"""UniSAR: transitions between a user's searches and recommendations, read for both.

Paper: T. Shi et al., "UniSAR: Modeling User Transition Behaviors between Search and Recommendation", SIGIR 2024.
Repository: https://github.com/TengShi-RUC/UniSAR.

Encoders, decoders, pooling for each candidate, prediction and losses are the repository's. Deviations:

- A history that lacks one kind of event has nothing to attend to there: attention finds zero, and so does pooling. It
  has no part in the contrast. The repository's code gives NaN.
- One batch holds requests of both tasks, so the alignment and the contrast of the two losses are one, with the sum of
  their weights, over the histories of both. A (query, item) pair of the batch is aligned once, however many of its
  histories have it. Histories of one user are not contrasted with one another; in the repository's batches of single
  requests they hardly meet.
- Both directions of the alignment use q W i; the repository's second one uses i W q. Learnt temperatures stay above 0.
- Places are counted from the newest event where `places` says so: the end of a history then has the same vectors
  whatever its length.
- Negatives are drawn anew in each epoch; the repository's four are stored with the data. AdamW without a plateau
  schedule or weight decay, as all models here; the repository: Adam, L2 1e-5.
- Projections of attention begin as Xavier's normal numbers of each matrix, like all other layers.
- The id vector of a stranger is zero. A search without a query is answered as a recommendation, and a query without
  known words by the bias of its layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from baselines import pointwise
from baselines.asked import Asked, cut
from baselines.item_inputs import ReadsItemText, text_items
from baselines.joint_layers import QueryItemAlignment, UserTable
from baselines.pointwise import Negatives, PointwiseSettings
from baselines.query_words import QueryWords, Vocabulary
from baselines.recbole_settings import Inputs
from baselines.sequences import refuse_unknown
from baselines.unisar_layers import PLACES, Block, Extraction, Kind, Side, by_kind, initialise
from synergen.contract import Batch, DataView, Histories, PairRecommender, Requests, Task
from synergen.model.fusion import ItemTable
from synergen.settings import LATER, refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted


@dataclass(frozen=True)
class UniSARSettings(PointwiseSettings):
    """Defaults: the repository's configuration for Amazon.

    max_history, max_of_kind: the last events that are read, of both kinds together and of each.
    width: of everything between the tables and the scores; id_width: of item, user and word vectors in their tables.
    places: whether an event's place is counted from the oldest event that is read, as in the repository, or the newest.
    inputs: what an item's table is made of: id vectors, projected text vectors, or their sum.
    experts: of each task, and as many that both share.
    recommend_searched: whether what a search led to is learnt as a recommendation, too. In the repository's logs the
        two do not overlap.
    search_weight: of the search requests' loss beside that of the recommendations.
    alignment_*: weight, first temperature and random negatives of the contrast of queries with items.
    contrast_*: weight and first temperature of the contrast of histories.
    user_vectors: whether each user has a vector, as in the repository.
    """

    max_history: int = 50
    max_of_kind: int = 30
    places: str = "oldest"
    inputs: Inputs = "id"
    id_width: int = 32
    width: int = 64
    heads: int = 2
    experts: int = 4
    dropout: float = 0.1
    recommend_searched: bool = False
    search_weight: float = 0.01
    alignment_weight: float = 0.1
    alignment_temperature: float = 0.1
    alignment_negatives: int = 1024
    contrast_weight: float = 0.01
    contrast_temperature: float = 0.1
    user_vectors: bool = field(default=True, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unlisted(self, "inputs", get_args(Inputs))
        refuse_unlisted(self, "places", PLACES)
        sizes = ("max_history", "max_of_kind", "id_width", "width", "heads", "experts", "alignment_negatives")
        refuse_below(self, 1, *sizes)
        refuse_below(self, 0, "search_weight", "alignment_weight", "contrast_weight")
        refuse_below(self, 0.01, "alignment_temperature", "contrast_temperature")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_share(self, "dropout")


@dataclass(frozen=True)
class Encoded:
    """The events of one kind of B histories."""

    kind: Kind
    across: Tensor  # (B, T, D): after reading those of the other kind
    alone: Tensor  # (B, T, D): after reading those of the same kind
    fused: Tensor  # (B, T, D): after reading both


@dataclass(frozen=True)
class Reading:
    """What is known of N requests of one task, whatever the candidates."""

    task: int  # 0 recommendation, 1 search
    rows: Tensor  # (N,) int64: the place of each among all that were read
    recommended: Tensor  # (N, T, D)
    recommended_valid: Tensor  # (N, T) bool
    searched: Tensor  # (N, T', D)
    searched_valid: Tensor  # (N, T') bool
    mapped: Tensor  # (N, T + T' + 1, F): see Extraction


class UniSAR(ReadsItemText, PairRecommender):
    """See the module."""

    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = s = UniSARSettings(**settings)
        self.n_items, self.n_queries = data.n_items, data.n_queries
        self.negatives = Negatives(s, data.item_counts)
        self.pair_width = 4 * s.experts * s.width  # what the experts find, before and after their ReLU

        self.items: nn.Embedding | ItemTable = nn.Embedding(data.n_items + 1, s.id_width, padding_idx=0)
        self.users = UserTable(data.n_users, s.id_width, s.user_vectors)
        vocabulary = Vocabulary(data.query_texts)
        words = nn.Embedding(len(vocabulary) + 1, s.id_width, padding_idx=0)
        for table in (self.items, self.users, words):
            nn.init.xavier_normal_(table.weight)
            nn.init.zeros_(table.weight[0])
        self.queries = QueryWords(data.query_texts, vocabulary, words)
        self.from_item, self.from_user, self.from_query = (nn.Linear(s.id_width, s.width) for _ in range(3))
        self.places, self.no_query = (nn.Parameter(torch.empty(n, s.width)) for n in (2 * s.max_of_kind, 1))
        nn.init.xavier_normal_(self.places)
        nn.init.xavier_normal_(self.no_query)
        self.between = Block(s.width, s.heads, s.dropout)
        self.recommended, self.searched = (
            Side(s.width, s.heads, s.dropout, s.max_of_kind, s.contrast_temperature) for _ in range(2)
        )
        self.extraction = Extraction(s.width, s.experts, s.dropout)
        self.alignment = QueryItemAlignment(s.width, s.width, s.alignment_temperature)
        self.apply(initialise)
        if s.inputs != "id":
            self.items = text_items(data, s.id_width, s.inputs, "UniSAR")

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return pointwise.trained_against(settings)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the recommendations and, weighted, that of the searches (each a mean over its own targets), the
        alignment of queries and items, and the contrast of histories.

        Raises:
            UserError: an item that the model does not know.
        """
        refuse_unknown(batch.events.items, self.n_items)
        s = self.settings
        asked, chosen = cut(batch, s.requests_per_sequence, s.recommend_searched)
        recommended, searched = self._encoded(asked.history)
        scores = self.compare(self._read(asked, recommended, searched), self.negatives(chosen))  # (N, 1 + K)
        both = 1 + s.search_weight
        return {
            "recommendation": pointwise.pointwise(s.loss, scores[~asked.searches]),
            "search": s.search_weight * pointwise.pointwise(s.loss, scores[asked.searches]),
            "alignment": both * s.alignment_weight * self._alignment(searched.kind),
            "contrast": both * s.contrast_weight * self._contrast(asked.users, recommended, searched),
        }

    def read(self, requests: Requests) -> list[Reading]:
        """The requests of each task that there is.

        Raises:
            UserError: an item that the model does not know.
        """
        refuse_unknown(requests.history.items, self.n_items)
        asked = Asked.of(requests)
        return self._read(asked, *self._encoded(asked.history))

    def compare(self, read: list[Reading], candidates: Tensor) -> Tensor:
        items = self._item_vectors(candidates)  # (C, D) or (B, C, D)
        scores = items.new_zeros(sum(len(part.rows) for part in read), candidates.shape[-1], dtype=torch.float32)
        for part in read:
            compared = items if items.dim() == 2 else items[part.rows]
            weights = [
                self.recommended.pooling.weights(part.recommended, part.recommended_valid, compared),
                self.searched.pooling.weights(part.searched, part.searched_valid, compared),
            ]  # (N, C, T) and (N, C, T')
            weights.append(torch.ones_like(weights[0][..., :1]))
            scores[part.rows] = self.extraction(part.task, part.mapped, torch.cat(weights, dim=-1), compared).float()
        return scores

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        self.queries.hold(texts)

    def _encoded(self, history: Histories) -> tuple[Encoded, Encoded]:
        s = self.settings
        kinds = by_kind(history.last(s.max_history), s.max_of_kind, s.places == "newest")
        vectors = [self._item_vectors(kind.items) for kind in kinds]
        vectors[1] = vectors[1] + self._query_vectors(kinds[1].queries)
        placed = [x + self.places[kind.places_in_all] for x, kind in zip(vectors, kinds, strict=True)]
        encoded = []
        for this, other, side in ((0, 1, self.recommended), (1, 0, self.searched)):
            across = self.between(placed[this], (placed[other], kinds[other].valid))
            encoded.append(Encoded(kinds[this], across, *side(vectors[this], across, kinds[this])))
        return encoded[0], encoded[1]

    def _read(self, asked: Asked, recommended: Encoded, searched: Encoded) -> list[Reading]:
        queries = torch.where(asked.searches[:, None], self._query_vectors(asked.queries), self.no_query)  # (B, D)
        request = torch.cat([self.from_user(self.users(asked.users)).tanh(), queries], dim=-1)  # (B, 2 D)
        parts = []
        for task, rows in enumerate(((~asked.searches).nonzero()[:, 0], asked.searches.nonzero()[:, 0])):
            if len(rows):
                events = recommended.fused[rows], searched.fused[rows]
                valid = recommended.kind.valid[rows], searched.kind.valid[rows]
                mapped = self.extraction.mapped(task, *events, request[rows])
                parts.append(Reading(task, rows, events[0], valid[0], events[1], valid[1], mapped))
        return parts

    def _alignment(self, searched: Kind) -> Tensor:
        """Over the different pairs of a query and the item that it led to."""
        pairs = (searched.queries * (self.n_items + 1) + searched.items)[searched.valid].unique()  # (M,)
        queries, items = pairs // (self.n_items + 1), pairs % (self.n_items + 1)
        count, device = (self.settings.alignment_negatives,), pairs.device
        other_items = torch.randint(1, self.n_items + 1, count, device=device)
        other_queries = torch.randint(min(1, self.n_queries), self.n_queries + 1, count, device=device)
        vectors = self._query_vectors(queries), self._item_vectors(items)
        return self.alignment(*vectors, self._item_vectors(other_items), self._query_vectors(other_queries))

    def _contrast(self, users: Tensor, recommended: Encoded, searched: Encoded) -> Tensor:
        """Over the histories with events of both kinds."""
        mixed = recommended.kind.valid.any(1) & searched.kind.valid.any(1)  # (N,)
        total = users.new_zeros((), dtype=torch.float32)
        for encoded, side in ((recommended, self.recommended), (searched, self.searched)):
            valid = encoded.kind.valid[mixed][..., None]
            across, alone = ((x[mixed] * valid).sum(1) / valid.sum(1) for x in (encoded.across, encoded.alone))
            total = total + side.contrast(across, alone, users[mixed])
        return total

    def _item_vectors(self, items: Tensor) -> Tensor:
        return self.from_item(self.items(items)).tanh()

    def _query_vectors(self, queries: Tensor) -> Tensor:
        return self.from_query(self.queries(queries)).tanh()
