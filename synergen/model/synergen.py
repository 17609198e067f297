"""SynerGen as a model of the benchmark."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from synergen.contract import Batch, DataView, DotProductRecommender, Histories, Requests, Task
from synergen.distributed import ids_of_all
from synergen.errors import UserError
from synergen.index import ItemIndex, build_index
from synergen.model import losses
from synergen.model.config import SynerGenConfig
from synergen.model.decoder import ContextState, Decoder
from synergen.model.examples import Asked, Examples, examples_of
from synergen.model.fusion import INITIAL_STD, Fusion, ItemTable, TextTable
from synergen.model.negatives import by_popularity, is_chosen, same_query, uniform_except
from synergen.model.time_rope import TimeRope
from synergen.model.words import TextWords, Words

MAX_RANKING_LOGITS = 1 << 24
"""Most attention logits of one layer that `rank_logits` holds at one time."""

Reader = Callable[[Tensor], Tensor]
"""From item ids (...) to their vectors (..., D)."""


@dataclass(frozen=True)
class Encoded:
    """Histories, encoded once for any number of requests."""

    state: ContextState
    times: Tensor  # (B, T) int64
    valid: Tensor  # (B, T) bool, false on padding

    def origin(self, times: Tensor) -> Tensor:
        """(B, 1) int64, from where times count: the first event, or the first of `times` (B, E) where there is none."""
        return torch.where(self.valid[:, :1], self.times[:, :1], times[:, :1])


@dataclass(frozen=True)
class _Drawn:
    """Items that stand against N choices."""

    easy: Tensor  # (K,), shared
    counts: Tensor | None  # (K,) how often the batch holds each, where they are drawn from it
    hard: Tensor | None  # (N, K'), where they weigh anything


@dataclass(frozen=True)
class _Contrast:
    """The vectors of these in InfoNCE."""

    positives: Tensor  # (N, D)
    positive_offsets: Tensor | None  # (N,)
    rows: Tensor  # (N,) the sequence of each choice
    easy: Tensor  # (K, D), shared
    easy_offsets: Tensor | None  # (K,)
    easy_banned: Tensor  # (B, K) bool
    hard: tuple[Tensor, Tensor] | None  # (N, K', D), and (N, K') bool which are banned; where they weigh anything


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
        width = config.width
        self.n_items = data.n_items
        words = Words([*data.item_texts, *data.query_texts], width) if config.text_encoder == "trained" else None

        def text(vectors: np.ndarray, texts: list[str]) -> TextTable:
            return TextTable(vectors, width, config.text_scale, None if words is None else TextWords(texts, words))

        item_text = None
        if config.needs_text and data.item_vectors is not None:
            item_text = text(data.item_vectors, data.item_texts)
        self.items = ItemTable(data.n_items, width, config.inputs, item_text, config.embedding == "torchrec")
        self.queries: TextTable | None = None
        if data.query_vectors is not None:
            self.queries = text(data.query_vectors, data.query_texts)
        self.fusion = Fusion(width, data.n_actions, config.embedding_dropout, config.query_residual)
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
        self.register_buffer("cumulative_popularity", self.popularity.cumsum(0), persistent=False)
        self.apply(_initialise)
        if config.query_residual and self.queries is not None and self.items.text is not None:
            self.queries.project.load_state_dict(self.items.text.project.state_dict())

    popularity: Tensor  # (V,) float64, sums to 1
    cumulative_popularity: Tensor  # (V,) float64
    _index: ItemIndex  # of `hard: mined`

    @classmethod
    def reads_text(cls, settings: Mapping[str, Any], tasks: frozenset[Task]) -> bool:
        """Items may be made of text; queries always are."""
        return SynerGenConfig(**settings).needs_text or Task.SEARCH in tasks

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        return SynerGenConfig(**settings).negatives

    def begin_epoch(self, epoch: int) -> None:
        """Index the item vectors that `hard: mined` searches during this epoch."""
        if self.begins_epochs:
            with torch.inference_mode():
                self._index = build_index(self.item_vectors().float().cpu().numpy())

    @property
    def begins_epochs(self) -> bool:
        return self.config.hard == "mined" and self.config.alpha < 1

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms: `retrieval` on the retrieval token of each request, `context` on the context token before it
        where that belongs to an earlier request, and, with a ranking head, `point` and `pair`.

        Where the batch has slates, their requests ask, what was chosen from them is to be retrieved, and all that they
        showed is ranked; otherwise every target event is a request of its own, ranked beside random items. Each term is
        a mean over its own positions. Negatives are drawn anew at each call, from torch's generator.

        Raises:
            UserError: `hard: impressions`, and alpha below 1, without slates.
        """
        config, events = self.config, batch.events
        ranks = self.ranking_head is not None
        per_event = 2 + config.ranking_negatives if ranks else 1
        reads = events.items.numel() * per_event if batch.slates is None else batch.slates.items.numel()
        drawn = catalogue = None
        if self.first_item is None:
            read, catalogue = self._reader(reads)
            encoded = self._encode(events, read)
            learnt = examples_of(batch, self.config.ranking_negatives if ranks else 0, self.n_items)
        else:
            learnt = examples_of(batch, self.config.ranking_negatives if ranks else 0, self.n_items)
            drawn = self._draw(learnt, None)
            read = self._read_once(events.items, learnt, drawn)
            encoded = self._encode(events, read)
        candidates = learnt.candidates if ranks else None
        outputs = self._attend(encoded, learnt.asked, candidates, read)  # (B, E, 1 + C, D)

        before = learnt.asked.visible.sum(-1)[learnt.rows, learnt.places]  # (N,) events before each choice
        has_context = before > 0
        read_out = {
            "retrieval": (outputs[learnt.rows, learnt.places, 0], torch.ones_like(has_context)),
            "context": (encoded.state.outputs[learnt.rows[has_context], before[has_context] - 1], has_context),
        }
        terms: dict[str, Tensor] = {}
        contrast = None
        if catalogue is None:
            drawn = drawn or self._draw(learnt, read_out["retrieval"][0])
            contrast = self._contrast(learnt, drawn, len(events.items), read)
        for name, (queries, answered) in read_out.items():
            if contrast is None:
                assert catalogue is not None
                term = losses.full_softmax(queries, catalogue, learnt.items[answered], config.temperature)
            else:
                term = self._infonce(queries, contrast, answered)
            terms[name] = config.retrieval_weight * term
        if self.ranking_head is not None:
            logits = self.ranking_head(outputs[:, :, 1:][learnt.real]).squeeze(-1)  # (requests, C)
            labels = learnt.chosen[learnt.real].float()
            shown = None if learnt.shown is None else learnt.shown[learnt.real].float()
            terms["point"] = config.ranking_weight * losses.pointwise(logits, labels, shown)
            terms["pair"] = config.ranking_weight * config.lambda_pair * losses.pairwise(logits, labels, shown)
        return terms

    def encode(self, history: Histories) -> Encoded:
        """Encode histories that `answer` and `rank` then serve; only the last `max_history` events are read."""
        return self._encode(history.last(self.config.max_history), self.items)

    def extend(self, encoded: Encoded, events: Histories) -> Encoded:
        """The histories with further events: what `encode` gives for the whole, without encoding what is there.

        Neither the histories nor the events may have padding, and the histories must not be empty.
        """
        count = encoded.times.shape[1]
        positions = torch.arange(count, count + events.items.shape[1], device=events.items.device)
        tokens = self.fusion(self.items(events.items), events.actions)  # (B, n, D)
        rotation = self.rope(events.times, positions.expand_as(events.items), encoded.origin(events.times))
        return Encoded(
            self.decoder.extend(encoded.state, tokens, rotation),
            torch.cat([encoded.times, events.times], dim=1),
            torch.cat([encoded.valid, events.valid], dim=1),
        )

    def answer(self, encoded: Encoded, requests: Requests) -> Tensor:
        """(B, D): the retrieval token's output in search; in recommendation that of the last context token, or of
        the retrieval token where the settings say so or the history is empty. `requests.history` is not read.

        Raises:
            UserError: a search, when the data have no query text vectors.
        """
        lengths = encoded.valid.sum(1)  # (B,)
        if requests.task is Task.SEARCH or self.config.recommendation_readout == "retrieval" or (lengths == 0).any():
            retrieval = self._attend(encoded, self._ask(encoded, requests), None, self.items)[:, 0, 0]  # (B, D)
            if requests.task is Task.SEARCH or self.config.recommendation_readout == "retrieval":
                return retrieval
        last = (lengths - 1).clamp(min=0)
        context = encoded.state.outputs[torch.arange(len(last), device=last.device), last]  # (B, D)
        return context if (lengths > 0).all() else torch.where((lengths > 0)[:, None], context, retrieval)

    def rank(self, encoded: Encoded, requests: Requests, candidates: Tensor) -> Tensor:
        """Logits (B, C) of the ranking head: log-odds that each candidate (B, C) gets the action wanted.

        Candidates go in chunks and never see one another. `requests.history` is not read.

        Raises:
            UserError: a model built with `ranking_head: false`, or a search without query text vectors.
        """
        if self.ranking_head is None:
            raise UserError("SynerGen: this model has no ranking head; train one with ranking_head: true")
        asked = self._ask(encoded, requests)
        logits_of_one = self.config.heads * asked.visible.numel()
        chunks = candidates.split(max(1, MAX_RANKING_LOGITS // logits_of_one), dim=1)
        outputs = (self._attend(encoded, asked, chunk[:, None], self.items)[:, 0, 1:] for chunk in chunks)
        return torch.cat([self.ranking_head(output).squeeze(-1) for output in outputs], dim=1).float()

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): see `answer`."""
        return self.answer(self.encode(requests.history), requests)

    def item_vectors(self) -> Tensor:
        """(V + 1, D), or the rows of this process where `first_item` says so; row 0 is zero."""
        return self.items()

    @property
    def first_item(self) -> int | None:
        return self.items.first

    def gather(self) -> None:
        self.items.gather()

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        if self.first_item is None:
            return super().score(requests, candidates)
        users, items = self.user_vectors(requests), self.items(candidates)
        return users @ items.T if candidates.dim() == 1 else torch.einsum("bd,bcd->bc", users, items)

    def hold_queries(self, texts: list[str], vectors: np.ndarray | None) -> None:
        """See `Recommender.hold_queries`.

        Raises:
            UserError: there are no vectors, or the model was built without those of queries.
        """
        if self.queries is None or vectors is None:
            raise UserError("SynerGen: queries are read by their text vectors; encode the query texts")
        self.queries.hold(vectors, texts)

    def rank_logits(self, requests: Requests, candidates: Tensor) -> Tensor:
        """(B, C): see `rank`; candidates (C,) are shared by all requests."""
        if candidates.dim() == 1:
            candidates = candidates.expand(len(requests.times), -1)
        return self.rank(self.encode(requests.history), requests, candidates)

    def _reader(self, n_reads: int) -> tuple[Reader, Tensor | None]:
        """How to read about `n_reads` item vectors, and the catalogue (V + 1, D) if the loss is over all of it.

        Projecting every item once is less work than projecting as many items again and again.
        """
        full_softmax = self.config.retrieval_loss == "full_softmax"
        if not full_softmax and n_reads < self.n_items:
            return self.items, None
        table = self.items()
        return lambda ids: F.embedding(ids, table), table if full_softmax else None

    def _read_once(self, context: Tensor, learnt: Examples, drawn: _Drawn) -> Reader:
        """How to read what a step needs of items whose vectors other processes hold, after one exchange with them."""
        needed = [context, learnt.items, learnt.candidates, drawn.easy, drawn.hard]
        ids = torch.cat([context.new_zeros(1), *(some.flatten() for some in needed if some is not None)]).unique()
        vectors = self.items(ids)
        return lambda wanted: F.embedding(torch.searchsorted(ids, wanted.contiguous()), vectors)

    def _encode(self, events: Histories, read: Reader) -> Encoded:
        """Encode the context tokens fuse[0; item; action]."""
        start = torch.where(events.lengths > 0, events.times[:, 0], 0)[:, None]  # (B, 1)
        positions = torch.arange(events.items.shape[1], device=events.items.device).expand_as(events.items)
        tokens = self.fusion(read(events.items), events.actions)  # (B, T, D)
        state = self.decoder.encode(tokens, self.rope(events.times, positions, start))
        return Encoded(state, events.times, events.valid)

    def _ask(self, encoded: Encoded, requests: Requests) -> Asked:
        """One request a history, after all of it."""
        if requests.task is Task.SEARCH and self.queries is None:
            raise UserError("SynerGen: search reads query text vectors and the data have none; encode the query texts")
        return Asked(
            requests.times[:, None], requests.queries[:, None], requests.actions[:, None], encoded.valid[:, None, :]
        )

    def _attend(self, encoded: Encoded, asked: Asked, candidates: Tensor | None, read: Reader) -> Tensor:
        """Outputs (B, E, 1 + C, D) of the retrieval token and of one ranking token for each candidate (B, E, C).

        A request takes the ordinal position of its first event, so that its second event does not give away that there
        was a first, and training agrees with serving.
        """
        positions = asked.visible.sum(-1)  # (B, E)
        times, origin = asked.times, encoded.origin(asked.times)
        if not self.config.target_time:
            last = (positions - 1).clamp(min=0)  # (B, E): what is visible comes first
            times = torch.where(positions > 0, encoded.times.gather(1, last), origin)
        mask = self.fusion.mask.expand(*times.shape, 1, -1)  # (B, E, 1, D)
        items = mask if candidates is None else torch.cat([mask, read(candidates)], dim=2)  # (B, E, 1 + C, D)
        queries = None if self.queries is None else self.queries(asked.queries)[:, :, None]  # (B, E, 1, D)
        tokens = self.fusion(items, asked.actions[..., None], queries)
        rotation = self.rope(times, positions, origin)
        return self.decoder.attend(encoded.state, tokens, rotation, asked.visible)

    def _draw(self, learnt: Examples, queries: Tensor | None) -> _Drawn:
        """Items that stand against the N choices; `hard: mined` needs the retrieval tokens `queries` (N, D)."""
        config, targets = self.config, learnt.items
        counts = None
        if config.easy == "in_batch":
            known = ids_of_all(targets) if config.gather_negatives else targets
            easy, counts = known.unique(return_counts=True)  # (K,)
        else:
            easy = torch.randint(1, self.n_items + 1, (config.easy_negatives,), device=targets.device).unique()
        return _Drawn(easy, counts, self._hard(learnt, queries) if config.alpha < 1 else None)

    def _contrast(self, learnt: Examples, drawn: _Drawn, n_rows: int, read: Reader) -> _Contrast:
        """What stands against the N choices of a batch of `n_rows` sequences."""
        config, n_items = self.config, self.n_items
        targets, rows, easy = learnt.items, learnt.rows, drawn.easy  # (N,), (N,), (K,)
        easy_offsets = positive_offsets = None
        if drawn.counts is not None:
            easy_offsets = drawn.counts.log()  # an item that the batch holds c times counts c times
            if config.popularity_correction:
                easy_offsets = easy_offsets - self.popularity[easy - 1].log().float()
                positive_offsets = -self.popularity[targets - 1].log().float()
        every_row = torch.arange(n_rows, device=rows.device)[:, None]  # (B, 1)
        easy_banned = is_chosen(easy, every_row, targets, rows, n_items)
        positives, easy_vectors, hard = read(targets), read(easy), None
        if drawn.hard is not None:
            hard_banned = is_chosen(drawn.hard, rows[:, None], targets, rows, n_items)
            if learnt.shown is not None and config.hard == "impressions":
                unusable = learnt.chosen | ~learnt.shown  # (B, E, S)
                hard_banned = unusable[rows, learnt.places]
            hard = read(drawn.hard), hard_banned
        return _Contrast(positives, positive_offsets, rows, easy_vectors, easy_offsets, easy_banned, hard)

    def _hard(self, learnt: Examples, queries: Tensor | None) -> Tensor:
        """Hard negatives (N, K') of the N choices, which the retrieval tokens `queries` (N, D) look for."""
        config, targets = self.config, learnt.items
        match config.hard:
            case "impressions":
                if learnt.shown is None:
                    raise UserError(
                        "SynerGen: setting 'hard' is 'impressions' but the log does not say what its requests showed; "
                        "use sampled, popular, mined or query"
                    )
                return learnt.candidates[learnt.rows, learnt.places]
            case "popular":
                return by_popularity(targets, config.hard_negatives, self.cumulative_popularity)
            case "mined":
                assert queries is not None
                count = min(config.hard_negatives, self.n_items)
                found = self._index.search(queries.detach().float().cpu().numpy(), count)[1]  # (N, count)
                return torch.from_numpy(found).to(targets.device)
            case "query":
                return same_query(targets, learnt.queries, config.hard_negatives, self.n_items)
        return uniform_except(targets, config.hard_negatives, self.n_items)

    def _infonce(self, queries: Tensor, contrast: _Contrast, answered: Tensor) -> Tensor:
        """α·easy + (1 - α)·hard over the choices that the queries (M, D) answer: `answered` (N,) bool, M true."""
        config, positives = self.config, contrast.positives[answered]
        easy = losses.infonce(
            queries,
            positives,
            contrast.easy,
            config.temperature,
            banned=contrast.easy_banned,
            groups=contrast.rows[answered],
            negative_offsets=contrast.easy_offsets,
            positive_offsets=None if contrast.positive_offsets is None else contrast.positive_offsets[answered],
        )
        if contrast.hard is None:
            return easy
        vectors, banned = (part[answered] for part in contrast.hard)
        hard = losses.infonce_own(queries, positives, vectors, config.temperature, banned=banned)
        return config.alpha * easy + (1 - config.alpha) * hard


def _initialise(module: nn.Module) -> None:
    """Item vectors and text rows start at a standard deviation of 0.02, so that first scores, sums of D products with a
    normalised output, are well below one. Linear layers start as small: residual branches then leave an item's own
    vector in charge of its token's output, from where training is faster than from unit-variance branches."""
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
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
