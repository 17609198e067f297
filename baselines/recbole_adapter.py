"""RecBole 1.2.1's sequential modules behind the contract of this benchmark.

RecBole's configuration, data sets and trainer are not used: they parse sys.argv, set environment variables, write
folders, and keep times in float32.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from baselines import objectives
from baselines.item_inputs import ReadsItemText
from baselines.recbole_settings import GRU4RecSettings, RecBoleSettings, TransformerSettings
from baselines.sequences import last_states, refuse_unknown, refuse_unreadable
from synergen.contract import Batch, DotProductRecommender, Requests, Task


class Catalogue:
    """All that RecBole's models ask of a data set."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def num(self, field: str) -> int:
        return self.n_items + 1  # with padding


_FIXED = {
    "initializer_range": 0.02,
    "loss_type": "CE",
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


def transformer_config(settings: TransformerSettings, positions: int) -> dict[str, Any]:
    """The keys that RecBole's transformers look up, with its own values for what is not a setting here."""
    return _FIXED | {
        "hidden_size": settings.hidden_size,
        "n_layers": settings.n_layers,
        "n_heads": settings.n_heads,
        "inner_size": settings.inner_size,
        "hidden_dropout_prob": settings.hidden_dropout,
        "attn_dropout_prob": settings.attention_dropout,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "MAX_ITEM_LIST_LENGTH": positions,
    }


def gru_config(settings: GRU4RecSettings) -> dict[str, Any]:
    """The keys that RecBole's GRU4Rec looks up."""
    return _FIXED | {
        "embedding_size": settings.embedding_size,
        "hidden_size": settings.hidden_size,
        "num_layers": settings.n_layers,
        "dropout_prob": settings.dropout,
        "MAX_ITEM_LIST_LENGTH": settings.max_history,
    }


class RecBoleModel(ReadsItemText, DotProductRecommender):
    """A module of RecBole, `net`, whose item vectors are both what it reads and what it scores."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})
    settings: RecBoleSettings
    net: Any
    n_items: int

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return objectives.trained_against(settings)

    def items(self, ids: Tensor | None = None) -> Tensor:
        """Vectors (..., D) of `ids` (...), or the catalogue's (V + 1, D)."""
        table = self.net.item_embedding
        if ids is None and isinstance(table, nn.Embedding):
            return table.weight[: self.n_items + 1]
        return table(ids)

    def item_vectors(self) -> Tensor:
        """(V + 1, D): the input vectors, which RecBole shares with the output; of length 1 under the cosine."""
        return objectives.compared(self.settings, self.items())


class CausalRecBoleModel(RecBoleModel):
    """One whose output at an event looks for the next item: a whole sequence is trained in one pass."""

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """The loss of the settings, under its name: the mean over the targets that have an event before them.

        Raises:
            UserError: a sequence is longer than max_history + 1 events, or has an item that the model does not know.
        """
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        events = batch.events
        wanted = (batch.targets & events.valid)[:, 1:]  # (B, T - 1)
        items = events.items[:, :-1] if wanted.shape[1] else events.items  # no RNN takes a sequence of no events
        states = self.states_before(items, events.lengths, wanted)  # (N, D)
        targets = events.items[:, 1:][wanted]  # (N,)
        value = objectives.objective(self.settings, states, targets, self.items, self.n_items)
        return {self.settings.loss: value}

    def states_before(self, items: Tensor, lengths: Tensor, wanted: Tensor) -> Tensor:
        """(N, D): the output just before each of the N events that are `wanted` (B, T - 1)."""
        return self.net(items, lengths)[:, : wanted.shape[1]][wanted]

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the output at the last event, zero for an empty history.

        Raises:
            UserError: an item that the model does not know.
        """
        history = requests.history.last(self.settings.max_history)
        refuse_unknown(history.items, self.n_items)
        states = self.net(history.items, history.lengths)  # (B, T, D)
        return objectives.compared(self.settings, last_states(states, history.lengths))
