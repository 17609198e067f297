"""What a search found: which values matter, and the best ones as the file that benchmarks/plan.py reads."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from benchmarks.environment import environment
from benchmarks.plan import read_yaml, tuned_file
from benchmarks.progress import duration
from benchmarks.tuning.study import BY_HAND, WHY, Search, kept, ranked, reached, values_of
from synergen.errors import UserError
from synergen.files import write_text

FINALISTS = 2
"""Values of a search that are trained again beside those by hand."""
DIED = "its process ended (out of memory, or killed)"


def best_of(trials: list[FrozenTrial]) -> FrozenTrial:
    """The best trial.

    Raises:
        UserError: none was trained to its end; the message has the reason of the first failure.
    """
    best = ranked(trials)
    if best:
        return best[0]
    reasons = [reason(trial) for trial in trials if trial.state == TrialState.FAIL]
    raise UserError(f"no trial came to its end{f'; the first one failed: {reasons[0]}' if reasons else ''}")


def reason(trial: FrozenTrial) -> str:
    """Why a trial failed."""
    return str(trial.user_attrs.get(WHY, DIED))


def importances(study: Study) -> dict[str, float] | None:
    """The share of each place in the variance of the metric (fANOVA), largest first; None where there are no more
    finished trials than places, from which nothing can be told apart."""
    finished = ranked(kept(study))
    if not finished or len(finished) <= len(finished[0].params) or len({reached(trial) for trial in finished}) == 1:
        return None
    return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target=reached)


def trials_table(trials: list[FrozenTrial], search: Search) -> str:
    """All trials as CSV: number, state, metrics, values, epochs and seconds."""
    metrics = ["recommendation", "search"] if search.pareto else ["metric"]
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["trial", "state", *metrics, *search.space, "epochs", "seconds", "by_hand"])
    for at, trial in enumerate(trials, start=1):
        values = list(trial.values or [""] * len(metrics))
        seconds = round(trial.duration.total_seconds(), 1) if trial.duration else ""
        given = values_of(trial)
        places = [given.get(place, "") for place in search.space]
        by_hand = BY_HAND in trial.user_attrs
        writer.writerow([at, trial.state.name.lower(), *values, *places, trial.last_step or "", seconds, by_hand])
    return rows.getvalue()


def finalists(trials: list[FrozenTrial]) -> tuple[dict[str, Any], ...]:
    """The values of the best trials but for the one by hand, to be trained again with more epochs."""
    others = [trial for trial in ranked(trials) if BY_HAND not in trial.user_attrs]
    return tuple(trial.params for trial in others[:FINALISTS])


def save(
    trials: list[FrozenTrial],
    search: Search,
    metric: str,
    command: str,
    confirmed: tuple[str, list[FrozenTrial]] | None = None,
) -> Path:
    """Write the best values to the model's tuned file for this data set.

    Args:
        confirmed: a larger scale, and the trials there of the best values and of those by hand: the best of these
            counts then.

    Raises:
        UserError: no trial came to its end, or the folder cannot be written.
    """
    scale, decisive = confirmed or (search.scale, trials)
    best = best_of(decisive)
    hand = next((f"{reached(trial):.4f}" for trial in ranked(decisive) if BY_HAND in trial.user_attrs), "failed")
    states = Counter(trial.state for trial in trials)
    trained = [*trials, *(confirmed[1] if confirmed else [])]
    seconds = sum(trial.duration.total_seconds() for trial in trained if trial.duration)
    sections: dict[str, Any] = {"settings": {}, "training": {}}
    for place, value in values_of(best).items():
        section, _, key = place.partition(".")
        sections[section][key] = value
    content = yaml.safe_dump(
        {
            **sections,
            "fixed": {section: dict(values) for section, values in search.fixed.items()},
            "task": search.base.task,
            "candidates": search.base.protocol["candidates"],
            "trials": len(trials),
            "scale": search.scale,
            "study": search.id,
            "confirmed": confirmed[0] if confirmed else None,
        },
        sort_keys=False,
    )
    machine = environment(search.device)["accelerator" if search.device == "cuda" else "processor"]
    header = (
        f"# {search.base.model} on {search.base.dataset}: the best values that Optuna (TPE) found on validation.",
        f"# Expected metric: validation {metric} {reached(best):.4f} (by hand {hand}) at scale {scale}, seed 0.",
        f"# Cost: {duration(seconds)} for {len(trials)} trials, of which {states[TrialState.PRUNED]} were pruned and "
        f"{states[TrialState.FAIL]} failed{f', and {len(confirmed[1])} at scale {scale}' if confirmed else ''}, "
        f"on {machine}.",
        f"# Command: {command}",
    )
    base = search.base
    path = tuned_file(base.model, base.dataset, base.task, base.protocol["candidates"])
    write_text(path, "\n".join([*header, content]))
    read_yaml.cache_clear()
    return path
