"""Frozen text encoders and their cache on disk."""

from synergen.text.cache import cache_root
from synergen.text.encoder import encode_texts

__all__ = ["cache_root", "encode_texts"]
