"""The state of an unfinished training, so that a killed run goes on where it was."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from synergen.files import write_atomically


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a state of tensors and plain values, whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """

    def write(temporary: Path) -> None:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:  # how torch tells of a full disk
            raise OSError(f"torch could not write all of it ({error})") from error

    write_atomically(path, write)


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """The state, or None where there is none or the file is damaged (training then starts anew)."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, EOFError, RuntimeError, zipfile.BadZipFile, pickle.UnpicklingError):
        return None
    return state
