"""What a person sees of a search: how it goes, and what it found."""

import time

from optuna.trial import FrozenTrial, TrialState
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from benchmarks.progress import duration
from benchmarks.tuning.findings import reason
from benchmarks.tuning.study import BY_HAND, ranked, reached, values_of

_SHOWN = 5


class TuningDisplay:
    """Shows the trials of a search as they go: a live table on a terminal, a line a finished trial in a log; use as a
    context manager around `search_until`."""

    def __init__(self, console: Console, metric: str, trials: int, workers: int) -> None:
        self.console, self.metric, self.trials, self.workers = console, metric, trials, workers
        self._known: list[FrozenTrial] = []
        self._told: set[int] | None = None
        self._live = Live(get_renderable=self._view, console=console, refresh_per_second=2)

    def __enter__(self) -> "TuningDisplay":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, trials: list[FrozenTrial]) -> None:
        """Take in how the trials stand."""
        self._known = trials
        finished = [trial for trial in trials if trial.state.is_finished()]
        if self._told is None:
            self._told = {trial.number for trial in finished}
            if finished and not self.console.is_terminal:
                self._say(f"goes on: {self._summary()}")
        for trial in finished:
            if trial.number not in self._told:
                self._told.add(trial.number)
                if not self.console.is_terminal:
                    self._say(f"trial {trials.index(trial) + 1}: {outcome(trial)}; {self._summary()}")

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def _summary(self) -> str:
        finished = [trial for trial in self._known if trial.state.is_finished()]
        best = ranked(self._known)
        line = f"{len(finished)} of {self.trials} trials"
        if best:
            line += f", best {self.metric} {reached(best[0]):.4f} (trial {self._known.index(best[0]) + 1})"
        seconds = [trial.duration.total_seconds() for trial in finished if trial.duration]
        left = self.trials - len(finished)
        if seconds and left:
            line += f", about {duration(left * sum(seconds) / len(seconds) / min(left, self.workers))} left"
        return line

    def _view(self) -> RenderableType:
        grid = Grid("trial", "so far", "epoch", self.metric, "values", box=None, header_style="bold", pad_edge=False)
        for at, trial in enumerate(self._known, start=1):
            if trial.state == TrialState.RUNNING and trial.datetime_start:
                epoch = trial.last_step or 0
                metric = f"{trial.intermediate_values[epoch]:.4f}" if epoch else ""
                so_far = duration(time.time() - trial.datetime_start.timestamp())
                grid.add_row(str(at), so_far, str(epoch or ""), metric, written(trial))
        return Group(Text(self._summary()), grid)


def outcome(trial: FrozenTrial) -> str:
    """In words, how a trial ended."""
    if trial.state == TrialState.FAIL:
        return f"failed ({reason(trial)})"
    how = "pruned at" if trial.state == TrialState.PRUNED else "reached"
    took = duration(trial.duration.total_seconds()) if trial.duration else ""
    return f"{how} {reached(trial):.4f} in {took} ({written(trial)})"


def written(trial: FrozenTrial) -> str:
    """A trial's values in one line."""
    values = (f"{place.partition('.')[2]} {value}" for place, value in values_of(trial).items())
    return ", ".join((["by hand"] if BY_HAND in trial.user_attrs else []) + list(values))


def best_trials(trials: list[FrozenTrial], metric: str) -> Grid:
    """The best trials, a line each."""
    best = ranked(trials)[:_SHOWN]
    places = list(best[0].params)
    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False, title="Best trials on validation", title_justify="left")
    for title in ("trial", metric, "epoch", *(place.partition(".")[2] for place in places), "trained"):
        grid.add_column(title, justify="right")
    grid.add_column("")
    for trial in best:
        at = max(trial.intermediate_values, key=lambda epoch: trial.intermediate_values[epoch], default=None)
        took = duration(trial.duration.total_seconds()) if trial.duration else ""
        values = (str(value) for value in values_of(trial).values())
        remark = "by hand" if BY_HAND in trial.user_attrs else ""
        grid.add_row(str(trials.index(trial) + 1), f"{reached(trial):.4f}", str(at or ""), *values, took, remark)
    return grid


def importance_lines(shares: dict[str, float]) -> RenderableType:
    """The shares of the places in the variance of the metric, as bars."""
    grid = Grid(box=None, pad_edge=False, title="Importance (fANOVA)", title_justify="left")
    for place, share in shares.items():
        grid.add_row(place, f"{100 * share:.0f} %", "█" * round(30 * share))
    return grid
