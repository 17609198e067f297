"""Which events a run learns from. Expected values: the kinds of the log's events."""

import pytest

from benchmarks.fit import epochs, only_targets, training_of
from benchmarks.plan import make_run
from benchmarks.spec import load_spec
from synergen.contract import Task
from synergen.data.dataset import Dataset


@pytest.mark.parametrize(
    ("model", "task", "expected"),
    [
        ("SynerGen", "joint", None),
        ("SynerGen", "search", Task.SEARCH),
        ("UniSAR", "recommendation", Task.RECOMMENDATION),
        ("SASRec", "recommendation", None),  # knows one task only, and learns from all events
        ("TEM", "search", None),
    ],
)
def test_models_of_both_tasks_learn_from_the_events_of_the_task_that_they_are_run_for(
    toy: Dataset, model: str, task: str, expected: Task | None
) -> None:
    run = make_run(model, task, {}, load_spec(3).protocol, "toy", "smoke", 0)
    assert only_targets(run) is expected
    batches, _ = epochs(toy, run, training_of(run))
    kinds = {bool(query) for batch in batches(1) for query in (batch.events.queries > 0)[batch.targets]}
    assert kinds == ({False, True} if expected is None else {expected is Task.SEARCH})
