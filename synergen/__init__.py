"""SynerGen, and the protocol under which it is compared with every other system."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synergen.histories import Event
    from synergen.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["Event", "Recommender", "__version__"]

_HOMES = {"Event": "synergen.histories", "Recommender": "synergen.recommender"}


def __getattr__(name: str) -> Any:
    """`Recommender` and `Event`, imported when they are asked for: torch takes seconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'synergen' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
