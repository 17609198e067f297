"""Which runs one table may hold side by side; the others are left out by name, with the reason."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.evaluator import means
from synergen.runs import Run, RunSpec


def admitted(runs: Mapping[str, Sequence[Run]], dataset: str | None) -> tuple[dict[str, list[Run]], list[str]]:
    """The runs of one data set with one content, one protocol and one scale (models that learn nothing have none), and
    a line for each run that differs: from the data set asked for, else from what most runs have.

    Args:
        runs: by method, one a seed.
    """
    kept = {method: list(own) for method, own in runs.items()}
    lines: list[str] = []
    named = (fact for own in runs.values() for run in own for fact in _facts(run))
    for fact in dict.fromkeys(("data set", *named)):
        counts = Counter(value for own in kept.values() for run in own if (value := _facts(run).get(fact)) is not None)
        if not counts:
            continue
        usual = dataset if fact == "data set" and dataset is not None else counts.most_common(1)[0][0]
        for method, own in kept.items():
            differing = {id(run): value for run in own if (value := _facts(run).get(fact)) not in (usual, None)}
            lines += [
                f"{_named(run, method)}: its {fact} is {differing[id(run)]}, the table's {usual}."
                for run in own
                if id(run) in differing
            ]
            kept[method] = [run for run in own if id(run) not in differing]
    return kept, lines


def _facts(run: Run) -> dict[str, str | None]:
    record = run.record
    facts: dict[str, Any] = {"data set": record["dataset"], "data hash": record["data"]["hash"][:12]}
    facts |= {f"protocol {key}": value for key, value in record["protocol"].items()} | {"scale": record["scale"]}
    return {fact: None if value is None else str(value) for fact, value in facts.items()}


def _named(run: Run, method: str) -> str:
    return f"Excluded: run {run.record['id']} ({method}, seed {run.record['seed']})"


def damaged(run_id: str, method: str, seed: int) -> str:
    """A line for a run with a record that cannot be read, or without the ranks to it."""
    return f"Excluded: run {run_id} ({method}, seed {seed}): its record or its ranks are missing or not whole."


def altered(run: Run, method: str) -> str | None:
    """A line for a run whose files are not as they were written: its id must follow from what it says was run, its
    metrics from its ranks. None where all does."""
    record = run.record
    try:
        changed = RunSpec.of(record).id != record["id"]
        wrong = [
            f"{name} of {task} ({candidates})"
            for task, by_candidates in record["metrics"].items()
            for candidates, kept in by_candidates.items()
            for name, value in means(run.ranks[task, candidates], kept).items()
            if not abs(value - kept[name]) < 1e-9
        ]
    except Exception as error:  # whatever a hand may have done to it
        return (
            f"Excluded: run {record.get('id')} ({method}): its record is not whole ({type(error).__name__}: {error})."
        )
    if changed:
        return f"{_named(run, method)}: its id does not follow from its settings, so that its record was edited."
    if wrong:
        return f"{_named(run, method)}: {', '.join(wrong)} does not follow from its ranks, so that one was edited."
    return None
