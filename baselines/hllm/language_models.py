"""Language models and tokenizers by name: of the Hugging Face Hub, of a folder, or made from nothing."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertModel, LlamaConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging

from baselines.hllm.settings import MINILM, SMALL, HLLMSettings
from synergen.errors import UserError
from synergen.text import weights

TINYLLAMA = "TinyLlama/TinyLlama_v1.1"
_TINYLLAMA_SHAPE = {
    "vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "intermediate_size": 5632, "max_position_embeddings": 2048, "rms_norm_eps": 1e-5,
}  # fmt: skip

T = TypeVar("T")


def is_planned() -> bool:
    """Whether models are being built on the meta device: to be measured, and not to compute."""
    return torch.get_default_device().type == "meta"


def model_config(name: str, settings: HLLMSettings) -> PretrainedConfig:
    """The shape of a language model; that of TinyLlama is known without a file.

    Raises:
        UserError: there is no such model on this machine, nor can it be downloaded.
    """
    if name == SMALL:
        # TinyLlama's 0.02 is nearly its width to the power of -0.5. In a narrow model 0.02 would make the vectors of
        # all items one, which the loss takes for duplicates.
        return LlamaConfig(
            vocab_size=len(tokenizer(SMALL)),
            hidden_size=settings.width,
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.kv_heads,
            intermediate_size=settings.ffn_width,
            initializer_range=settings.width**-0.5,
        )
    if name == TINYLLAMA:
        return LlamaConfig(**_TINYLLAMA_SHAPE)
    return _read(name, "configuration", lambda: AutoConfig.from_pretrained(location(name)))


def causal_model(name: str, settings: HLLMSettings) -> PreTrainedModel:
    """A causal language model without its output layer.

    Raises:
        UserError: its weights are not on this machine and cannot be downloaded, or it is not built like Llama.
    """
    config = model_config(name, settings)
    if getattr(config, "num_key_value_heads", None) is None:
        raise UserError(
            f"HLLM: '{name}' is a model of type '{config.model_type}'; a causal one that is built like Llama is needed"
        )
    if name != SMALL and settings.pretrained and not is_planned():
        return _read(name, "weights", lambda: AutoModel.from_pretrained(location(name), dtype=torch.float32))
    # The backward pass of SDPA over many short texts takes a CPU longer than all the rest of a small model.
    attention = "eager" if name == SMALL else "sdpa"
    return AutoModel.from_config(config, attn_implementation=attention)


def minilm() -> BertModel:
    """The sentence encoder all-MiniLM-L6-v2, without dropout.

    Raises:
        UserError: its package is not installed.
    """
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "attn_implementation": "eager"}
    if is_planned():
        model = BertModel(model_config(MINILM, HLLMSettings()))
    else:
        model = _read(
            MINILM, "weights", lambda: BertModel.from_pretrained(location(MINILM), dtype=torch.float32, **options)
        )
    model.pooler = None
    return model


@lru_cache
def tokenizer(name: str) -> Any:
    """The tokenizer of a language model; `small` has that of MiniLM.

    Raises:
        UserError: it is not on this machine and cannot be downloaded.
    """
    return _read(name, "tokenizer", lambda: AutoTokenizer.from_pretrained(location(name)))


def location(name: str) -> str:
    """What `transformers` finds a model under."""
    return weights.find(MINILM).location if name in (SMALL, MINILM) else str(Path(name).expanduser())


def _read(name: str, part: str, read: Callable[[], T]) -> T:
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        return read()
    except UserError:
        raise
    except Exception as error:  # other people's files and code: they fail in every way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"HLLM: cannot load the {part} of the language model '{name}': {reason}. Name '{SMALL}', a folder written "
            "by save_pretrained (model and tokenizer), or a model of the Hugging Face Hub that this machine has "
            "downloaded or can reach."
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
