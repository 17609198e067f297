"""What every model of the benchmark is given, and what it must answer.

Notation, here and everywhere: B batch, T events of a history, R task tokens of one event, H heads, D model width,
C candidates, K negatives, V items, E requests of a sequence, S items of a slate. Item ids are 1..V, query ids 1..Q and
user ids 1..U; 0 is padding or none.
Times are int64 Unix seconds.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn


class Task(StrEnum):
    """What a user asks for: items without a query, or with one."""

    RECOMMENDATION = "recommendation"
    SEARCH = "search"


class _OnDevice:
    def to(self, device: torch.device | str) -> Self:
        """The same values with every tensor on `device`."""
        moved = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        return type(self)(**{k: v.to(device) if hasattr(v, "to") else v for k, v in moved.items()})


@dataclass(frozen=True)
class Histories(_OnDevice):
    """Events of B users, oldest first, padded on the right with zeros to T events."""

    items: Tensor  # (B, T) int64
    actions: Tensor  # (B, T) int64, 1..number of actions
    times: Tensor  # (B, T) int64
    queries: Tensor  # (B, T) int64: the query that led to the event, 0 where there was none
    groups: Tensor  # (B, T) int64: ordinal of the request that the event belongs to
    lengths: Tensor  # (B,) int64

    @property
    def valid(self) -> Tensor:
        """(B, T) bool: false on padding."""
        steps = torch.arange(self.items.shape[1], device=self.items.device)
        return steps < self.lengths[:, None]

    def last(self, n: int) -> "Histories":
        """The most recent n events of each history: (B, min(T, n)), at least one column wide."""
        lengths = self.lengths.clamp(max=n)
        width = max(1, min(self.items.shape[1], n))
        steps = torch.arange(width, device=lengths.device)
        place = (self.lengths - lengths)[:, None] + steps  # (B, width)
        kept = steps < lengths[:, None]

        def cut(column: Tensor) -> Tensor:
            padded = torch.nn.functional.pad(column, (0, 1))  # a history may have no column at all
            return padded.gather(1, place.clamp(max=column.shape[1])) * kept

        columns = {f.name: cut(getattr(self, f.name)) for f in fields(self) if f.name != "lengths"}
        return Histories(**columns, lengths=lengths)


@dataclass(frozen=True)
class Requests(_OnDevice):
    """B requests of one task: all that a model sees at test time."""

    task: Task
    history: Histories
    times: Tensor  # (B,) int64: when the user asks
    queries: Tensor  # (B,) int64: 0 in recommendation
    actions: Tensor  # (B,) int64: the action wanted, 0 where it would tell the answer
    users: Tensor | None = None  # (B,) int64: who asks, 1..U; 0, or none at all: strangers


@dataclass(frozen=True)
class Slates(_OnDevice):
    """What E requests of each of B sequences showed, padded with zeros; a request that is padding shows nothing."""

    times: Tensor  # (B, E) int64: when the user asked
    queries: Tensor  # (B, E) int64: 0 where the user typed nothing
    groups: Tensor  # (B, E) int64: ordinal of the request; it sees the events of smaller groups
    wanted: Tensor  # (B, E) int64: the action that the request is taken to ask for
    items: Tensor  # (B, E, S) int64: in the order shown
    outcomes: Tensor  # (B, E, S) int64: the strongest action that each item got, 0 for none

    @property
    def shown(self) -> Tensor:
        """(B, E, S) bool: false on padding."""
        return self.items > 0

    @property
    def chosen(self) -> Tensor:
        """(B, E, S) bool: the item got the action wanted, or a stronger one (actions are numbered by strength)."""
        return (self.outcomes >= self.wanted[..., None]) & self.shown


@dataclass(frozen=True)
class Batch(_OnDevice):
    """Training sequences. Each event is context for later ones and, where `targets` is true, something to predict
    from the events of earlier requests. Over an epoch every training event is a target once."""

    events: Histories
    targets: Tensor  # (B, T) bool
    wanted: Tensor  # (B, T) int64: the action that the request of this event asks for
    windows: Tensor  # (B,) int64: number of each sequence among the training windows of its data set
    slates: Slates | None = None  # the requests of these sequences, where the log says what each showed
    users: Tensor | None = None  # (B,) int64: whose sequence each is, as in Requests


@dataclass(frozen=True)
class DataView:
    """What a model may know of a data set before training: the catalogue, and counts over training events only."""

    n_items: int
    n_queries: int
    n_actions: int
    item_texts: list[str]  # V + 1, "" for padding and for items without text
    query_texts: list[str]  # Q + 1
    item_counts: np.ndarray  # (V + 1,) int64, training events
    item_vectors: np.ndarray | None = None  # (V + 1, text width) float16, frozen text encoder
    query_vectors: np.ndarray | None = None  # (Q + 1, text width) float16
    n_users: int = 0  # U


class Recommender(nn.Module):
    """A model of the benchmark.

    Subclasses are built as `Model(data: DataView, **settings)`, name the tasks they serve, and implement `loss`
    (unless `learns` is false) and `score`.
    """

    tasks: ClassVar[frozenset[Task]]
    learns: ClassVar[bool] = True

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        """Whether a model of these settings needs `DataView.item_vectors` and `query_vectors` for these tasks."""
        return False

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        """In words, the items that a positive stands against in training; "" where nothing is trained.

        Args:
            settings: as a record keeps them, without those that came later than the run.
        """
        return ""

    def observe(self, sequences: Iterable[Batch]) -> None:
        """Called once in place of training where `learns` is false: the training sequences of all users, whole."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar terms, each a mean over the targets of the batch; the Trainer adds them up."""
        raise TypeError(f"{type(self).__name__} has nothing to learn")

    def begin_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch (1, 2, …), after its random seed is set."""

    @property
    def begins_epochs(self) -> bool:
        """Whether `begin_epoch` does anything, so that going on within an epoch needs the weights it began with."""
        return type(self).begin_epoch is not Recommender.begin_epoch

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """Scores (B, C), higher is better, of candidates (C,) shared by all requests or (B, C)."""
        raise TypeError(f"{type(self).__name__} does not score")

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """Read other queries from now on: query ids name the rows of `texts` (Q' + 1) and `vectors` (Q' + 1, text
        width), which are of the encoder that the model was built with; row 0 is no query. The queries that the
        histories of later requests name must be among them."""
        if Task.SEARCH in self.tasks:
            raise TypeError(f"{type(self).__name__} cannot change its queries")

    def gather(self) -> None:
        """Bring what is spread over processes that train together to the first one, so that it can write the model."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by learning rate: `dense`, and `sparse` for embedding tables (paper section 4.3)."""
        tables = {id(m.weight) for m in self.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
        groups: dict[str, list[nn.Parameter]] = {"dense": [], "sparse": []}
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups["sparse" if id(parameter) in tables else "dense"].append(parameter)
        return groups


class DotProductRecommender(Recommender):
    """A model whose score is a dot product, so that the whole catalogue can be searched by inner product."""

    @property
    def first_item(self) -> int | None:
        """None where the process holds all items. Otherwise `item_vectors` are those of its own rows, of which this is
        the first, and all processes that work together must ask the model the same, in the same order."""
        return None

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): what each request looks for."""
        raise TypeError(f"{type(self).__name__} has no user vectors")

    def item_vectors(self) -> Tensor:
        """(V + 1, D): row 0 is padding."""
        raise TypeError(f"{type(self).__name__} has no item vectors")

    def item_bias(self) -> Tensor | None:
        """(V + 1,) added to the scores, where the model has one."""
        return None

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        return dot_scores(self.user_vectors(requests), self.item_vectors(), self.item_bias(), candidates)


class PairRecommender(Recommender):
    """A model that compares each request with each candidate by a network over both."""

    pair_width: int
    """Numbers that are held for one pair of request and candidate at a time, about."""

    def read(self, requests: Requests) -> Any:
        """What `compare` needs to know of B requests, whatever the candidates."""
        raise TypeError(f"{type(self).__name__} does not read requests")

    def compare(self, read: Any, candidates: Tensor) -> Tensor:
        """Scores (B, C) of candidates (C,) shared by all requests or (B, C)."""
        raise TypeError(f"{type(self).__name__} does not compare")

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """Some candidates at a time, so that memory is bounded whatever the catalogue."""
        read = self.read(requests)
        at_once = max(1, _NUMBERS_AT_ONCE // max(1, len(requests.times) * self.pair_width))
        return torch.cat([self.compare(read, some) for some in candidates.split(at_once, dim=-1)], dim=-1)


_NUMBERS_AT_ONCE = 1 << 22
"""Numbers that comparing pairs may hold: 16 MiB of float32, more than that is slower on a processor."""


def dot_scores(users: Tensor, items: Tensor, bias: Tensor | None, candidates: Tensor) -> Tensor:
    """(B, C) inner products of users (B, D) with the rows of items (V + 1, D) named by candidates (C,) or (B, C)."""
    if candidates.dim() == 1:
        scores = users @ items[candidates].T  # (B, C)
    else:
        scores = torch.einsum("bd,bcd->bc", users, items[candidates])  # (B, C)
    return scores if bias is None else scores + bias[candidates]


Settings = dict[str, Any]
"""A model's keyword arguments, as configuration files give them."""
