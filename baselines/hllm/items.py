"""From the texts of items to vectors: a causal language model with an [ITEM] vector, or MiniLM."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import takewhile

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from baselines.hllm.language_models import causal_model, is_planned, minilm, tokenizer
from baselines.hllm.settings import SMALL, TOKENS_AT_ONCE, HLLMSettings
from synergen.errors import UserError
from synergen.precision import autocast_dtype

PROMPT = "Compress the following sentence into embedding: "

_INITIAL_STD = 0.02
_HIDDEN = -1e9  # added to the attention logits of padding


class ItemEncoder(nn.Module):
    """Vectors (N, D) of items (N,) from their texts, which share passes with texts of like length."""

    width: int  # D

    def __init__(self, rows: list[list[int]], checkpointing: bool) -> None:
        super().__init__()
        lengths = torch.tensor([len(row) for row in rows])
        flat = torch.tensor([token for row in rows for token in row], dtype=torch.int32)
        self.register_buffer("tokens", flat, persistent=False)
        self.register_buffer("lengths", lengths, persistent=False)
        self.register_buffer("starts", lengths.cumsum(0) - lengths, persistent=False)
        self.checkpointing = checkpointing

    tokens: Tensor  # (all tokens,) int32, of one item after the other
    lengths: Tensor  # (V + 1,) tokens of each item
    starts: Tensor  # (V + 1,) place of its first token

    def forward(self, items: Tensor) -> Tensor:
        """(N, D) of items (N,)."""
        passes = packed(self.lengths[items], TOKENS_AT_ONCE)
        vectors = in_passes(self.encode, [items[places] for places in passes], self.checkpointing)
        return vectors[torch.cat(passes).argsort()]

    @abstractmethod
    def encode(self, items: Tensor) -> Tensor:
        """(n, D) of items (n,) in one pass."""

    def _places(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Places (n, W) of the tokens of items (n,), on the left, and which of these are real, (n, W) bool."""
        lengths = self.lengths[items]
        steps = torch.arange(int(lengths.max()), device=items.device)
        real = steps < lengths[:, None]
        return torch.where(real, self.starts[items, None] + steps, 0), real


class ItemLLM(ItemEncoder):
    """A causal language model that reads `prompt title: text [ITEM]`; an item is its last state at [ITEM].

    Texts stand on the left of a pass: nothing causal sees the padding behind them, so that no mask is needed. The
    tokens that all texts begin with, those of the prompt, are read once a pass, and the texts attend to what was read.
    Positions count from there, where the repository counts towards [ITEM]: rotary attention knows distances alone.
    """

    llm: PreTrainedModel

    def __init__(self, texts: list[str], settings: HLLMSettings) -> None:
        rows = [] if is_planned() else _tokens(settings, [f"{PROMPT}title: {text}" for text in texts])
        common = [at[0] for at in takewhile(lambda at: len(set(at)) == 1, zip(*rows, strict=False))]
        super().__init__([row[len(common) :] for row in rows], settings.gradient_checkpointing)
        self.register_buffer("prompt", torch.tensor(common, dtype=torch.int64), persistent=False)
        self.llm = causal_model(settings.item_model, settings)
        self.width = self.llm.config.hidden_size
        self.item_token = nn.Parameter(torch.randn(self.width) * _INITIAL_STD)

    prompt: Tensor  # (P,) what all texts begin with

    def encode(self, items: Tensor) -> Tensor:
        tokens, end = self.inputs(items)  # (n, W), (n,)
        rows = torch.arange(len(items), device=items.device)
        vectors = self.llm.embed_tokens(tokens)  # (n, W, D)
        is_end = torch.zeros_like(tokens, dtype=torch.bool)
        is_end[rows, end] = True
        vectors = torch.where(is_end[..., None], self.item_token, vectors)
        prompt = self._read_prompt(len(items))
        states = self.llm(inputs_embeds=vectors, past_key_values=prompt, use_cache=False).last_hidden_state
        return states[rows, end]

    def inputs(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens behind the prompt (n, W) of items (n,), and where their [ITEM] is, (n,)."""
        places, real = self._places(items)
        tokens = nn.functional.pad(self.tokens[places] * real, (0, 1))  # (n, W)
        return tokens, self.lengths[items]

    def _read_prompt(self, times: int) -> Cache | None:
        """Keys and values of the prompt, as often as there are texts to attend to them."""
        if not len(self.prompt):
            return None
        vectors = self.llm.embed_tokens(self.prompt[None])  # (1, P, D)
        read = self.llm(inputs_embeds=vectors, use_cache=True).past_key_values
        read.batch_repeat_interleave(times)
        return read


class MiniLMItems(ItemEncoder):
    """The sentence encoder all-MiniLM-L6-v2, whose mean over the tokens of a text takes the place of [ITEM].

    It reads the text alone, as it was trained to. Only its top layers are part of the model; the states that the layers
    below give are computed when they are first asked for, and kept as float16.
    """

    def __init__(self, texts: list[str], settings: HLLMSettings) -> None:
        super().__init__([] if is_planned() else _tokens(settings, texts), settings.gradient_checkpointing)
        whole = minilm()
        depth, longest = whole.config.num_hidden_layers, whole.config.max_position_embeddings
        if settings.trained_layers > depth or settings.max_tokens > longest:
            raise UserError(
                f"HLLM: MiniLM has {depth} layers and reads {longest} tokens, but trained_layers is "
                f"{settings.trained_layers} and max_tokens {settings.max_tokens}"
            )
        self.width = whole.config.hidden_size
        self.layers = whole.encoder.layer[-settings.trained_layers :]
        self.register_buffer("frozen", torch.empty(0, self.width, dtype=torch.float16), persistent=False)

    frozen: Tensor  # (all tokens, D) float16, empty until `freeze`

    def encode(self, items: Tensor) -> Tensor:
        if len(self.frozen) < len(self.tokens):
            self.freeze()
        places, real = self._places(items)
        states = self.frozen[places].float()  # (n, W, D)
        mask = torch.zeros_like(real, dtype=states.dtype).masked_fill(~real, _HIDDEN)[:, None, None]  # (n, 1, 1, W)
        for layer in self.layers:
            states = layer(states, mask)
        weights = real[..., None].to(states.dtype)  # (n, W, 1)
        return (states * weights).sum(1) / weights.sum(1)

    def freeze(self) -> None:
        """Compute the states below the trained layers, in the same precision whatever calls for them."""
        device = self.tokens.device
        lower = minilm().to(device).eval()
        lower.encoder.layer = lower.encoder.layer[: -len(self.layers)]
        dtype = autocast_dtype(device)
        precision = torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
        with torch.inference_mode(False), torch.no_grad(), precision:
            self.frozen = torch.empty(len(self.tokens), self.width, dtype=torch.float16, device=device)
            for items in packed(self.lengths, TOKENS_AT_ONCE):
                places, real = self._places(items)
                states = lower(input_ids=self.tokens[places], attention_mask=real.long()).last_hidden_state
                self.frozen[places[real]] = states[real].half()


def in_passes(encode: Callable[[Tensor], Tensor], parts: Sequence[Tensor], checkpointing: bool) -> Tensor:
    """What `encode` makes of each part, one after the other. With checkpointing the backward pass computes it again, so
    that it takes the memory of one pass, however many there are."""
    if checkpointing and torch.is_grad_enabled():
        return torch.cat([checkpoint(encode, part, use_reentrant=False) for part in parts])
    return torch.cat([encode(part) for part in parts])


def packed(lengths: Tensor, budget: int) -> list[Tensor]:
    """Places (n,) of texts of `lengths` (N,), by length and in passes of at most `budget` tokens with padding, or of
    one text."""
    order = lengths.argsort(stable=True)
    sizes, size = [], 0
    for length in lengths[order].tolist():
        if size and (size + 1) * length > budget:
            sizes.append(size)
            size = 0
        size += 1
    return list(order.split([*sizes, size]))


def _tokens(settings: HLLMSettings, texts: list[str]) -> list[list[int]]:
    """Token ids of texts, with the special tokens that a published model expects around them."""
    encode = tokenizer(settings.item_model)
    special = settings.item_model != SMALL
    return encode(texts, truncation=True, max_length=settings.max_tokens, add_special_tokens=special)["input_ids"]
