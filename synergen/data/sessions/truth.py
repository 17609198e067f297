"""What the simulator knows of each request and no model may: the best that can be reached."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from synergen.data.sessions.behaviour import (
    FEED_SLATE,
    RequestState,
    attraction,
    examination,
    inclusion,
    policy_logits,
    slate_sizes,
)
from synergen.data.sessions.catalogue import Items
from synergen.errors import UserError, unknown_name

Kind = Literal["oracle", "policy"]

_NEVER = np.float32(-1e9)
"""Log score of an item that the policy cannot show."""


@dataclass(frozen=True)
class Truth:
    """Known probabilities of M requests with slates of up to S = 15, and the state that they follow from."""

    items: Items
    state: RequestState
    click_probability: np.ndarray  # (M, S) float32, 0 beyond the slate
    purchase_probability: np.ndarray  # (M, S) float32

    @classmethod
    def load(cls, folder: Path) -> "Truth":
        """Read what `simulate` wrote into the folder.

        Raises:
            UserError: the folder holds no readable truth.
        """
        try:
            table = pq.read_table(folder / "truth.parquet")
            items = pq.read_table(folder / "items_truth.parquet")
        except (OSError, pa.ArrowInvalid) as error:
            raise UserError(
                f"{folder}: cannot read the truth of a simulation ({error}); remove the folder and simulate it again"
            ) from error
        return cls(
            items=Items(**{field.name: _values(items[field.name]) for field in fields(Items)}),
            state=RequestState(**{field.name: _values(table[field.name]) for field in fields(RequestState)}),
            click_probability=_padded(table["click_probability"]),
            purchase_probability=_padded(table["purchase_probability"]),
        )

    def click(self, requests: np.ndarray) -> np.ndarray:
        """(n, S) float32 P(click) of each item of the slates of requests (n,), in shown order."""
        return self.click_probability[requests]

    def purchase(self, requests: np.ndarray) -> np.ndarray:
        """(n, S) float32 P(click and purchase) of each item of the slates of requests (n,), in shown order."""
        return self.purchase_probability[requests]

    def catalogue_log_scores(self, requests: np.ndarray, kind: Kind) -> np.ndarray:
        """(n, V) float32 scores of all items, by item number, for requests (n,); items that the logging policy cannot
        show have a very low one.

        `oracle` is the log of P(shown and clicked), inclusion (approximate, see `behaviour.inclusion`) times attraction
        times examination averaged over positions: no score predicts better which item is shown and clicked. `policy`
        is the logging policy's own logit.

        Raises:
            UserError: another kind.
        """
        if kind not in get_args(Kind):
            raise unknown_name("kind of score", kind, get_args(Kind))
        state, everything = self.state[requests], np.arange(len(self.items))
        candidate = (self.items.leaf[:, None] == state.leaves[:, None, :]).any(-1)  # (n, V)
        logits = policy_logits(state, self.items, everything)
        if kind == "policy":
            return np.where(candidate, logits, _NEVER)
        sizes = slate_sizes(state.search)
        shown = inclusion(np.where(candidate, logits, -np.inf), sizes)
        examined = examination(state.search).sum(1) / sizes
        chance = shown * attraction(state, self.items, everything) * examined[:, None]
        return np.where(candidate, np.log(np.maximum(chance, 1e-30)), _NEVER).astype(np.float32)


def _values(column: Any) -> np.ndarray:
    """A column as an array; lists of fixed size as the rows of a matrix."""
    array = column.combine_chunks()
    width = getattr(array.type, "list_size", None)
    return array.to_numpy(zero_copy_only=False) if width is None else array.flatten().to_numpy().reshape(-1, width)


def _padded(column: Any) -> np.ndarray:
    """(M, S) float32 of lists of up to S values, zeros after their end."""
    array = column.combine_chunks()
    lengths = array.value_lengths().to_numpy()
    padded = np.zeros((len(lengths), FEED_SLATE), np.float32)
    padded[np.arange(FEED_SLATE) < lengths[:, None]] = array.flatten().to_numpy()
    return padded
