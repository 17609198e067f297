"""What a training step of HLLM takes, by formula.

Per token and layer, with width D, D' of keys and values, F of the feed-forward part that has m matrices, and W tokens
of a text or events of a sequence:

- FLOPs forward: 2 (2 D² + 2 D D' + m D F) of matrices and 4 W D of attention, half of it where that is causal. Backward
  takes twice as much; checkpointing adds the forward pass once more. What looks up, normalises or compares is left out.
- Numbers that the backward pass needs: 8 D + 2 D' + 4 F, with fused attention. Checkpointing keeps those of one pass.

A step is taken at its largest: full windows of max_history + 1 events, all distinct, of texts with max_tokens tokens.
The prompt counts in each of them, though it is read once a pass.
"""

from dataclasses import dataclass
from typing import Any, Self

from baselines.hllm.settings import MINILM, TOKENS_AT_ONCE, HLLMSettings


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer that its cost depends on."""

    width: int
    layers: int
    kv_width: int
    ffn_width: int
    ffn_matrices: int  # 3 where the activation is gated
    causal: bool

    @classmethod
    def of(cls, config: Any) -> Self:
        """The shape that a configuration of `transformers` describes."""
        kv_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
        causal = config.model_type != "bert"
        return cls(
            config.hidden_size,
            config.num_hidden_layers,
            config.hidden_size // config.num_attention_heads * kv_heads,
            config.intermediate_size,
            3 if causal else 2,
            causal,
        )


@dataclass(frozen=True)
class StepCost:
    """Floating point operations, and bytes of what the backward pass needs."""

    flops: float
    activation_bytes: int


def step_cost(settings: HLLMSettings, batch_size: int, number_bytes: int) -> StepCost:
    """The cost of one step.

    Args:
        batch_size: windows of a step.
        number_bytes: of one number that is kept: 2 in bf16.

    Raises:
        UserError: the shape of a language model is not known here.
    """
    from baselines.hllm.language_models import model_config  # takes seconds, and is not needed by other models' plans

    item, user = (Shape.of(model_config(name, settings)) for name in (settings.item_model, settings.user_model))
    trained = settings.trained_layers if settings.item_model == MINILM else item.layers
    events = batch_size * (settings.max_history + 1)
    text = settings.max_tokens + 1
    tokens = (events + (settings.negatives or events)) * text
    flops = tokens * trained * _forward(item, text) + events * user.layers * _forward(user, settings.max_history + 1)
    of_items, of_users = trained * kept_by_layer(item), user.layers * kept_by_layer(user)
    if not settings.gradient_checkpointing:
        return StepCost(3 * flops, number_bytes * (tokens * of_items + events * of_users))
    one_pass = max(min(tokens, TOKENS_AT_ONCE) * of_items, min(events, TOKENS_AT_ONCE) * of_users)
    return StepCost(4 * flops, number_bytes * one_pass)


def kept_by_layer(shape: Shape) -> int:
    """Numbers that the backward pass of one layer needs for each token."""
    return 8 * shape.width + 2 * shape.kv_width + 4 * shape.ffn_width


def _forward(shape: Shape, length: int) -> float:
    weights = shape.width * (2 * shape.width + 2 * shape.kv_width + shape.ffn_matrices * shape.ffn_width)
    return 2 * weights + 4 * length * shape.width / (2 if shape.causal else 1)
