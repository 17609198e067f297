"""Frozen text encoders and their cache on disk."""

from synergen.text.catalogue import TextVectors, encode_catalogue
from synergen.text.encode import encode_texts
from synergen.text.encoder import Encoder, TextKind
from synergen.text.projection import Projection

__all__ = ["Encoder", "Projection", "TextKind", "TextVectors", "encode_catalogue", "encode_texts"]
