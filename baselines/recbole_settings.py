"""Settings of the models whose modules are RecBole's. Defaults that RecBole has, too, are RecBole's."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from baselines.objectives import ObjectiveSettings
from synergen.settings import LATER, refuse_below, refuse_no_multiple, refuse_no_share, refuse_unlisted

Inputs = Literal["id", "text", "both"]
Augmentation = Literal["none", "prefix"]


@dataclass(frozen=True)
class RecBoleSettings(ObjectiveSettings):
    """What all of them share.

    max_history: the last events of a history that are read.
    inputs: what an item vector is made of, on the way in and on the way out: a trained id vector, a trained projection
        of the frozen text vector, or their sum.
    """

    max_history: int = 50
    inputs: Inputs = field(default="id", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unlisted(self, "inputs", get_args(Inputs))
        refuse_below(self, 1, "max_history")


@dataclass(frozen=True)
class TransformerSettings(RecBoleSettings):
    """Sizes of the transformer, and the share of numbers that are dropped in training."""

    hidden_size: int = 64
    n_layers: int = 2
    n_heads: int = 2
    inner_size: int = 256
    hidden_dropout: float = 0.5
    attention_dropout: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "hidden_size", "n_layers", "n_heads", "inner_size")
        refuse_no_multiple(self, "hidden_size", "n_heads")
        refuse_no_share(self, "hidden_dropout", "attention_dropout")


@dataclass(frozen=True)
class SASRecSettings(TransformerSettings):
    """augmentation: with prefix every target is a row of its own, the events before it, as RecBole trains; with none
    one row is a whole sequence, which learns the same targets from the same events at a fraction of the cost."""

    augmentation: Augmentation = field(default="none", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_unlisted(self, "augmentation", get_args(Augmentation))


@dataclass(frozen=True)
class BERT4RecSettings(TransformerSettings):
    """mask_ratio: probability that an event is masked. last_only_share: share of the sequences that are
    repeated with only the last event masked, which is what a request looks like."""

    hidden_dropout: float = 0.2
    attention_dropout: float = 0.2
    mask_ratio: float = 0.2
    last_only_share: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_no_share(self, "mask_ratio", "last_only_share", whole=True)


@dataclass(frozen=True)
class GRU4RecSettings(RecBoleSettings):
    """Widths of item vectors and of the recurrent state, stacked layers, and the share of the numbers of an item vector
    that are dropped in training."""

    embedding_size: int = 64
    hidden_size: int = 128
    n_layers: int = 1
    dropout: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_below(self, 1, "embedding_size", "hidden_size", "n_layers")
        refuse_no_share(self, "dropout")
