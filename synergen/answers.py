"""What a trained model answers: items in order, best first."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class RankedItem:
    """An item of an answer."""

    item: Any
    """Its id in the source."""
    title: str
    score: float
    """Inner product of the request's vector and the item's; comparable within one answer."""
    probability: float | None
    """That the item gets the action asked for, by the ranking head; None where the model has none."""


@dataclass(frozen=True)
class Answer:
    """Items, best first."""

    items: list[RankedItem]
    skipped: int = 0
    """Events of the history that were not read, as the catalogue lacks their items."""

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[RankedItem]:
        return iter(self.items)

    def __getitem__(self, place: int) -> RankedItem:
        return self.items[place]

    def to_frame(self) -> pd.DataFrame:
        """One row an item: item, title, score, probability."""
        return pd.DataFrame([asdict(one) for one in self.items], columns=["item", "title", "score", "probability"])

    def __str__(self) -> str:
        lines = [
            f"{place:>3}  {one.title or one.item}  ({one.item}, score {one.score:.3f}"
            + (")" if one.probability is None else f", probability {one.probability:.3f})")
            for place, one in enumerate(self.items, start=1)
        ]
        if self.skipped:
            lines.append(f"     {self.skipped} events of unknown items were not read")
        return "\n".join(lines)
