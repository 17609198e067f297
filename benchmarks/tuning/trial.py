"""One trial of a search: a training that is validated, and neither tested nor kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.evaluator import evaluator_for, validate
from benchmarks.fit import build_for, fit, observe, training_of
from benchmarks.inputs import load_for, tasks_of_run, vectors_for
from synergen.contract import Recommender
from synergen.runs import RunSpec

Seen = Callable[[int, float], None]
"""Called with each validated epoch and its metric; what it raises ends the training."""


def best_validation(spec: RunSpec, source: str, device: str, checkpoint: Path, seen: Seen) -> float:
    """The best validation metric that the training of a run reaches: the run itself would reach the same.

    Args:
        checkpoint: of the training, and removed after it, however it ends.

    Raises:
        UserError: settings that make no model, a loss or gradient that is not finite, a GPU whose memory does not
            suffice.
    """
    torch.manual_seed(spec.seed)
    dataset = load_for(source, spec.protocol)
    validated = validate(evaluator_for(dataset, spec, device), spec, tasks_of_run(spec))
    model = build_for(spec, dataset, vectors_for(spec, dataset)).to(device)
    if not model.learns:
        observe(model, dataset)
        return next(iter(validated(model).values()))
    config = training_of(spec)
    epoch = 0

    def reported(model: Recommender) -> dict[str, float]:
        nonlocal epoch
        metrics = validated(model)
        epoch = min(epoch + config.validate_every, config.max_epochs)
        seen(epoch, next(iter(metrics.values())))
        return metrics

    try:
        return fit(model, spec, dataset, reported, checkpoint, device).best_metric
    finally:
        for left in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            left.unlink(missing_ok=True)
