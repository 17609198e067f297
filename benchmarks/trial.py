"""One trial of a search: a training that is validated, and neither tested nor kept."""

from collections.abc import Callable
from pathlib import Path

import torch

from baselines.registry import build
from benchmarks.evaluator import evaluator_for, validate
from benchmarks.job import _observe as observe
from benchmarks.job import data_view, epochs, load_for, tasks_of_run, vectors_for
from synergen.contract import Recommender
from synergen.runs import RunSpec
from synergen.settings import from_mapping
from synergen.training.trainer import TrainingConfig, train

Seen = Callable[[int, float], None]
"""Called with each validated epoch and its metric; what it raises ends the training."""


def best_validation(spec: RunSpec, source: str, device: str, checkpoint: Path, seen: Seen) -> float:
    """The best validation metric that the training of a run reaches: the run itself would reach the same.

    Args:
        checkpoint: of the training, and removed after it, however it ends.

    Raises:
        UserError: settings that make no model, a loss or gradient that is not finite.
    """
    torch.manual_seed(spec.seed)
    dataset = load_for(source, spec.protocol)
    validated = validate(evaluator_for(dataset, spec, device), spec, tasks_of_run(spec))
    text = vectors_for(spec, dataset, lambda stage, state: None)
    model = build(spec.model, data_view(dataset, text), spec.settings).to(device)
    if not model.learns:
        observe(model, dataset)
        return next(iter(validated(model).values()))
    config = from_mapping(TrainingConfig, spec.trainer, f"training of {spec.model}")
    batches, steps = epochs(dataset, spec, config.batch_size)
    done = 0

    def reported(model: Recommender) -> dict[str, float]:
        nonlocal done
        metrics = validated(model)
        done = min(done + config.validate_every, config.max_epochs)
        seen(done, next(iter(metrics.values())))
        return metrics

    try:
        summary = train(model, config, batches, steps, reported, seed=spec.seed, checkpoint=checkpoint, device=device)
    finally:
        for left in (checkpoint, checkpoint.with_suffix(".failed.pt")):
            left.unlink(missing_ok=True)
    return summary.best_metric
