"""SynerGen as a model of the benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.contract import Batch, DataView, DotProductRecommender, Histories, Requests, Task
from synergen.errors import UserError
from synergen.model import losses
from synergen.model.config import SynerGenConfig
from synergen.model.decoder import ContextState, Decoder
from synergen.model.fusion import INITIAL_STD, Fusion, ItemTable, TextTable
from synergen.model.negatives import by_popularity, is_chosen, same_query, uniform_except
from synergen.model.time_rope import TimeRope

MAX_RANKING_LOGITS = 1 << 24
"""Most attention logits of one layer that `rank_logits` holds at one time."""

Reader = Callable[[Tensor], Tensor]
"""From item ids (...) to their vectors (..., D)."""


@dataclass(frozen=True)
class _Asked:
    """A history, encoded, and E requests about it."""

    state: ContextState
    visible: Tensor  # (B, E, T) bool
    origin: Tensor  # (B, 1) int64, from where times count
    context_times: Tensor  # (B, T) int64
    times: Tensor  # (B, E) int64
    queries: Tensor  # (B, E) int64
    actions: Tensor  # (B, E) int64


@dataclass(frozen=True)
class _Contrast:
    """What stands against N targets in InfoNCE."""

    positives: Tensor  # (N, D)
    positive_offsets: Tensor  # (N,)
    easy: Tensor  # (K, D), shared
    easy_offsets: Tensor  # (K,)
    easy_banned: Tensor  # (N, K) bool
    hard: Tensor  # (N, K', D)
    hard_banned: Tensor  # (N, K') bool


class SynerGen(DotProductRecommender):
    """The unified generative recommender of the paper: one decoder that retrieves and ranks, with a query or without.

    Groups must never decrease along a history, and a request comes after its whole history.

    Args:
        data: the catalogue and its frozen text vectors.
        settings: the keys of `SynerGenConfig`.

    Raises:
        UserError: a setting out of range, or text that the settings need and the data lack.
    """

    tasks = frozenset(Task)

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.config = config = SynerGenConfig(**settings)
        if config.needs_text and data.item_vectors is None:
            raise UserError(
                f"SynerGen: setting 'inputs' is '{config.inputs}' but the data have no item text vectors; "
                "encode the item texts or set inputs to 'id'"
            )
        if data.n_items < 2:
            raise UserError(f"SynerGen: a catalogue of {data.n_items} items has no negatives; it takes two or more")
        width, text_scale = config.width, config.text_scale
        self.n_items = data.n_items
        self.items = ItemTable(data.n_items, width, config.inputs, data.item_vectors, text_scale)
        self.queries: TextTable | None = None
        if data.query_vectors is not None:
            self.queries = TextTable(data.query_vectors, width, text_scale)
        self.fusion = Fusion(width, data.n_actions, config.embedding_dropout)
        self.rope = TimeRope(
            width // config.heads // 2,
            config.rope,
            config.rope_granularity_seconds,
            config.rope_min_period,
            config.rope_max_period,
        )
        self.decoder = Decoder(width, config.layers, config.heads, config.ffn_width, config.dropout)
        self.ranking_head: nn.Sequential | None = None
        if config.ranking_head:
            self.ranking_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        # One more than counted: an item without training events has a probability too.
        popularity = np.asarray(data.item_counts[1:], dtype=np.float64) + 1
        self.register_buffer("popularity", torch.from_numpy(popularity / popularity.sum()), persistent=False)
        self.apply(_initialise)

    popularity: Tensor  # (V,) float64, sums to 1

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        """Items may be made of text; queries always are."""
        return SynerGenConfig(**settings).needs_text or Task.SEARCH in tasks

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms: `retrieval` on the retrieval token of each target, `context` on the context token before it
        where that belongs to an earlier request, and, with a ranking head, `point` and `pair`.

        Each is a mean over its own positions. Negatives are drawn anew at each call, from torch's generator.
        """
        config, events = self.config, batch.events
        is_target = batch.targets & events.valid  # (B, T)
        targets = events.items[is_target]  # (N,)
        n_candidates = 1 + config.ranking_negatives if self.ranking_head is not None else 0
        read, catalogue = self._reader(events.items.numel() * (1 + n_candidates))

        place, is_request = _target_places(is_target)  # (B, E), (B, E): task tokens are made for targets alone

        def at_target(column: Tensor) -> Tensor:
            return column.gather(1, place)  # (B, E)

        earlier = events.groups[:, None, :] < at_target(events.groups)[:, :, None]  # (B, E, T)
        asked = self._encode(
            events,
            earlier & events.valid[:, None, :],
            at_target(events.times),
            at_target(events.queries),
            at_target(batch.wanted),
            read,
        )
        candidates = None
        if self.ranking_head is not None:
            chosen = at_target(events.items)
            drawn = uniform_except(chosen, config.ranking_negatives, self.n_items)
            candidates = torch.cat([chosen[..., None], drawn], dim=-1)  # (B, E, r)
        outputs = self._attend(asked, candidates, read)  # (B, E, 1 + r, D)

        # A context token answers for the next event, unless both belong to one request.
        next_is_target = is_target[:, 1:] & (events.groups[:, 1:] > events.groups[:, :-1])  # (B, T - 1)
        has_context = F.pad(next_is_target, (1, 0))[is_target]  # (N,)
        read_out = {
            "retrieval": (outputs[:, :, 0][is_request], torch.ones_like(has_context)),
            "context": (asked.state.outputs[:, :-1][next_is_target], has_context),
        }
        terms: dict[str, Tensor] = {}
        contrast = None if catalogue is not None else self._contrast(events, is_target, read)
        for name, (queries, answered) in read_out.items():
            if contrast is None:
                assert catalogue is not None
                term = losses.full_softmax(queries, catalogue, targets[answered], config.temperature)
            else:
                term = self._infonce(queries, contrast, answered)
            terms[name] = config.retrieval_weight * term
        if self.ranking_head is not None:
            logits = self.ranking_head(outputs[:, :, 1:][is_request]).squeeze(-1)  # (N, r)
            labels = torch.zeros_like(logits)
            labels[:, 0] = 1
            terms["point"] = config.ranking_weight * losses.pointwise(logits, labels)
            terms["pair"] = config.ranking_weight * config.lambda_pair * losses.pairwise(logits, labels)
        return terms

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the retrieval token's output in search; in recommendation that of the last context token, or of
        the retrieval token where the settings say so or the history is empty.

        Raises:
            UserError: a search, when the data have no query text vectors.
        """
        asked, lengths = self._open(requests)
        retrieval = self._attend(asked, None, self.items)[:, 0, 0]  # (B, D)
        if requests.task is Task.SEARCH or self.config.recommendation_readout == "retrieval":
            return retrieval
        last = (lengths - 1).clamp(min=0)
        context = asked.state.outputs[torch.arange(len(last), device=last.device), last]  # (B, D)
        return torch.where((lengths > 0)[:, None], context, retrieval)

    def item_vectors(self) -> Tensor:
        """(V + 1, D); row 0 is zero."""
        return self.items()

    def rank_logits(self, requests: Requests, candidates: Tensor) -> Tensor:
        """Logits (B, C) of the ranking head: log-odds that each candidate (B, C) gets the action wanted.

        The history is encoded once; candidates follow in chunks and never see one another.

        Raises:
            UserError: a model built with `ranking_head: false`, or a search without query text vectors.
        """
        if self.ranking_head is None:
            raise UserError("SynerGen: this model has no ranking head; train one with ranking_head: true")
        asked, _ = self._open(requests)
        logits_of_one = self.config.heads * asked.visible.numel()
        chunks = candidates.split(max(1, MAX_RANKING_LOGITS // logits_of_one), dim=1)
        outputs = (self._attend(asked, chunk[:, None], self.items)[:, 0, 1:] for chunk in chunks)  # (B, chunk, D)
        return torch.cat([self.ranking_head(output).squeeze(-1) for output in outputs], dim=1).float()

    def _reader(self, n_reads: int) -> tuple[Reader, Tensor | None]:
        """How to read about `n_reads` item vectors, and the catalogue (V + 1, D) if the loss is over all of it.

        Projecting every item once is less work than projecting as many items again and again.
        """
        full_softmax = self.config.retrieval_loss == "full_softmax"
        if not full_softmax and n_reads < self.n_items:
            return self.items, None
        table = self.items()
        return lambda ids: F.embedding(ids, table), table if full_softmax else None

    def _open(self, requests: Requests) -> tuple[_Asked, Tensor]:
        """Encode the recent history of one request a sequence; also its lengths (B,)."""
        if requests.task is Task.SEARCH and self.queries is None:
            raise UserError("SynerGen: search reads query text vectors and the data have none; encode the query texts")
        history = requests.history.last(self.config.max_history)
        asked = self._encode(
            history,
            history.valid[:, None, :],
            requests.times[:, None],
            requests.queries[:, None],
            requests.actions[:, None],
            self.items,
        )
        return asked, history.lengths

    def _encode(
        self,
        events: Histories,
        visible: Tensor,
        times: Tensor,
        queries: Tensor,
        actions: Tensor,
        read: Reader,
    ) -> _Asked:
        """Encode the context tokens fuse[0; item; action] for requests given as (B, E) tensors."""
        origin = torch.where(events.lengths[:, None] > 0, events.times[:, :1], times[:, :1])  # (B, 1)
        positions = torch.arange(events.items.shape[1], device=events.items.device).expand_as(events.items)
        tokens = self.fusion(read(events.items), events.actions)  # (B, T, D)
        state = self.decoder.encode(tokens, self.rope(events.times, positions, origin))
        return _Asked(state, visible, origin, events.times, times, queries, actions)

    def _attend(self, asked: _Asked, candidates: Tensor | None, read: Reader) -> Tensor:
        """Outputs (B, E, 1 + C, D) of the retrieval token and of one ranking token for each candidate (B, E, C).

        A request takes the ordinal position of its first event, so that its second event does not give away that there
        was a first, and training agrees with serving.
        """
        positions = asked.visible.sum(-1)  # (B, E)
        times = asked.times
        if not self.config.target_time:
            last = (positions - 1).clamp(min=0)  # (B, E): what is visible comes first
            times = torch.where(positions > 0, asked.context_times.gather(1, last), asked.origin)
        mask = self.fusion.mask.expand(*times.shape, 1, -1)  # (B, E, 1, D)
        items = mask if candidates is None else torch.cat([mask, read(candidates)], dim=2)  # (B, E, 1 + C, D)
        queries = None if self.queries is None else self.queries(asked.queries)[:, :, None]  # (B, E, 1, D)
        tokens = self.fusion(items, asked.actions[..., None], queries)
        rotation = self.rope(times, positions, asked.origin)
        return self.decoder.attend(asked.state, tokens, rotation, asked.visible)

    def _contrast(self, events: Histories, is_target: Tensor, read: Reader) -> _Contrast:
        """Easy and hard negatives of the N targets of a batch."""
        config, n_items = self.config, self.n_items
        targets, rows = events.items[is_target], is_target.nonzero()[:, 0]  # (N,)
        if config.easy == "in_batch":
            easy, counts = targets.unique(return_counts=True)  # (K,)
            easy_offsets = counts.log()  # an item that the batch holds c times counts c times
        else:
            easy = torch.randint(1, n_items + 1, (config.easy_negatives,), device=targets.device).unique()
            easy_offsets = torch.zeros(len(easy), device=targets.device)
        positive_offsets = torch.zeros(len(targets), device=targets.device)
        if config.easy == "in_batch" and config.popularity_correction:
            log_popularity = self.popularity.log().float()
            easy_offsets = easy_offsets - log_popularity[easy - 1]
            positive_offsets = -log_popularity[targets - 1]
        if config.hard == "popular":
            hard = by_popularity(targets, config.hard_negatives, self.popularity.cumsum(0))  # (N, K')
        elif config.hard == "query":
            hard = same_query(targets, events.queries[is_target], config.hard_negatives, n_items)
        else:
            hard = uniform_except(targets, config.hard_negatives, n_items)
        every_row = torch.arange(len(is_target), device=rows.device)[:, None]  # (B, 1)
        return _Contrast(
            read(targets),
            positive_offsets,
            read(easy),
            easy_offsets,
            is_chosen(easy, every_row, targets, rows, n_items)[rows],
            read(hard),
            is_chosen(hard, rows[:, None], targets, rows, n_items),
        )

    def _infonce(self, queries: Tensor, contrast: _Contrast, answered: Tensor) -> Tensor:
        """α·easy + (1 - α)·hard over the targets that the queries (M, D) answer: `answered` (N,) bool, M true."""
        config, positives = self.config, contrast.positives[answered]
        easy = losses.infonce(
            queries,
            positives,
            contrast.easy,
            config.temperature,
            banned=contrast.easy_banned[answered],
            negative_offsets=contrast.easy_offsets,
            positive_offsets=contrast.positive_offsets[answered],
        )
        hard = losses.infonce_own(
            queries,
            positives,
            contrast.hard[answered],
            config.temperature,
            banned=contrast.hard_banned[answered],
        )
        return config.alpha * easy + (1 - config.alpha) * hard


def _target_places(is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Where the targets of each row are, (B, E) int64 in their order, E the most that a row has; and which of these
    places hold one, (B, E) bool."""
    counts = is_target.sum(1, keepdim=True)  # (B, 1)
    most = max(1, int(counts.max()))
    place = (~is_target).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]  # (B, E)
    return place, torch.arange(most, device=place.device) < counts


def _initialise(module: nn.Module) -> None:
    """Item vectors and text rows start at a standard deviation of 0.02, so that first scores, sums of D products with a
    normalised output, are well below one. Linear layers start as small: residual branches then leave an item's own
    vector in charge of its token's output, from where training is faster than from unit-variance branches."""
    if isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.padding_idx is not None:
            module.weight.data[module.padding_idx].zero_()
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=INITIAL_STD)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, TextTable):
        # `apply` reaches children first, so this overrides the linear rule.
        nn.init.normal_(module.project.weight, std=module.initial_std)
