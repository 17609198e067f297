"""How commands end: with a status, and with words that a person can act on."""

from collections.abc import Callable

from rich.console import Console

from synergen.errors import UserError


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
