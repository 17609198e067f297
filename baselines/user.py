"""USER: search and recommendation in one sequence of behaviours, recommendation being a search without a query.

Paper: J. Yao, Z. Dou, R. Xie, Y. Lu, Z. Wang, J.-R. Wen, "USER: A Unified Information Search and Recommendation Model
based on Integrated Behavior Sequence", CIKM 2021. Repository: none is published, so that where the paper is about texts
and leaves sizes open, this is our reading, with the sizes of UniSAR, which was compared with USER:

- Items are vectors of their ids, or of text, in place of an encoder of words; a query is the mean of its words' vectors
  through a linear layer, and one without known words is an empty query.
- A search led to one item here. The co-attention of query and clicked items is then a softmax over one, and both become
  query + item: a search is that one token, and a recommended item its vector alone. Tokens have a type and a position.
- Events less than `session_gap_seconds` apart are of one session. The session encoder reads the request's current
  session, the history encoder what came before it; a request as long after the last event begins a session.
- The intent token of the session encoder is the query, or a trained vector for an empty one; that of the history
  encoder is the session encoder's output. Both encoders read out that token alone.
- The score is the sum of the inner products of the item with session intent, history intent and query, weighted, and of
  an MLP over these four and the elementwise products.
- Both tasks are trained at once, by pairs of a chosen item and others drawn at random. The paper goes on to fine-tune a
  copy of the model for each task; here one model serves both.

Nothing is known of a user but the history, so that strangers and users without one kind of event are no special case;
an empty history leaves the query.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import pointwise
from baselines.asked import Asked, kinds
from baselines.item_inputs import ReadsItemText, text_items
from baselines.joint_layers import padded_table
from baselines.pointwise import Negatives, PointwiseSettings
from baselines.query_words import QueryWords, Vocabulary
from baselines.recbole_settings import Inputs
from baselines.sequences import refuse_unknown, refuse_unreadable
from baselines.user_layers import Comparison, IntentTransformer
from synergen.contract import Batch, DataView, Histories, PairRecommender, Requests, Task
from synergen.model.dropout import Dropout
from synergen.settings import refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted

_HIDDEN = (200, 80)
_INITIAL_STD = 0.02
_RECOMMENDED, _SEARCHED, _INTENT = range(1, 4)
"""Types of tokens."""


@dataclass(frozen=True)
class USERSettings(PointwiseSettings):
    """session_gap_seconds: a day suits Amazon's times, which are days.

    recommend_searched: whether what a search led to is learnt as a recommendation, too.
    layers, heads, ffn_width: of each of the two encoders.
    inputs: what an item vector is made of: a trained id vector, projected text, or their sum.
    """

    loss: str = "pairwise"
    width: int = 64
    layers: int = 1
    heads: int = 2
    ffn_width: int = 64
    dropout: float = 0.1
    max_history: int = 50
    session_gap_seconds: int = 86_400
    recommend_searched: bool = False
    inputs: Inputs = "id"

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "width", "layers", "heads", "ffn_width", "max_history")
        refuse_below(self, 0, "session_gap_seconds")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_share(self, "dropout")
        refuse_unlisted(self, "inputs", get_args(Inputs))


class USER(ReadsItemText, PairRecommender):
    """Requests are read as three vectors: session intent, history intent and query.

    Raises:
        UserError: a setting out of range, a catalogue of one item, or text that the settings need and the data lack.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = own = USERSettings(**settings)
        self.n_items, self.negatives = data.n_items, Negatives(own, data.item_counts)
        self.pair_width = 4 * own.width + sum(_HIDDEN)
        if own.inputs == "id":
            self.items: nn.Module = padded_table(data.n_items, own.width, _INITIAL_STD)
        else:
            self.items = text_items(data, own.width, own.inputs, "USER")
        vocabulary = Vocabulary(data.query_texts)
        self.words = QueryWords(data.query_texts, vocabulary, padded_table(len(vocabulary), own.width, _INITIAL_STD))
        self.from_words = nn.Linear(own.width, own.width, bias=False)
        self.no_query = nn.Parameter(torch.randn(own.width) * _INITIAL_STD)
        self.types = padded_table(_INTENT, own.width, _INITIAL_STD)
        self.positions = nn.Embedding(own.max_history + 1, own.width)
        nn.init.normal_(self.positions.weight, std=_INITIAL_STD)
        self.dropout = Dropout(own.dropout)
        sizes = (own.layers, own.width, own.heads, own.ffn_width, own.dropout)
        self.session, self.history = IntentTransformer(*sizes), IntentTransformer(*sizes)
        self.comparison = Comparison(3, own.width, _HIDDEN, own.dropout)

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return pointwise.trained_against(settings)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The mean over the targets, under the loss's name. All of a sequence's requests are read in one pass.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        own, events = self.settings, batch.events
        refuse_unreadable(batch, own.max_history, self.n_items)
        learnt = batch.targets & events.valid, events.queries > 0, own.requests_per_sequence, own.recommend_searched
        wanted = torch.cat(kinds(*learnt), dim=1)  # (B, 2 T)
        times, visible = events.times.repeat(1, 2), earlier_of(events).repeat(1, 2, 1)
        queries = torch.cat([torch.zeros_like(events.queries), events.queries], dim=1)
        read = self._read(events, times, queries, visible)[wanted]  # (N, 3, D)
        candidates = self.negatives(events.items.repeat(1, 2)[wanted])  # (N, 1 + K)
        scores = self.comparison(read, self.items(candidates))
        return {own.loss: pointwise.pointwise(own.loss, scores)}

    def read(self, requests: Requests) -> Tensor:
        """(B, 3, D): session intent, history intent and query.

        Raises:
            UserError: an item that the model does not know.
        """
        history, asked = requests.history.last(self.settings.max_history), Asked.of(requests)
        refuse_unknown(history.items, self.n_items)
        return self._read(history, asked.times[:, None], asked.queries[:, None], history.valid[:, None])[:, 0]

    def compare(self, read: Tensor, candidates: Tensor) -> Tensor:
        return self.comparison(read, self.items(candidates))

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """Vectors are not read."""
        self.words.hold(texts)

    def _read(self, events: Histories, times: Tensor, queries: Tensor, visible: Tensor) -> Tensor:
        """(B, E, 3, D): session intent, history intent and query of E requests at `times` (B, E) with `queries` (B, E)
        that see the `visible` (B, E, T) of the events."""
        known = (self.words.numbers[queries] > 0).any(-1, keepdim=True)  # (B, E, 1)
        asked = torch.where(known, self._queries(queries), self.no_query)  # (B, E, D)
        intents = self._tokens(asked, torch.full_like(queries, _INTENT), visible.sum(-1))
        steps = torch.arange(events.items.shape[1], device=queries.device).expand_as(events.items)
        kinds = torch.where(events.queries > 0, _SEARCHED, _RECOMMENDED)
        tokens = self._tokens(self.items(events.items) + self._queries(events.queries), kinds, steps)  # (B, T, D)
        current, together = sessions(events.times, times, visible, self.settings.session_gap_seconds)
        earlier = earlier_of(events)
        session = self.session(intents, tokens, visible & current, earlier & together)
        history = self.history(session, tokens, visible & ~current, earlier)
        return torch.stack([session, history, asked], dim=2)

    def _queries(self, queries: Tensor) -> Tensor:
        return self.from_words(self.words(queries))

    def _tokens(self, vectors: Tensor, kinds: Tensor, positions: Tensor) -> Tensor:
        return self.dropout(vectors + self.types(kinds) + self.positions(positions))


def earlier_of(events: Histories) -> Tensor:
    """(B, T, T) bool: the events j of earlier requests than event i."""
    return events.valid[:, None, :] & (events.groups[:, None, :] < events.groups[:, :, None])


def sessions(times: Tensor, asked: Tensor, visible: Tensor, gap: int) -> tuple[Tensor, Tensor]:
    """Which events are of the current session of each of E requests, (B, E, T) bool, and which events i and j of one
    session, (B, T, T) bool.

    Args:
        times: (B, T) of the events, ascending.
        asked: (B, E) when the requests were made.
        visible: (B, E, T) bool: the events before each of them, which come first.
        gap: seconds without an event that end a session.
    """
    number = F.pad((times.diff() >= gap).cumsum(1), (1, 0))  # (B, T)
    last = (visible.sum(-1) - 1).clamp(min=0)  # (B, E): the event before the request
    current = number.gather(1, last).masked_fill(asked - times.gather(1, last) >= gap, -1)  # (B, E)
    return current[:, :, None] == number[:, None, :], number[:, :, None] == number[:, None, :]
