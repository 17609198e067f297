"""The one training loop, for every model that learns by gradient."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from synergen import distributed
from synergen.contract import Batch, Recommender
from synergen.errors import UserError
from synergen.files import digest
from synergen.precision import autocast_dtype
from synergen.settings import LATER
from synergen.training.checkpoint import load_checkpoint, save_checkpoint
from synergen.training.step import Step, make_optimiser, take_step
from synergen.training.table_files import TableFiles


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. The same fields, patience and validation metric for every model of a table."""

    learning_rate: float = 1e-3
    """AdamW, dense parameters (paper section 4.3: 0.001)."""
    sparse_learning_rate: float = 3e-3
    """AdamW, embedding tables (paper section 4.3: 0.003)."""
    weight_decay: float = 0.0
    beta2: float = field(default=0.999, metadata=LATER)
    """AdamW: how much of the mean square gradient a step keeps."""
    batch_size: int = 128
    """Average training windows a step; see data.batches."""
    window_stride: int = field(default=0, metadata=LATER)
    """Events between a user's training windows; 0 is half of max_history. With fewer, more of the targets have as many
    events before them as the test events have, and an epoch costs more."""
    max_epochs: int = 200
    patience: int = 10
    """Validations without a new best before stopping."""
    validate_every: int = 1
    """Epochs between validations."""
    clip_norm: float = 5.0
    decay: bool = field(default=False, metadata=LATER)
    """Lower both rates evenly to 0 by the end of the last epoch: for budgets that are meant to be used up."""
    row_updates: bool = field(default=False, metadata=LATER)
    """Update embedding tables in the rows that a step reads, so that its cost does not grow with the catalogue, where
    the loss samples its negatives; see `RowAdamW` for how that differs from AdamW."""
    precision: str = "auto"
    """auto: bf16 autocast where the processor computes in it; fp32; bf16."""

    def __post_init__(self) -> None:
        if not 0 <= self.beta2 < 1:
            raise UserError(f"beta2 is {self.beta2}; it must be 0 or more and less than 1, such as 0.999")


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for a display."""

    epoch: int
    max_epochs: int
    step: int
    steps: int
    loss: float
    metric: float | None
    best: float | None
    seconds_left: float | None
    """At most, if no early stop comes first."""


@dataclass
class Summary:
    """What happened, as kept in the run record."""

    epochs: int = 0
    best_epoch: int = 0
    best_metric: float = -math.inf
    stopped: str = ""
    seconds: float = 0.0
    processor_seconds: float = 0.0
    """Of this process alone, so that other programs do not lengthen them; on a GPU, those of the host."""
    training_processor_seconds: float = 0.0
    """The same without validation."""
    targets: int = 0
    """That were trained on, or shown where a model learns from some of them."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry a validated epoch: epoch, seconds, targets seen, loss, validation metrics."""


CURVE = ("epoch", "seconds", "targets", "loss", "metric")
"""What a point of the curve says besides the validation metrics."""

Validate = Callable[[Recommender], dict[str, float]]
"""Validation metrics of a model; the first is the one to stop by."""


class Interrupted(Exception):
    """A training was asked to stop; its checkpoint says where it goes on."""


@dataclass
class _Place:
    """Where an epoch stands."""

    step: int = 0
    """Steps that are done."""
    loss: float = 0.0
    """Summed over the targets."""
    targets: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0


def train(
    model: Recommender,
    config: TrainingConfig,
    batches: Callable[[int], Iterable[Batch]],
    steps: int,
    validate: Validate,
    *,
    seed: int,
    checkpoint: Path,
    device: str = "cpu",
    report: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
    save_every: float = 600.0,
) -> Summary:
    """Train with early stopping; on return the model has the weights of its best validated epoch.

    Args:
        batches: the batches of epoch 1, 2, …; must depend on nothing but the epoch.
        steps: batches an epoch, about: for the progress display and for decay.
        checkpoint: written after every epoch, and within one where `stop` or `save_every` say so; if it is there,
            training goes on from it with the same result as without the interruption.
        stop: asked after every step; where it says yes, the state is saved and `Interrupted` raised.
        save_every: seconds without a checkpoint after which one is written within an epoch.

    Raises:
        Interrupted: `stop` said yes.
        UserError: the loss or the gradient of a step is not finite. The step is not taken; the last checkpoint stays,
            and beside it, in `.failed.pt`, are the batch and the weights that it met. Or several GPUs are to update
            rows.
    """
    if config.row_updates and distributed.world() > 1 and device.startswith("cuda"):
        raise UserError(
            "NCCL does not sum the sparse gradients that row_updates makes: set training.row_updates to false, or "
            "spread the item vectors over the processes (SynerGen: embedding: torchrec)"
        )
    optimiser = make_optimiser(model, _rates(config), config.weight_decay, config.row_updates, config.beta2)
    dtype = autocast_dtype(device, config.precision)
    loss_of = distributed.shared(model) if distributed.world() > 1 else None
    tables = TableFiles(checkpoint, model)
    tables.set_rate(config.sparse_learning_rate)
    summary, best_state, resumed = _resume(checkpoint, model, optimiser, tables)
    before = _table_names(summary, resumed)

    def save(within: dict[str, Any] | None = None) -> None:
        nonlocal before
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        now, best = _table_names(summary, within)
        tables.save(now)
        if distributed.rank() == 0:
            save_checkpoint(checkpoint, {**state, "best": best_state, "summary": asdict(summary), "within": within})
        tables.keep(now, best, *before)  # the last ones are those of the checkpoint before this one
        before = now, best

    while not summary.stopped:
        epoch = summary.epochs + 1
        place, first_weights = _begin(model, epoch, seed, resumed)
        resumed = None
        start, processor_start = time.perf_counter() - place.seconds, time.process_time() - place.processor_seconds
        saved = time.monotonic()
        model.train()
        for step, batch in enumerate(islice(batches(epoch), place.step, None), start=place.step + 1):
            count = int(batch.targets.sum())
            batch, own = distributed.share_of(batch)
            batch = batch.to(device)
            if config.decay:
                share = 1 - (epoch - 1 + min(1.0, (step - 1) / steps)) / config.max_epochs
                _set_rates(optimiser, config, share)
                tables.set_rate(share * config.sparse_learning_rate)
            weight = own * distributed.world() / max(1, count)  # gradients are averaged, and losses are means
            done = take_step(model, optimiser, batch, config.clip_norm, dtype, loss_of, weight)
            if not done.taken:
                failed = checkpoint.with_suffix(".failed.pt")
                where = {"epoch": epoch, "step": step, "seed": seed}
                save_checkpoint(failed, {**where, "batch": asdict(batch), "model": model.state_dict()})
                kept = f"; the state after epoch {summary.epochs} is kept in {checkpoint}" if summary.epochs else ""
                raise UserError(
                    f"{_culprit(model, done)} is not finite at epoch {epoch}, step {step}; lower learning_rate "
                    f"or set precision: fp32. The batch and the weights that it met are kept in {failed}{kept}"
                )
            if report:
                left = _seconds_left(start, step / steps, config.max_epochs - epoch, summary)
                last = summary.curve[-1]["metric"] if summary.curve else None
                report(Progress(epoch, config.max_epochs, step, steps, done.loss, last, _best(summary), left))
            of_all, asked = distributed.summed(done.loss * own, stop())
            place.step, place.loss, place.targets = step, place.loss + of_all, place.targets + count
            if asked or distributed.summed(time.monotonic() - saved >= save_every)[0]:
                place.seconds = time.perf_counter() - start
                place.processor_seconds = time.process_time() - processor_start
                random = distributed.gathered(_random_state(device))
                save({"place": asdict(place), "first_weights": first_weights, "random": random})
                saved = time.monotonic()
            if asked:
                raise Interrupted(f"stopped at epoch {epoch}, step {step}; the state is kept in {checkpoint}")
        summary.epochs = epoch
        summary.targets += place.targets
        summary.training_processor_seconds += time.process_time() - processor_start
        if epoch % config.validate_every == 0 or epoch == config.max_epochs:
            metrics = validate(model)
            metric = next(iter(metrics.values()))
            if metric > summary.best_metric:
                summary.best_metric, summary.best_epoch = metric, epoch
                best_state = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
                tables.save(_table_names(summary)[1])
            summary.curve.append(
                {
                    "epoch": epoch,
                    "seconds": round(summary.seconds + time.perf_counter() - start, 2),
                    "targets": summary.targets,
                    "loss": round(place.loss / max(1, place.targets), 5),
                    "metric": round(metric, 6),
                    **metrics,
                }
            )
            if (epoch - summary.best_epoch) // config.validate_every >= config.patience:
                summary.stopped = "early stopping"
        if epoch >= config.max_epochs and not summary.stopped:
            summary.stopped = "epoch limit"
        summary.seconds += time.perf_counter() - start
        summary.processor_seconds += time.process_time() - processor_start
        save()
    model.load_state_dict(best_state)
    tables.load(_table_names(summary)[1])
    model.eval()
    return summary


def _begin(
    model: Recommender, epoch: int, seed: int, resumed: dict[str, Any] | None
) -> tuple[_Place, dict[str, Any] | None]:
    """Begin an epoch, or go on within it; the second value are the weights that it began with, where the model makes
    something of them that a checkpoint within the epoch cannot do without."""
    own = [str(distributed.rank())] if distributed.rank() else []
    torch.manual_seed(int(digest(str(seed), str(epoch), *own)[:12], 16))
    if resumed is None:
        weights = model.state_dict() if model.begins_epochs else None
        first_weights = {k: v.detach().cpu().clone() for k, v in weights.items()} if weights else None
        model.begin_epoch(epoch)
        return _Place(), first_weights
    first_weights = resumed["first_weights"]
    if first_weights is not None:
        weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(first_weights)
        model.begin_epoch(epoch)
        model.load_state_dict(weights)
    if len(resumed["random"]) == distributed.world():  # otherwise the epoch goes on with other random numbers
        state = resumed["random"][distributed.rank()]
        torch.set_rng_state(state["cpu"])
        if state["cuda"] is not None:
            torch.cuda.set_rng_state(state["cuda"])
    return _Place(**resumed["place"]), first_weights


def _random_state(device: str) -> dict[str, Tensor | None]:
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.startswith("cuda") else None,
    }


def _culprit(model: Recommender, done: Step) -> str:
    """The loss with its terms or, where that is finite, the parameters whose gradient is not."""
    if not math.isfinite(done.loss):
        return f"the loss ({', '.join(f'{name} {term.item():.4g}' for name, term in done.terms.items())})"
    names = [n for n, p in model.named_parameters() if p.grad is not None and not p.grad.norm().isfinite()]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"the gradient of {', '.join(names[:3]) or 'all parameters together'}{more}"


def _rates(config: TrainingConfig) -> dict[str, float]:
    return {"dense": config.learning_rate, "sparse": config.sparse_learning_rate}


def _set_rates(optimiser: torch.optim.Optimizer, config: TrainingConfig, share: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = share * _rates(config)[group["name"]]


def _resume(
    path: Path, model: Recommender, optimiser: torch.optim.Optimizer, tables: TableFiles
) -> tuple[Summary, dict[str, Any], dict[str, Any] | None]:
    """What was done, the best weights, and what is known of an unfinished epoch."""
    state = load_checkpoint(path)
    if state is None:
        return Summary(), {}, None
    summary, within = Summary(**state["summary"]), state.get("within")
    model.load_state_dict(state["model"])
    optimiser.load_state_dict(state["optimiser"])
    tables.load(_table_names(summary, within)[0])
    return summary, state["best"], within


def _table_names(summary: Summary, within: dict[str, Any] | None = None) -> tuple[str, str]:
    """What the tables are called as they are now, and as they were after the best epoch."""
    step = f".step{within['place']['step']}" if within else ""
    return f"epoch{summary.epochs}{step}", f"best{summary.best_epoch}"


def _best(summary: Summary) -> float | None:
    return summary.best_metric if summary.curve else None


def _seconds_left(start: float, share: float, epochs_after: int, summary: Summary) -> float:
    now = time.perf_counter() - start
    epoch = summary.seconds / summary.epochs if summary.epochs else now / share
    return max(0.0, epoch - now) + epochs_after * epoch
