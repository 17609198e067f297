"""The state of an unfinished training, so that a killed run goes on where it was."""

import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from synergen.files import write_atomically

_log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values, whole or not at all; the one before it stays beside it.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """

    def write(temporary: Path) -> None:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch tells of a full disk
            raise OSError(f"torch could not write all of it ({error})") from error
        if path.exists():
            path.replace(_before(path))

    write_atomically(path, write)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The last state; the one before it where the file is missing or damaged, and None (training then starts anew)
    where that is, too."""
    for candidate in (path, _before(path)):
        try:
            state: dict[str, Any] = torch.load(candidate, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            continue
        except (EOFError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
            _log.warning("%s is damaged (%s) and is passed over", candidate, type(error).__name__)
            continue
        return state
    return None


def _before(path: Path) -> Path:
    return path.with_suffix(".before.pt")
