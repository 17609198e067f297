"""The `synergen` command."""

import argparse
import logging
import sys

from rich.console import Console

from synergen import __version__
from synergen.commands import check_table, compare, data, serving, training
from synergen.console import exit_status


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    options = parser().parse_args(arguments)
    return exit_status(lambda: options.action(options, Console(highlight=False)))


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(prog="synergen", description="Train, test, ask and inspect; tables: benchmarks/run.py")
    p.add_argument("--version", action="version", version=f"synergen {__version__}")
    commands = p.add_subparsers(required=True, metavar="command")
    for topic in (data, training, serving, compare, check_table):
        topic.add(commands)
    return p


if __name__ == "__main__":
    sys.exit(main())
