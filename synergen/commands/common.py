"""What all commands share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATASET = "a built-in data set (see `synergen data list`) or a folder with interactions.parquet or .csv"


def command(commands: Any, name: str, about: str, action: Callable[..., None], example: str) -> argparse.ArgumentParser:
    """A command whose help ends with an example; `action` is called with its options and a console."""
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=about,
        epilog=f"example: {example}",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    made.set_defaults(action=action)
    return made


def add_results_folder(parser: argparse.ArgumentParser) -> None:
    """The options --out and --json."""
    parser.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="results folder; default out/")
    parser.add_argument("--json", action="store_true", help="print JSON")
