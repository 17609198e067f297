"""One trial of a search: a training that is validated, and neither tested nor kept."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.evaluator import evaluator_for, validate
from benchmarks.fit import build_for, fit, observe
from benchmarks.inputs import load_for, tasks_of_run, vectors_for
from synergen.contract import Recommender
from synergen.runs import RunSpec
from synergen.training.trainer import CURVE, Interrupted, Progress

Seen = Callable[[int, float], None]
"""Called with each validated epoch and its metric; what it raises ends the training."""


def best_validation(
    spec: RunSpec, source: str, device: str, checkpoint: Path, seen: Seen, stop: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """The validation metrics of the best epoch of a run's training, the decisive one first: the run itself would reach
    the same.

    Args:
        checkpoint: of the training, and removed after it, however it ends, unless `stop` ended it.

    Raises:
        Interrupted: `stop` said yes; the checkpoint is where the training goes on.
        UserError: settings that make no model, a loss or gradient that is not finite, a GPU whose memory does not
            suffice.
    """
    dataset = load_for(source, spec.protocol)
    validated = validate(evaluator_for(dataset, spec, device), spec, tasks_of_run(spec))
    text = vectors_for(spec, dataset)
    torch.manual_seed(spec.seed)
    model = build_for(spec, dataset, text).to(device)
    if not model.learns:
        observe(model, dataset)
        return validated(model)
    epoch = 0

    def note(progress: Progress) -> None:
        nonlocal epoch
        epoch = progress.epoch

    def reported(model: Recommender) -> dict[str, float]:
        metrics = validated(model)
        seen(epoch, next(iter(metrics.values())))
        return metrics

    try:
        summary = fit(model, spec, dataset, reported, checkpoint, device, note, stop)
    except Interrupted:
        raise
    except BaseException:
        _remove(checkpoint)
        raise
    _remove(checkpoint)
    best = next(point for point in summary.curve if point["epoch"] == summary.best_epoch)
    return {name: value for name, value in best.items() if name not in CURVE}


def _remove(checkpoint: Path) -> None:
    for left in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
