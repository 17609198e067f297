"""UnifiedSSR: one encoder reads the history of products, beside itself to recommend and beside that of queries to
search.

Paper: J. Xie et al., "UnifiedSSR: A Unified Framework of Sequential Search and Recommendation", WWW 2024. Repository:
https://github.com/JennyXieJiayi/UnifiedSSR.

Sizes, initialisation and the terms of the loss are the repository's. The state that answers a request has read the
products of earlier requests and, in search, the queries up to its own. Deviations:

- Attention is causal. The repository masks padding alone, so that in training each state has read the product that it
  is to predict; and each of its layers reads the input of the first, so that only the last one has effect.
  `faithful` reproduces both.
- An event that no query led to has the user's vector alone in the place of its query, and one that was searched for is
  to be recommended, too (our reading: the repository has no histories of both kinds). The events of one request are all
  asked for at the place of the first.
- A search without history is trained on, too, and what stands before the first product is a trained vector that all
  may read; in the repository, the vector of padding, which the stream of products may not read. A recommendation
  without history scores every item 0.
- The authors train for both tasks and then for each alone; here both are trained once, together, at the learning rates
  of this benchmark in place of Noam's.
- The repository's loss, -ln σ(s⁺) - Σ ln(1 - σ(s⁻)), is divided by 1 + K, and so is its weight of the sessions; its
  logits are raised by a constant, see `objectives`.
- Normalisation divides by the biased deviation, for which its gain makes up.
- Strangers have the zero vector, and so have words that are padding.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import objectives
from baselines.asked import known_users
from baselines.item_inputs import ReadsItemText, text_items
from baselines.joint_layers import UserTable, sinusoids
from baselines.objectives import ObjectiveSettings, compared, objective
from baselines.query_words import QueryWords, Vocabulary
from baselines.recbole_settings import Inputs
from baselines.sequences import refuse_unknown, refuse_unreadable
from baselines.unified_ssr_layers import SESSIONS, Encoder, Sessions
from synergen.contract import Batch, DataView, DotProductRecommender, Requests, Task
from synergen.model.dropout import Dropout
from synergen.model.fusion import ItemTable
from synergen.settings import LATER, refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted

_LEAST_SHARE = 0.1
"""Of the score of a search that comes from either stream."""


@dataclass(frozen=True)
class UnifiedSSRSettings(ObjectiveSettings):
    """Defaults: the repository's, but for max_history, and for sessions that can be learnt.

    sessions: what parts of a sequence are told apart in training: none; faithful: fixed windows, the states inside
        them doubled, as in the repository; or soft: windows with soft edges.
    session_weight: of the correlations of these parts beside the loss.
    inputs: what an item vector is made of: id, text or both.
    user_vectors: whether each event has the vector of whose it is added, as in the repository.
    position_scale: what positions are multiplied by; 1 in the repository, where they are longer than untrained vectors
        by far.
    faithful: attention that is not causal, and layers of which only the last has effect, as in the repository.
    """

    loss: str = "gbce"
    negatives: int = 4
    calibration: float = 0.0
    width: int = 32
    layers: int = 2
    heads: int = 4
    ffn_width: int = 64
    dropout: float = 0.5
    max_history: int = 50
    sessions: str = "soft"
    session_weight: float = 0.02
    inputs: Inputs = "id"
    user_vectors: bool = field(default=True, metadata=LATER)
    position_scale: float = field(default=1.0, metadata=LATER)
    faithful: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "width", "layers", "heads", "ffn_width", "max_history")
        refuse_below(self, 0, "session_weight", "position_scale")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_share(self, "dropout")
        refuse_unlisted(self, "sessions", SESSIONS)
        refuse_unlisted(self, "inputs", get_args(Inputs))


class UnifiedSSR(ReadsItemText, DotProductRecommender):
    """Streams of B users have a slot for each event and one for the request: slot t is what came before event t.

    An empty query, or one of unknown words, is that of an event which no query led to.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset(Task)

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = made = UnifiedSSRSettings(**settings)
        self.n_items, width = data.n_items, made.width
        self.items = ItemTable(data.n_items, width, "id", None)
        self.users = UserTable(data.n_users, width, made.user_vectors)
        vocabulary = Vocabulary(data.query_texts)
        words = nn.Embedding(len(vocabulary) + 1, width, padding_idx=0)
        self.queries = QueryWords(data.query_texts, vocabulary, words)
        self.start = nn.Parameter(torch.zeros(width))  # stands before the first product
        self.register_buffer("positions", sinusoids(made.max_history + 1, width), persistent=False)
        self.dropout = Dropout(made.dropout)
        self.encoder = Encoder(width, made.heads, made.ffn_width, made.layers, made.dropout, made.faithful)
        self.sessions = Sessions(width, made.sessions) if made.sessions != "none" else None
        self.product_share = nn.Parameter(torch.tensor(0.5))
        self._initialise()
        if made.inputs != "id":
            self.items = text_items(data, width, made.inputs, "UnifiedSSR")

    positions: Tensor  # (max_history + 1, D)

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return objectives.trained_against(settings)

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        self.queries.hold(texts)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of either task, over the targets of both, and that of the sessions where there are any.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        with torch.no_grad():
            self.product_share.clamp_(_LEAST_SHARE, 1 - _LEAST_SHARE)
        events, users = batch.events, known_users(batch.users, batch.events.lengths)
        slots = _first_of_request(events.groups)  # (B, T)
        wanted = batch.targets & events.valid
        searched = wanted & (events.queries > 0)
        # What was searched for is recommended, too, but not by a run of searches alone.
        recommended = wanted & (slots > 0) & (wanted & ~searched).any()
        count = wanted.sum().clamp(min=1)
        nothing = 0 * self.product_share
        terms, sessions = {str(task): nothing for task in Task}, nothing
        for task, mine in ((Task.RECOMMENDATION, recommended), (Task.SEARCH, searched)):
            if not mine.any():
                continue
            streams = self._streams(task, events.items, events.queries, users, events.lengths)
            streams = [_at(stream, slots) for stream in streams]
            share = mine.sum() / count
            if self.sessions is not None:
                streams, correlation = self.sessions(streams, mine)
                sessions = sessions + share * correlation
            losses = [self._objective(stream[mine], events.items[mine]) for stream in streams]
            terms[str(task)] = share * self._mixed(losses)
        return terms | {"sessions": self.settings.session_weight * sessions}

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): in search, the mean of both streams by what each is trusted.

        Raises:
            UserError: an item that the model does not know.
        """
        history = requests.history.last(self.settings.max_history)
        refuse_unknown(history.items, self.n_items)
        here = history.lengths[:, None]  # (B, 1): the slot of the request
        queries = F.pad(history.queries, (0, 1)).scatter(1, here, requests.queries[:, None])  # (B, T + 1)
        users = known_users(requests.users, history.lengths)
        streams = self._streams(requests.task, F.pad(history.items, (0, 1)), queries, users, history.lengths + 1)
        return self._mixed([compared(self.settings, _at(stream, here)[:, 0]) for stream in streams])

    def item_vectors(self) -> Tensor:
        """(V + 1, D): of length 1 under the cosine."""
        return compared(self.settings, self._item(None))

    def _streams(self, task: Task, items: Tensor, queries: Tensor, users: Tensor, lengths: Tensor) -> list[Tensor]:
        """The states (B, T, D) of products alone or, in search, of products and of queries.

        Args:
            items, queries: (B, T) of the events, of which the last of a row's `lengths` (B,) is asked for.
        """
        user = self._scaled(self.users(users))[:, None]  # (B, 1, D)
        slots = torch.arange(items.shape[1], device=items.device)
        valid = slots < lengths[:, None]  # (B, T)
        if task is Task.RECOMMENDATION:
            products = self._placed(self._item(items) + user)
            states = self.encoder(products, products, slots < lengths[:, None] - 1)
            return [F.pad(states, (0, 0, 1, -1))]  # the next slot's; without history nothing is known
        products = torch.cat([self.start.expand(len(items), 1, -1), self._item(items[:, :-1])], dim=1)
        products, asked = self._placed(products + user), self._placed(self._scaled(self.queries(queries)) + user)
        both = torch.cat([products, asked])  # (2B, T, D): the encoder is the same for either
        keys = torch.cat([valid & (slots > 0), valid])
        return list(self.encoder(both, torch.cat([asked, products]), keys).chunk(2))

    def _scaled(self, vectors: Tensor) -> Tensor:
        return math.sqrt(self.settings.width) * vectors

    def _item(self, items: Tensor | None) -> Tensor:
        return self._scaled(self.items(items))

    def _placed(self, x: Tensor) -> Tensor:
        return self.dropout(x + self.settings.position_scale * self.positions[: x.shape[1]])

    def _objective(self, states: Tensor, targets: Tensor) -> Tensor:
        return objective(self.settings, states, targets, self._item, self.n_items)

    def _mixed(self, streams: list[Tensor]) -> Tensor:
        """What one stream says, or two by the share of the products."""
        if len(streams) == 1:
            return streams[0]
        products, queries = streams
        return self.product_share * products + (1 - self.product_share) * queries

    def _initialise(self) -> None:
        for weight in self.parameters():
            if weight.dim() > 1:
                nn.init.xavier_uniform_(weight)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.zeros_(module.weight[0])
        if self.sessions is not None:
            nn.init.zeros_(self.sessions.offsets.weight)


def _first_of_request(groups: Tensor) -> Tensor:
    """(B, T): of each event the place of the first one of its request."""
    steps = torch.arange(groups.shape[1], device=groups.device)
    begins = F.pad(groups[:, 1:] != groups[:, :-1], (1, 0), value=True)
    return (steps * begins).cummax(1).values


def _at(states: Tensor, slots: Tensor) -> Tensor:
    """(B, N, D): of states (B, T, D) those at slots (B, N)."""
    return states.gather(1, slots[..., None].expand(-1, -1, states.shape[-1]))
