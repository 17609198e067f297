"""What a table says of a method besides its metrics, read from the records of its runs."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from baselines.registry import model_class
from synergen.evaluation.cases import cases
from synergen.runs import Run

Value = str | float
Record = Mapping[str, Any]


@dataclass(frozen=True)
class Fact:
    """How a value is read from a trained run, and how it is shown."""

    read: Callable[[Run], Value | None]
    """None where a record is older than the fact."""
    shown: Callable[[Any], str]


def facts_of(names: Iterable[str], runs: Iterable[Run]) -> dict[str, Value]:
    """By name, of the runs of a row, one a seed: numbers as means over those that `of_one_clock` keeps. Empty where
    nothing was trained."""
    read = {name: [FACTS[name].read(run) for run in of_one_clock(runs)] for name in names}
    return {
        name: _over_seeds(known) for name, values in read.items() if (known := [v for v in values if v is not None])
    }


def of_one_clock(runs: Iterable[Run]) -> list[Run]:
    """The trained runs of a row whose costs can be averaged: those in seconds of the processor, else those on
    processors, else those on the first GPU."""
    trained = [run for run in runs if "epochs" in run.record["training"]]
    accelerators = [accelerator_of(run.record) for run in trained]
    chosen = accelerators[0] if accelerators and None not in accelerators else None
    alike = [run for run, own in zip(trained, accelerators, strict=True) if own == chosen]
    return [run for run in alike if not timed_by_clock(run.record)] or alike


def accelerator_of(record: Record) -> str | None:
    """The GPU that a run was made on, None where it was a processor."""
    name: str | None = record.get("environment", {}).get("accelerator")
    return name


def timed_by_clock(record: Record) -> bool:
    """Whether the seconds of a training are the clock's, which whatever else the machine did has lengthened."""
    return "processor_seconds" not in record["training"] or accelerator_of(record) is not None


def _over_seeds(values: list[Value]) -> Value:
    return values[0] if isinstance(values[0], str) else fmean(map(float, values))


def milliseconds_a_request(run: Run, task: str, candidates: str) -> float | None:
    """Of the processor, for a question of a task among such candidates; None where the record does not say."""
    seconds = run.record.get("test_seconds", {}).get(task, {}).get(candidates)
    if not seconds or (task, candidates) not in run.ranks:
        return None
    return float(1000 * seconds / np.isfinite(cases(run.ranks[task, candidates], "MRR")).sum())


def _trained_against(run: Run) -> str:
    return model_class(run.record["model"]).trained_against(run.record["settings"])


def _seconds(run: Run) -> float:
    """With validation."""
    record = run.record
    seconds: float = record["seconds"] if timed_by_clock(record) else record["training"]["processor_seconds"]
    return seconds


def _positions_a_second(run: Run) -> float:
    training = run.record["training"]
    seconds = _seconds(run) if timed_by_clock(run.record) else training["training_processor_seconds"]
    positions: int = training["curve"][-1]["targets"]
    return positions / seconds


def _milliseconds_a_request(run: Run) -> float | None:
    """Among the protocol's candidates, of the task that was tested first."""
    task = next(iter(run.record.get("test_seconds", ())), "")
    return milliseconds_a_request(run, task, run.record["protocol"]["candidates"])


def _compact(number: float) -> str:
    """Three digits: 893 k, 1.12 M."""
    for unit, size in {"B": 1e9, "M": 1e6, "k": 1e3}.items():
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {unit}"
    return f"{number:.0f}"


FACTS: Mapping[str, Fact] = {
    "Trained against": Fact(_trained_against, str),
    "Params": Fact(lambda run: sum(run.record["parameters"].values()), _compact),
    "Best epoch": Fact(lambda run: run.record["training"]["best_epoch"], "{:.1f}".format),
    "Seconds": Fact(_seconds, "{:,.0f}".format),
    "Seconds/epoch": Fact(lambda run: _seconds(run) / run.record["training"]["epochs"], "{:.1f}".format),
    "Peak MiB": Fact(lambda run: run.record.get("peak_memory_mib"), "{:,.0f}".format),
    "ms/request": Fact(_milliseconds_a_request, "{:.2f}".format),
    "Positions/s": Fact(_positions_a_second, "{:,.0f}".format),
}
