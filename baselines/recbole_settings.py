"""Settings of the models whose modules are RecBole's. Defaults that RecBole has, too, are RecBole's."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from baselines.objectives import ObjectiveSettings
from synergen.errors import UserError, unknown_name
from synergen.settings import LATER

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
        if self.inputs not in get_args(Inputs):
            raise unknown_name("inputs", self.inputs, get_args(Inputs))
        if self.max_history < 1:
            raise UserError(f"impossible settings {self}: every size is 1 or more")


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
        if min(self.hidden_size, self.n_layers, self.n_heads, self.inner_size) < 1:
            raise UserError(f"impossible settings {self}: every size is 1 or more")
        if self.hidden_size % self.n_heads:
            raise UserError(
                f"hidden_size {self.hidden_size} does not divide into n_heads {self.n_heads}: use a multiple"
            )
        if not (0 <= self.hidden_dropout < 1 and 0 <= self.attention_dropout < 1):
            raise UserError(f"impossible settings {self}: a dropout is 0 or more and less than 1")


@dataclass(frozen=True)
class SASRecSettings(TransformerSettings):
    """augmentation: with prefix every target is a row of its own, the events before it, as RecBole trains; with none
    one row is a whole sequence, which learns the same targets from the same events at a fraction of the cost."""

    augmentation: Augmentation = field(default="none", metadata=LATER)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.augmentation not in get_args(Augmentation):
            raise unknown_name("augmentation", self.augmentation, get_args(Augmentation))


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
        if not (0 <= self.mask_ratio <= 1 and 0 <= self.last_only_share <= 1):
            raise UserError(f"impossible settings {self}: mask_ratio and last_only_share lie between 0 and 1")


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
        if min(self.embedding_size, self.hidden_size, self.n_layers) < 1:
            raise UserError(f"impossible settings {self}: every size is 1 or more")
        if not 0 <= self.dropout < 1:
            raise UserError(f"impossible settings {self}: a dropout is 0 or more and less than 1")
