"""What a person sees while runs are under way: a live table on a terminal, lines in a log."""

import time
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid

from benchmarks.execute import Event
from synergen.runs import RunSpec

_LINE_EVERY = 30.0
"""Seconds between two lines of a run where there is no terminal."""


def duration(seconds: float | None) -> str:
    """Seconds as people say them: 42 s, 3 min 10 s, 1 h 05 min."""
    if seconds is None:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Pace:
    """How fast counted work goes, since its count began."""

    def __init__(self) -> None:
        self._total, self._first, self._last = -1, 0, 0
        self._since = 0.0

    def per_second(self, done: int, total: int) -> float | None:
        """From the first call of this count to this one; None where nothing is done since. Another total, or less done
        than before, is another count."""
        now = time.monotonic()
        if total != self._total or done < self._last:
            self._total, self._first, self._since = total, done, now
        self._last = done
        return (done - self._first) / (now - self._since) if done > self._first else None


@dataclass
class _State:
    label: str
    stage: str = "waiting"
    detail: str = ""
    pace: Pace = field(default_factory=Pace)
    printed: float = 0.0
    started: float | None = None


@dataclass
class Display:
    """Shows the events of runs; use as a context manager around `run_all`."""

    console: Console
    labels: dict[str, str]
    states: dict[str, _State] = field(default_factory=dict)
    _live: Live | None = None

    def __enter__(self) -> "Display":
        self.states = {run_id: _State(label) for run_id, label in self.labels.items()}
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._grid, console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Take one event in."""
        state = self.states[event.run_id]
        now = time.monotonic()
        state.started = state.started or now
        changed = event.stage != state.stage
        state.stage, state.detail = event.stage, describe(event.stage, event.state, state.pace)
        if self._live is None and (changed or now - state.printed >= _LINE_EVERY):
            state.printed = now
            self.console.print(
                f"{duration(now - state.started):>12}  {state.label}: {state.stage} {state.detail}".rstrip(),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )

    def _grid(self) -> Grid:
        grid = Grid("run", "stage", "where it stands", "so far", box=None, header_style="bold", pad_edge=False)
        for state in self.states.values():
            so_far = duration(time.monotonic() - state.started) if state.started else ""
            finished = state.stage in ("done", "recorded", "failed")
            grid.add_row(state.label, state.stage, state.detail, "" if finished else so_far)
        return grid


def describe(stage: str, state: dict[str, Any], pace: Pace) -> str:
    """One line on where a run stands; `pace` is that of the run, kept from line to line."""
    match stage:
        case "text":
            line = f"{state['done']} of {state['total']} texts encoded"
            rate = pace.per_second(state["done"], state["total"])
            if rate is None:
                return line
            left = duration((state["total"] - state["done"]) / rate)
            return f"{line}, {rate:.0f} a second, {left} left at most"  # the longest texts come first
        case "training":
            best = "" if state["best"] is None else f", validation {state['metric']:.4f} (best {state['best']:.4f})"
            left = duration(state["seconds_left"])
            return (
                f"epoch {state['epoch']} of at most {state['max_epochs']}, step {min(state['step'], state['steps'])}/"
                f"{state['steps']}, loss {state['loss']:.3f}{best}, {left} left at most"
            )
        case "testing":
            return (
                f"{state['task']}, {state['candidates']}: {state['done']} of {state['total']} requests" if state else ""
            )
        case "done":
            trained = state["training"]
            after = f" after epoch {trained['epochs']}, best {trained['best_epoch']}" if "epochs" in trained else ""
            return f"in {duration(state['seconds'])}: {trained['stopped']}{after}"
        case _:
            return str(state.get("why", ""))


def label(spec: RunSpec, method: str) -> str:
    """A run's name for people."""
    return f"{method} seed {spec.seed}"
