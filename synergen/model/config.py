"""The settings of a SynerGen model."""

from dataclasses import dataclass, field, fields
from typing import Literal, get_args, get_origin

from synergen.errors import UserError
from synergen.settings import LATER


@dataclass(frozen=True)
class SynerGenConfig:
    """Settings of `SynerGen`; τ, α and λ default to the paper's (section 4.3).

    Raises:
        UserError: a value that makes no model, with the key that holds it.
    """

    width: int = 64
    """D, the width of the residual stream and of item vectors."""
    layers: int = 2
    """Decoder layers."""
    heads: int = 2
    """Attention heads; each is width / heads wide."""
    ffn_width: int = 256
    """Hidden units of the feed-forward layers."""
    dropout: float = 0.2
    """Dropout of every residual branch and of the feed-forward hidden units."""
    embedding_dropout: float = 0.2
    """Dropout of the fused tokens before the first layer."""

    inputs: Literal["id", "text", "both"] = "both"
    """What an item vector is made of: a trainable id vector, a frozen text vector, or their sum."""
    text_scale: float = 0.1
    """Scale of the standardised text vectors: how fast their projection learns beside the id vectors."""

    embedding: Literal["plain", "torchrec"] = field(default="plain", metadata=LATER)
    """Id vectors as one table in every process, or, where they are more than one device holds, `torchrec`: rows spread
    over the processes, learning by row-wise Adagrad at the rate of the tables."""

    text_encoder: Literal["frozen", "trained"] = field(default="frozen", metadata=LATER)
    """`trained` adds to the frozen text vectors a small encoder of the words that learns with the rest."""

    query_residual: bool = field(default=False, metadata=LATER)
    """Hand the query on beside the fusion MLP, as the item is, in a projection that starts as that of the item texts:
    what a search looks for then starts as what is near in text, and need not be learnt through the MLP."""

    rope: Literal["time", "position", "mixed"] = "mixed"
    """What rotates queries and keys: time, ordinal position, or half of the pairs of each head for either.
    `mixed` keeps the order of events whose times tie, as day-resolution times do."""
    rope_granularity_seconds: float = 86400.0
    """Seconds of one granule, the unit of the periods below; a day suits Amazon, a minute suits sessions."""
    rope_min_period: float = 2.0
    """Shortest period of the time rotations, in granules: two are the finest that whole granules resolve."""
    rope_max_period: float = 3650.0
    """Longest period of the time rotations, in granules: ten years of days, longer than any history."""

    max_history: int = 50
    """Events of a history that a request is answered from: the most recent ones."""

    retrieval_loss: Literal["infonce", "full_softmax"] = "infonce"
    """InfoNCE over sampled negatives (paper section 3.5), or the softmax over the whole catalogue."""
    temperature: float = 0.085
    """τ, by which dot products are divided in both retrieval losses."""
    alpha: float = 0.1
    """α, the weight of easy negatives; hard ones weigh 1 - α, and at 1 there are none."""
    easy: Literal["in_batch", "uniform"] = "in_batch"
    """Easy negatives: what other users of the batch chose, or uniform items shared by the batch."""
    gather_negatives: bool = field(default=False, metadata=LATER)
    """In-batch easy negatives are what was chosen in the shares of all processes that train together, and not in the
    process's own."""
    popularity_correction: bool = False
    """Subtract log popularity from the logits of in-batch InfoNCE, which otherwise punishes popular items."""
    easy_negatives: int = 512
    """K, draws of shared items a step where `easy` is uniform."""
    hard: Literal["impressions", "sampled", "popular", "mined", "query"] = "sampled"
    """Hard negatives of each target: what its request showed and was not chosen, uniform, drawn by popularity, what the
    model itself ranks highest (by the item vectors at the start of the epoch), or what others chose in this batch for
    the same query (uniform where nobody did)."""
    hard_negatives: int = 16
    """Hard negatives of each target, impressions aside, which are all taken."""

    ranking_head: bool = True
    """Whether ranking tokens exist; without them there is no ranking loss."""
    ranking_negatives: int = 4
    """Uniform negatives ranked beside the positive of each target; where a request's slate is known, that is ranked."""
    lambda_pair: float = 1.0
    """λ, the weight of the pairwise ranking loss beside the pointwise one."""
    retrieval_weight: float = 1.0
    """Weight of the retrieval loss, on retrieval tokens and on context tokens."""
    ranking_weight: float = 1.0
    """Weight of the ranking loss."""

    target_time: bool = True
    """Whether task tokens carry the request's time; otherwise they carry that of the last event before it."""
    recommendation_readout: Literal["context", "retrieval"] = "context"
    """The token that recommends: the last context token, or the retrieval token without a query. Both are trained;
    an empty history always reads the retrieval token."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if get_origin(one.type) is Literal:
                if value not in get_args(one.type):
                    self._refuse(one.name, f"one of {', '.join(get_args(one.type))}")
            elif one.type is bool and not isinstance(value, bool):
                self._refuse(one.name, "true or false")
            elif one.type is int and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                self._refuse(one.name, "a whole number, at least 1")
            elif one.type is float and (isinstance(value, bool) or not isinstance(value, int | float)):
                self._refuse(one.name, "a number")
        for key in ("text_scale", "temperature", "rope_granularity_seconds", "rope_min_period"):
            if not 0 < getattr(self, key) < float("inf"):
                self._refuse(key, "a number above 0")
        for key in ("dropout", "embedding_dropout"):
            if not 0 <= getattr(self, key) < 1:
                self._refuse(key, "in [0, 1)")
        for key in ("lambda_pair", "retrieval_weight", "ranking_weight"):
            if not 0 <= getattr(self, key) < float("inf"):
                self._refuse(key, "a number, at least 0")
        if self.embedding == "torchrec":
            if self.inputs == "text":
                self._refuse("embedding", "plain where inputs is text, which has no id vectors")
            if self.retrieval_loss == "full_softmax":
                self._refuse("retrieval_loss", "infonce where embedding is torchrec: no process has all items")
            if self.hard == "mined" and self.alpha < 1:
                self._refuse("hard", "other than mined where embedding is torchrec: no process has all items")
        if not 0 <= self.alpha <= 1:
            self._refuse("alpha", "in [0, 1]")
        if not self.rope_min_period <= self.rope_max_period < float("inf"):
            self._refuse("rope_max_period", f"at least rope_min_period ({self.rope_min_period})")
        parts = 4 if self.rope == "mixed" else 2
        if self.width % (parts * self.heads):
            self._refuse("width", f"divisible by {parts} × heads ({self.heads}), as rope '{self.rope}' rotates pairs")

    @property
    def needs_text(self) -> bool:
        """Whether item vectors are made of text."""
        return self.inputs != "id"

    @property
    def negatives(self) -> str:
        """In words, the items that a positive stands against in the retrieval loss."""
        if self.retrieval_loss == "full_softmax":
            return "all items"
        easy = f"{self.easy_negatives:,} a batch" if self.easy == "uniform" else "the batch's items"
        if self.alpha == 1:
            return easy
        of_kind = "" if self.hard == "sampled" else f" ({self.hard})"
        hard = "impressions" if self.hard == "impressions" else f"{self.hard_negatives:,} a position{of_kind}"
        return f"{easy}, {hard}" if self.alpha > 0 else hard

    def _refuse(self, key: str, wanted: str) -> None:
        raise UserError(f"SynerGen: setting '{key}' is {getattr(self, key)!r}; it must be {wanted}")
