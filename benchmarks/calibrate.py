"""Is a ranking head's probability the frequency that it claims? What a record keeps of the answer."""

from collections.abc import Sequence
from dataclasses import asdict, astuple
from typing import Any

import numpy as np
from scipy.special import expit

from benchmarks.evaluator import SlateEvaluator
from benchmarks.references import KnownTruth
from benchmarks.views import RANKING, View
from synergen.contract import Recommender, Task
from synergen.data.splits import Part
from synergen.evaluation.calibration import calibration, reliability
from synergen.evaluation.ranking import Report
from synergen.evaluation.slates import ShownItems

BOTH = "both tasks"


def calibration_record(
    model: Recommender, evaluator: SlateEvaluator, known: KnownTruth | None, report: Report
) -> dict[str, Any]:
    """Calibration of the ranking head for clicks on everything that the test part's requests showed, whether or not
    anything was chosen, by task and for both; scalings are fitted on the validation part.

    The bins of both tasks together are kept under `reliability`, so that a plot is a function of records.
    """
    shown = {
        (part, task): evaluator.shown(model, part, View(task, "slate", RANKING), report)
        for part in Part
        for task in Task
    }
    record: dict[str, Any] = {}
    for name, tasks in {BOTH: list(Task), **{str(task): [task] for task in Task}}.items():
        valid, test = (_joined([shown[part, task] for task in tasks]) for part in (Part.VALID, Part.TEST))
        truth = None if known is None else known.slates(test.at, 1)[np.arange(len(test.at)), test.slots]
        found = calibration(test.scores, test.chosen, valid.scores, valid.chosen, truth)
        record[name] = asdict(found)
        if name == BOTH:
            curves = {"ranking head": expit(test.scores), "rescaled": expit(found.temperature(test.scores))}
            curves |= {} if truth is None else {"truth": truth}
            record["reliability"] = {
                curve: asdict(reliability(probability, test.chosen)) for curve, probability in curves.items()
            }
    return record


def _joined(parts: Sequence[ShownItems]) -> ShownItems:
    return ShownItems(*map(np.concatenate, zip(*map(astuple, parts), strict=True)))
