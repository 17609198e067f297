"""Errors that a user can act on."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """What was wrong, where, and what to do. Commands print it without a traceback and exit with status 2."""


def unknown_name(kind: str, name: str, known: Iterable[str], where: str = "") -> UserError:
    """The error for a name that does not exist, with the nearest one that does."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    place = f" in {where}" if where else ""
    return UserError(f"unknown {kind} '{name}'{place}: {hint}known: {', '.join(names)}")
