"""A line of a metadata file of 2014: a Python dictionary as text, and not JSON."""

import ast
import re
import warnings
from collections.abc import Set
from typing import Any

_NAMED_ITEM = re.compile(rb"""asin['"]\s*:\s*(?:'([^']*)'|"([^"]*)")""")


def read_literal(line: bytes) -> dict[Any, Any] | None:
    """The dictionary that a line spells out, or None where it spells none; nothing in it is ever executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that Python does not know
            value = ast.literal_eval(line.decode().strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def may_describe(line: bytes, items: Set[bytes]) -> bool:
    """Whether a line can be about one of the items, without reading all of it: false only where it is not."""
    named = [single or double for single, double in _NAMED_ITEM.findall(line)]
    return not named or any(item in items or b"\\" in item for item in named)
