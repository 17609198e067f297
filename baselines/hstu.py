"""HSTU as its authors' research code trains it on public data, and what it shares with their SASRec.

Paper: J. Zhai et al., "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
Recommendations", ICML 2024. Repository: https://github.com/meta-recsys/generative-recommenders (research/modeling).

Layers, initialisation, the positions beyond max_history and the sampled softmax are the repository's. What the paper
does not say: attention is divided by the constant N = max_history + 11, not by the length of a row; the time that
biases an event is that from it to the event predicted, at a request to the request (so HSTU knows when the next event
happens, which SASRec does not); and positions begin as Xavier's, since the repository draws them a second time.
Deviations:

- In the tables, trained on windows of all events, with the early stopping and the clipping of this benchmark; AdamW has
  the repository's betas (0.9, 0.98) on the data sets of its configurations and (0.9, 0.999) elsewhere. The repository
  trains on the last max_history + 1 events of a user, clips nothing and has no validation set, as
  `benchmarks/reproduce.py` does.
- Events of one second keep the order of the file. The repository sorts them in no fixed order, which decides about many
  of ML-1M's last items.
- Batches are padded to their longest sequence, which changes no output: attention is causal and padding on the right.
- `bias: none` is the repository's layer without times; its switch for that fails on an assertion.
- The row of padding is zero; the repository's is random and never read. An empty history scores every item 0.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines import objectives
from baselines.hstu_layers import BIASES, HSTULayer, Pairs
from baselines.objectives import ObjectiveSettings
from baselines.sequences import last_states, refuse_unknown, refuse_unreadable
from synergen.contract import Batch, DataView, DotProductRecommender, Requests, Task
from synergen.settings import LATER, refuse_below, refuse_no_share, refuse_unlisted

_SPARE_POSITIONS = 11
"""The repository's room for the events to be predicted (10) and one more."""


@dataclass(frozen=True)
class NextItemSettings(ObjectiveSettings):
    """What HSTU and the SASRec of its repository have in common. Defaults: its configuration for ML-1M."""

    loss: str = "sampled"
    negatives: int = 128
    shared_negatives: bool = False
    similarity: str = "cosine"
    temperature: float = 0.05
    width: int = 50
    layers: int = 2
    heads: int = 1
    dropout: float = 0.2
    max_history: int = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "width", "layers", "heads", "max_history")
        refuse_no_share(self, "dropout")


@dataclass(frozen=True)
class HSTUSettings(NextItemSettings):
    """qk_width, v_width: of a head's queries and keys, and of its values. bias: both, time, position or none.

    next_time: False withholds when the next event happens; the time that biases is then that between the two events.
    """

    qk_width: int = 50
    v_width: int = 50
    bias: str = "both"
    next_time: bool = field(default=True, metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "qk_width", "v_width")
        refuse_unlisted(self, "bias", BIASES)


class NextItemModel(DotProductRecommender):
    """Items and positions in, the item after each event out: `states` is left to subclasses."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})

    def __init__(self, data: DataView, settings: NextItemSettings) -> None:
        super().__init__()
        self.settings, self.n_items = settings, data.n_items
        self.items = nn.Embedding(data.n_items + 1, settings.width, padding_idx=0)
        truncated_normal_(self.items.weight, 0.02)
        nn.init.zeros_(self.items.weight[0])
        self.positions = nn.Parameter(torch.empty(settings.max_history + _SPARE_POSITIONS, settings.width))
        self.dropout = nn.Dropout(settings.dropout)

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return objectives.trained_against(settings)

    @abstractmethod
    def states(self, x: Tensor, times: Tensor, next_times: Tensor) -> Tensor:
        """(B, T, D): what each of the events x (B, T, D) predicts.

        Args:
            x: the sum of item and position.
            times: (B, T) of the events.
            next_times: (B, T) of the events that are predicted.
        """

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's mean over the targets that have an event before them, under its name.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        events = batch.events
        states = self.states(self._inputs(events.items[:, :-1]), events.times[:, :-1], events.times[:, 1:])
        predicted = (batch.targets & events.valid)[:, 1:]  # (B, T - 1)
        targets = events.items[:, 1:][predicted]  # (N,)
        value = objectives.objective(self.settings, states[predicted], targets, self._raw_vectors, self.n_items)
        return {self.settings.loss: value}

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the output at the last event, zero for an empty history.

        Raises:
            UserError: an item that the model does not know.
        """
        history = requests.history.last(self.settings.max_history)
        refuse_unknown(history.items, self.n_items)
        last = (history.lengths - 1).clamp(min=0)[:, None]  # (B, 1)
        next_times = F.pad(history.times[:, 1:], (0, 1)).scatter(1, last, requests.times[:, None])  # (B, T)
        states = self.states(self._inputs(history.items), history.times, next_times)  # (B, T, D)
        return objectives.compared(self.settings, last_states(states, history.lengths))

    def item_vectors(self) -> Tensor:
        """(V + 1, D): of length 1 under the cosine."""
        return objectives.compared(self.settings, self.items.weight)

    def _inputs(self, items: Tensor) -> Tensor:
        scaled = self.items(items) * math.sqrt(self.settings.width)
        return self.dropout(scaled + self.positions[: items.shape[1]])

    def _raw_vectors(self, items: Tensor | None) -> Tensor:
        return self.items.weight if items is None else self.items(items)


class HSTU(NextItemModel):
    """Hierarchical sequential transduction units; `HSTU-large` is the same with more layers and heads."""

    settings: HSTUSettings

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data, HSTUSettings(**settings))
        nn.init.xavier_normal_(self.positions)
        sizes = (self.settings.width, self.settings.heads, self.settings.qk_width, self.settings.v_width)
        self.layers = nn.ModuleList(
            HSTULayer(*sizes, self.settings.dropout, len(self.positions), self.settings.bias)
            for _ in range(self.settings.layers)
        )

    def states(self, x: Tensor, times: Tensor, next_times: Tensor) -> Tensor:
        pairs = Pairs.of(times, next_times if self.settings.next_time else times, len(self.positions))
        for layer in self.layers:
            x = layer(x, pairs)
        return x


def truncated_normal_(weights: Tensor, deviation: float) -> None:
    """Normal numbers, none of them further than two deviations from 0."""
    nn.init.trunc_normal_(weights, std=deviation, a=-2 * deviation, b=2 * deviation)
