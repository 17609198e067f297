"""What commands show while they work, and how they end: with a status, and with words that a person can act on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from synergen.errors import UserError

LOG_WIDTH = 150
"""Columns of a page where there is no terminal whose width could be asked."""


def page(stderr: bool = False, quiet: bool = False) -> Console:
    """Where a command prints: as wide as the terminal, or `LOG_WIDTH` in a log; nowhere if `quiet`."""
    console = Console(stderr=stderr, highlight=False, quiet=quiet)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, quiet=quiet, width=LOG_WIDTH)


def exit_status(action: Callable[[], None]) -> int:
    """Run a command: 0, or 2 after a user's error, or 130 after ctrl-C, each said on standard error."""
    complaints = Console(stderr=True, highlight=False)
    try:
        action()
    except UserError as error:
        complaints.print(f"error: {error}", markup=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        complaints.print("stopped. Finished runs are kept; the same command goes on where this one stopped.")
        return 130
    return 0


@contextmanager
def bars(screen: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A report that draws a bar with the time left for each thing that is done, or prints its name in a log."""
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total or None)
                if progress.disable:
                    screen.print(what, markup=False)
            progress.update(tasks[what], completed=done, total=total or None)

        yield report
