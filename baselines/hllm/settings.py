"""The settings of HLLM."""

from dataclasses import dataclass

from synergen.errors import UserError
from synergen.settings import refuse_below, refuse_no_multiple

SMALL, MINILM = "small", "minilm"

TOKENS_AT_ONCE = 1 << 13
"""Most tokens of one pass, padding included."""


@dataclass(frozen=True)
class HLLMSettings:
    """The two language models and how they are trained.

    item_model: `small`, a Llama of the sizes below whose weights are random; `minilm`, the sentence encoder
        all-MiniLM-L6-v2; or the name or folder of a Hugging Face model.
    user_model: `small`, or the name or folder of a Hugging Face model.
    pretrained: models with a name start from their published weights; otherwise only their shapes are used.
    width, layers, heads, kv_heads, ffn_width: of `small`.
    trained_layers: minilm: the top layers that train; what those below make of a text is computed once.
    negatives: uniform items that a batch shares; 0 draws one for each place of the batch, B T in all, which is the
        28,672 of HLLM's larger setting.
    max_tokens: of an item's text with the prompt.
    max_history: events that the user model reads, the last ones.
    gradient_checkpointing: activations are computed again for the backward pass, which then needs less memory.
    """

    item_model: str = SMALL
    user_model: str = SMALL
    pretrained: bool = True
    width: int = 64
    layers: int = 2
    heads: int = 4
    kv_heads: int = 4
    ffn_width: int = 172
    trained_layers: int = 1
    negatives: int = 512
    max_tokens: int = 256
    max_history: int = 50
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        refuse_below(self, 1, "width", "layers", "heads", "kv_heads", "ffn_width", "trained_layers", "max_tokens")
        refuse_below(self, 1, "max_history")
        refuse_below(self, 0, "negatives")
        refuse_no_multiple(self, "width", "heads")
        refuse_no_multiple(self, "heads", "kv_heads")
        if self.width // self.heads % 2:
            raise UserError(
                f"HLLM: a head is {self.width // self.heads} wide, and its numbers rotate in pairs: make it even"
            )
        if self.user_model == MINILM:
            raise UserError(
                f"HLLM: setting 'user_model' is '{MINILM}', which reads both ways and would see what it is to "
                f"predict; use '{SMALL}', or a causal model of the Hugging Face Hub"
            )
