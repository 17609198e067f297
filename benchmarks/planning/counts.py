"""Counts of a data set that is not here, from a small YAML file: enough for a plan."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from synergen.errors import UserError
from synergen.settings import from_mapping, refuse_below

FOLDER = Path(__file__).resolve().parents[1] / "plans"


@dataclass(frozen=True)
class Counts:
    """What a file of counts says."""

    items: int = 0
    users: int = 0
    windows: int = 0
    """Training sequences of an epoch."""
    events_per_window: float = 0.0
    """On average, each of them something to predict."""
    max_history: int = 0
    """Otherwise than the table has it; 0: as the table."""

    def __post_init__(self) -> None:
        refuse_below(self, 2, "items", "events_per_window")
        refuse_below(self, 1, "windows")
        refuse_below(self, 0, "users", "max_history")


def is_counts_file(source: str) -> bool:
    """Whether `--dataset` names a file of counts."""
    return source.endswith((".yaml", ".yml"))


def counts_of(source: str) -> Counts | None:
    """Of a file, or of a name of the folder plans/; None where there is none of that name.

    Raises:
        UserError: no such file, an unknown field (the nearest is named), or a count that cannot be.
    """
    path = Path(source) if is_counts_file(source) else FOLDER / f"{source}.yaml"
    if not path.is_file():
        if is_counts_file(source):
            raise UserError(f"{path} does not exist; give a file of counts, such as {FOLDER.name}/session-us.yaml")
        return None
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path}: a mapping of counts is expected, such as `items: 1000`")
    return from_mapping(Counts, found, str(path))
