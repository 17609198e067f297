"""CoPPS: TEM's transformer, whose view of a user's events is trained by contrasts as well.

Paper: S. Dai et al., "Contrastive Learning for User Sequence Representation in Personalized Product Search", KDD 2023.
There is no official repository. The paper's three contrasts are by outside knowledge, within a sequence and between
users; what follows is our reading of them:

- The backbone is TEM's with its loss and its settings. An event is its item's vector plus, where a search led to it,
  that of the query.
- What is contrasted is the events before one random search of each sequence of a batch, read with the empty query: any
  other would give its own sequence away. A projector of two layers follows; similarities are cosines.
- Outside knowledge: the sequence against itself with a share of its items replaced by one of the nearest neighbours of
  their frozen text vectors. (The paper's is a product graph, which few data sets have.)
- Within: two views against one another, each by one random choice of crop, mask and reorder. An event that is masked
  is left out.
- Between: the sequence against that of the other user in the batch with whom it shares most items, by the cosine of
  their item sets. A sequence that shares none with anyone has no such term.
- Negatives are the other users' sequences of the batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.asked import Asked, cut
from baselines.copps_views import cropped, masked, most_alike, nearest, reordered, taken
from baselines.objectives import unit
from baselines.tem import TEM, TEMSettings
from baselines.tem_layers import xavier_linear
from synergen.contract import Batch, DataView, Histories, Task
from synergen.errors import UserError
from synergen.model.losses import infonce
from synergen.settings import refuse_below, refuse_no_share

_LEAST_EVENTS = 2
"""Of a sequence that is contrasted: fewer leave nothing to crop, mask or reorder."""


@dataclass(frozen=True)
class CoPPSSettings(TEMSettings):
    """contrast_weight, contrast_temperature: of each of the three contrasts.

    crop: share of a sequence that is kept. mask: probability that an event is hidden. reorder: share that is shuffled.
    substitute: probability that an item is replaced by one of its `neighbours`; with 0 neighbours there is no contrast
        by outside knowledge, and no text vectors are needed.
    """

    contrast_weight: float = 0.1
    contrast_temperature: float = 0.2
    crop: float = 0.8
    mask: float = 0.5
    reorder: float = 0.5
    substitute: float = 0.3
    neighbours: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        refuse_no_share(self, "crop", "mask", "reorder", "substitute", whole=True)
        refuse_below(self, 0, "contrast_weight", "neighbours")
        refuse_below(self, 1e-3, "contrast_temperature")
        if self.history == "none":
            raise UserError(
                "CoPPS: history is none, and sequences that are not read cannot be contrasted; name another"
            )


class CoPPS(TEM):
    """TEM with three contrasts of user sequences; it answers as TEM does."""

    settings: CoPPSSettings
    settings_type: ClassVar[type[TEMSettings]] = CoPPSSettings

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__(data, **settings)
        if self.settings.neighbours and data.item_vectors is None:
            raise UserError(
                "CoPPS: setting 'neighbours' needs item text vectors and the data have none; encode the item texts or "
                "set neighbours to 0"
            )
        self.text_vectors = data.item_vectors
        width = self.settings.width
        self.projector = nn.Sequential(xavier_linear(width, width), nn.ReLU(), xavier_linear(width, width))

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        return super().reads_text(settings, tasks) or settings.get("neighbours", CoPPSSettings.neighbours) > 0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """TEM's terms, and one of each contrast."""
        searched = batch.targets & (batch.events.queries > 0)
        asked, _ = cut(replace(batch, targets=searched), most=1)
        return super().loss(batch) | self._contrasts(asked)

    def tokens(self, history: Histories) -> Tensor:
        distinct, numbers = torch.unique(history.queries, return_inverse=True)  # far fewer than events: (Q',), (B, T)
        vectors = self.queries(distinct) * (distinct > 0)[:, None]  # (Q', D)
        return self.items(history.items) + F.embedding(numbers, vectors)

    def _contrasts(self, asked: Asked) -> dict[str, Tensor]:
        long = asked.history.lengths >= _LEAST_EVENTS
        history, users = _joined([asked.history], long), asked.users[long]  # of M sequences
        versions = [history, self._varied(history), self._varied(history)]
        if self.settings.neighbours:
            versions.append(self._substituted(history))
        plain, one, other, *substituted = self._views(versions)  # (M, D) each
        same = _same_user(users)  # (M, M)
        rows, partners = most_alike(history.items, same)
        terms = {
            "within": self._contrast(one, other, other, same),
            "between": self._contrast(plain[rows], plain[partners], plain, same[rows] | same[partners]),
        }
        if substituted:
            terms["substituted"] = self._contrast(plain, substituted[0], substituted[0], same)
        return terms

    def _contrast(self, anchors: Tensor, positives: Tensor, others: Tensor, banned: Tensor) -> Tensor:
        temperature = self.settings.contrast_temperature
        return self.settings.contrast_weight * infonce(anchors, positives, others, temperature, banned=banned)

    def _views(self, versions: list[Histories]) -> tuple[Tensor, ...]:
        """Unit vectors (M, D) of M sequences in each of their versions, read with the empty query."""
        together = _joined(versions)
        read = self.states(torch.zeros_like(together.lengths), together)
        return unit(self.projector(read)).chunk(len(versions))

    def _varied(self, history: Histories) -> Histories:
        """Each sequence cropped, masked or reordered."""
        lengths, width = history.lengths, history.items.shape[1]
        ways = [
            cropped(lengths, width, self.settings.crop),
            masked(lengths, width, self.settings.mask),
            reordered(lengths, width, self.settings.reorder),
        ]
        chosen = torch.randint(len(ways), lengths.shape, device=lengths.device)
        rows = torch.arange(len(lengths), device=lengths.device)
        places, left = (torch.stack(parts)[chosen, rows] for parts in zip(*ways, strict=True))
        return taken(history, places, left)

    def _substituted(self, history: Histories) -> Histories:
        items = history.items
        table = self._nearest.to(items.device)  # (V + 1, k)
        which = torch.randint(table.shape[1], items.shape, device=items.device)
        replaced = torch.rand(items.shape, device=items.device) < self.settings.substitute
        return replace(history, items=torch.where(replaced, table[items, which], items))

    @cached_property
    def _nearest(self) -> Tensor:
        """Made when training first needs it, so that a trained model loads without."""
        assert self.text_vectors is not None
        return nearest(self.text_vectors, self.settings.neighbours)


def _same_user(users: Tensor) -> Tensor:
    """(M, M) bool, of users (M,); a stranger is one user alone."""
    same = (users[:, None] == users) & (users > 0)
    return same | torch.eye(len(users), dtype=torch.bool, device=users.device)


def _joined(versions: list[Histories], rows: Tensor | slice = slice(None)) -> Histories:
    """The rows of histories of one width, one under the other."""
    return Histories(**{f.name: torch.cat([getattr(v, f.name)[rows] for v in versions]) for f in fields(Histories)})
