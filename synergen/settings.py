"""Dataclass settings from plain mappings, with unknown keys refused."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from types import MappingProxyType
from typing import Any, TypeVar

from synergen.errors import UserError, unknown_name

T = TypeVar("T")

LATER: Mapping[str, bool] = MappingProxyType({"later": True})
"""Metadata of a field that came when there were runs on record, and whose default means what these runs did."""


def written_out(settings: Any) -> dict[str, Any]:
    """All fields of a dataclass instance by name, but `LATER` ones only where they differ from their default: so the
    ids of runs that were made before such a field stay as they are."""
    values = asdict(settings)
    defaults = {field.name: field.default for field in fields(settings) if field.metadata.get("later")}
    return {name: value for name, value in values.items() if name not in defaults or value != defaults[name]}


def refuse_below(settings: Any, least: float, *names: str) -> None:
    """Refuse settings whose fields `names` are less than `least`.

    Raises:
        UserError: one of them is.
    """
    for name in names:
        if not getattr(settings, name) >= least:
            raise _impossible(settings, name, f"{least:g} or more")


def refuse_no_share(settings: Any, *names: str, whole: bool = False) -> None:
    """Refuse settings whose fields `names` are no share: from 0 to less than 1, or to 1 where the `whole` is allowed.

    Raises:
        UserError: one of them is none.
    """
    for name in names:
        value = getattr(settings, name)
        if not (0 <= value < 1 or (whole and value == 1)):
            raise _impossible(settings, name, f"0 or more, and {'1 at most' if whole else 'less than 1'}")


def refuse_no_multiple(settings: Any, name: str, of: str) -> None:
    """Refuse settings whose field `name` is no multiple of the field `of`.

    Raises:
        UserError: it is none.
    """
    if getattr(settings, name) % getattr(settings, of):
        raise _impossible(settings, name, f"a multiple of {of}, which is {getattr(settings, of)}")


def refuse_unlisted(settings: Any, name: str, known: Sequence[str]) -> None:
    """Refuse settings whose field `name` is none of the known words.

    Raises:
        UserError: it is not, with the nearest of them.
    """
    if getattr(settings, name) not in known:
        raise unknown_name(name, getattr(settings, name), known)


def _impossible(settings: Any, name: str, wanted: str) -> UserError:
    return UserError(f"{type(settings).__name__}: {name} is {getattr(settings, name)!r}; it must be {wanted}")


def from_mapping(kind: type[T], values: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `kind`.

    Raises:
        UserError: a key that is not a field (the nearest is named), or a value of another type than its default.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise unknown_name("key", key, known, where=where)
        default = known[key].default
        whole_for_real = isinstance(default, float) and type(value) is int
        if not (whole_for_real or isinstance(value, type(default))) or isinstance(value, bool) != isinstance(
            default, bool
        ):
            raise UserError(
                f"{where}: key '{key}' is {value!r}, a {type(value).__name__}; it must be a {type(default).__name__} "
                f"like {default!r} (in YAML write 1.0e-3, not 1e-3)"
            )
    return kind(**values)
