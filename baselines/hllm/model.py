"""HLLM: one language model reads the text of an item, another the sequence of items.

Paper: J. Chen, L. Chi, B. Peng, Z. Yuan, "HLLM: Enhancing Sequential Recommendations via Hierarchical Large Language
Models for Item and User Modeling", arXiv 2409.12740. Repository: https://github.com/bytedance/HLLM.

Prompt, [ITEM] vector, loss and inference are the repository's, and so are positions, but for where those of a text
begin, which rotary attention cannot tell. Deviations:

- An item has one text, under the key `title`: title and categories in one, as the data sets of this benchmark hold it.
- An item without text is read as `unknown item N`, N its number. The repository gives it no token but [ITEM], so that
  all such items are one; here they stay apart, and no table of vectors has to grow with the catalogue.
- A step encodes each distinct item once, and the prompt once for many items. Sequences are padded on the right, where
  nothing causal sees it; the repository pads on the left and encodes random items there.
- Negatives of one process are not gathered from others.
- Products of the loss are float32, whatever the language models compute in.
- The widths of the two language models may differ: a linear layer stands between them then.
- `small` and `minilm` stand in for billions of parameters where there is no GPU.
- The learning rate does not warm up and decay along a cosine: training is that of all models here.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from baselines.hllm.items import ItemLLM, MiniLMItems, in_passes
from baselines.hllm.language_models import causal_model
from baselines.hllm.settings import MINILM, TOKENS_AT_ONCE, HLLMSettings
from baselines.objectives import unit
from baselines.sequences import last_states, refuse_unknown, refuse_unreadable
from synergen.contract import Batch, DataView, DotProductRecommender, Requests, Task
from synergen.model.losses import infonce

SAME_ITEM = 0.99
"""A negative of a higher cosine with the positive is taken for the same item."""

_FIRST_SCALE, _LARGEST_SCALE = 1 / 0.07, 100.0


class HLLM(DotProductRecommender):
    """A user is the last state of the user model, an item the state at [ITEM]; both of length 1.

    Raises:
        UserError: settings out of range, or a language model or tokenizer that cannot be loaded.
    """

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.RECOMMENDATION})

    def __init__(self, data: DataView, **settings: Any) -> None:
        super().__init__()
        self.settings = HLLMSettings(**settings)
        self.n_items = data.n_items
        texts = [text or f"unknown item {item}" for item, text in enumerate(data.item_texts)]
        self.items = (MiniLMItems if self.settings.item_model == MINILM else ItemLLM)(texts, self.settings)
        self.user = causal_model(self.settings.user_model, self.settings)
        self.user.embed_tokens = None  # it reads items, not words
        width = self.user.config.hidden_size
        self.project = nn.Identity() if width == self.items.width else nn.Linear(self.items.width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))
        self.register_buffer("_catalogue", None, persistent=False)
        self.register_load_state_dict_post_hook(HLLM._forget)

    user: PreTrainedModel
    _catalogue: Tensor | None  # (V + 1, D) of the whole catalogue, while the weights are at rest

    @classmethod
    def trained_against(cls, settings: Mapping[str, Any]) -> str:
        """The negatives of a step, which all of its positions share."""
        negatives = HLLMSettings(**settings).negatives
        return f"{negatives:,} a batch" if negatives else "one a place of the batch, shared"

    def train(self, mode: bool = True) -> Self:
        """Training changes the weights, and with them the vectors of the catalogue."""
        if mode:
            self._forget()
        return super().train(mode)

    def _forget(self, _: Any = None) -> None:
        self._catalogue = None

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """`nce`: mean over the targets that have an event before them, see `nce`. Negatives are uniform over the
        catalogue, from torch's generator.

        Raises:
            UserError: an item beyond the catalogue, or a sequence of more than max_history + 1 events.
        """
        events = batch.events
        refuse_unreadable(batch, self.settings.max_history, self.n_items)
        rows, width = events.items.shape
        count = self.settings.negatives or events.items.numel()
        drawn = torch.randint(1, self.n_items + 1, (count,), device=events.items.device)  # (K,)
        distinct, place = torch.cat([events.items.flatten(), drawn]).unique(return_inverse=True)
        vectors = self._encode(distinct)  # (distinct, D)
        of_events, of_negatives = place.split([rows * width, count])
        sequences = F.embedding(of_events.view(rows, width), vectors)  # (B, T, D)
        states = self._states(sequences)[:, :-1]  # (B, T - 1, D)
        predicted = (batch.targets & events.valid)[:, 1:]  # (B, T - 1)
        with torch.no_grad():
            self.log_scale.clamp_(0, math.log(_LARGEST_SCALE))
        positives = sequences[:, 1:][predicted]  # (N, D)
        return {"nce": nce(states[predicted], positives, F.embedding(of_negatives, vectors), self.log_scale.exp())}

    def user_vectors(self, requests: Requests) -> Tensor:
        """(B, D): the state at the last event, of length 1; zero for an empty history.

        Raises:
            UserError: a history with an item beyond the catalogue.
        """
        history = requests.history.last(self.settings.max_history)
        refuse_unknown(history.items, self.n_items)
        states = self._states(F.embedding(history.items, self._catalogue_vectors()))  # (B, T, D)
        return unit(last_states(states, history.lengths))

    def item_vectors(self) -> Tensor:
        """(V + 1, D) of length 1; in training mode they are computed at each call."""
        return unit(self._catalogue_vectors())

    def _catalogue_vectors(self) -> Tensor:
        if self.training:
            return self._encode(torch.arange(self.n_items + 1, device=self.log_scale.device))
        if self._catalogue is None:
            with torch.inference_mode(False), torch.no_grad():  # kept for any later use
                self._catalogue = self._encode(torch.arange(self.n_items + 1, device=self.log_scale.device))
        return self._catalogue

    def _encode(self, items: Tensor) -> Tensor:
        """(N, D) of items (N,) without repetition."""
        return self.project(self.items(items))

    def _states(self, sequences: Tensor) -> Tensor:
        """(B, T, D): what follows each event of sequences (B, T, D)."""

        def read(some: Tensor) -> Tensor:
            return self.user(inputs_embeds=some, use_cache=False).last_hidden_state

        parts = sequences.split(max(1, TOKENS_AT_ONCE // sequences.shape[1]))
        return in_passes(read, parts, self.settings.gradient_checkpointing)


def nce(queries: Tensor, positives: Tensor, negatives: Tensor, scale: Tensor) -> Tensor:
    """Mean over N of the cross-entropy of a positive among negatives, logits = scale · cosine, in float32.

    A negative whose cosine with the positive exceeds `SAME_ITEM`, as that of the positive itself does, is left out.

    Args:
        queries: (N, D).
        positives: (N, D).
        negatives: (K, D), shared.
        scale: scalar, exp θ.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, positives, negatives = unit(queries), unit(positives), unit(negatives)
        with torch.no_grad():
            same = positives @ negatives.T > SAME_ITEM  # (N, K)
        return infonce(queries * scale, positives, negatives, 1.0, banned=same)
