"""Which frozen text encoder is meant, and how it reads a text.

The paper's 350M-parameter encoder is not public. The default here is all-MiniLM-L6-v2 (22.7M parameters, 384
dimensions), whose weights come inside an installed package, so that no network is needed; any model of the
Hugging Face Hub or on disk takes its place by name.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from synergen.errors import UserError, unknown_name

MINILM = "minilm"
Pooling = Literal["mean", "cls", "last"]
TextKind = Literal["item", "query"]

_EXAMPLE = f'{MINILM} {{"dimensions": 128}}'


@dataclass(frozen=True)
class Encoder:
    """A frozen text encoder and its options.

    Raises:
        UserError: a value that an option cannot have.
    """

    name: str = MINILM
    """`minilm`, a folder written by `save_pretrained`, or a name on the Hugging Face Hub."""
    pooling: Pooling = "mean"
    """What stands for a text: the mean of its tokens, its first token, or its last one (causal language models)."""
    item_instruction: str = ""
    """What is put before the text of every item."""
    query_instruction: str = ""
    """What is put before every query."""
    max_tokens: int = 256
    """Tokens of a text that are read, the instruction among them; 256 is what all-MiniLM-L6-v2 was trained with."""
    dimensions: int | None = None
    """What the vectors are reduced to, by principal components of the items; None keeps them whole."""

    def __post_init__(self) -> None:
        if self.pooling not in get_args(Pooling):
            raise unknown_name("pooling", str(self.pooling), get_args(Pooling), where=f"encoder '{self.name}'")
        for key in ("name", "item_instruction", "query_instruction"):
            self._require(key, isinstance(getattr(self, key), str), "a text")
        self._require("name", bool(self.name.strip()), "the name of a model, or a folder")
        self._require("max_tokens", _counts(self.max_tokens), "a whole number of tokens, at least 1")
        wanted = self.dimensions is None or _counts(self.dimensions)
        self._require("dimensions", wanted, "a whole number, at least 1")

    def _require(self, key: str, holds: bool, what: str) -> None:
        if not holds:
            raise UserError(f"encoder '{self.name}': {key} is {getattr(self, key)!r}; it must be {what}")

    @classmethod
    def parse(cls, wish: "Encoder | str | Mapping[str, Any]") -> "Encoder":
        """The encoder of a name, of a name with options in JSON (`minilm {"dimensions": 128}`), or of a mapping.

        Raises:
            UserError: options that are not JSON, an unknown option, or a value that it cannot have.
        """
        if isinstance(wish, Encoder):
            return wish
        options = _from_text(wish) if isinstance(wish, str) else wish
        if not isinstance(options, Mapping):
            raise UserError(f"encoder: {wish!r} is neither a name nor options; write for instance '{_EXAMPLE}'")
        known = [field.name for field in fields(cls)]
        for key in options:
            if key not in known:
                raise unknown_name("option", str(key), known, where=f"encoder {wish!r}")
        return cls(**options)

    @property
    def identity(self) -> str:
        """The shortest text that parses to this encoder: its name alone where nothing else is asked for."""
        default = asdict(Encoder(self.name))
        options = {key: value for key, value in asdict(self).items() if value != default[key]}
        return f"{self.name} {json.dumps(options, ensure_ascii=False)}" if options else self.name

    def instructed(self, texts: list[str], kind: TextKind) -> list[str]:
        """`texts` as the encoder is given them: behind the instruction of their kind, blank ones left blank."""
        instruction = self.item_instruction if kind == "item" else self.query_instruction
        return [instruction + text if text.strip() else text for text in texts]


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _from_text(text: str) -> dict[str, Any]:
    name, opening, rest = text.partition(" {")
    try:
        options = json.loads("{" + rest) if opening else {}
    except json.JSONDecodeError as error:
        raise UserError(
            f"encoder '{text}': its options are not JSON ({error}); write for instance '{_EXAMPLE}'"
        ) from error
    return {"name": name.strip(), **options}
