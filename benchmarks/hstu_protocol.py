"""The protocol of HSTU's authors, under which numbers of HSTU and of their SASRec are published.

Repository: https://github.com/meta-recsys/generative-recommenders (research). Everything but the last event of each
user trains: of a user the last max_history + 1 events, in batches of random users. Nothing validates: the weights of
the last epoch rank the items that the user has not had, for the last event. Gradients are not clipped.

Deviations: events of one second keep the order of the file, where theirs are sorted in no fixed order; and negatives
and candidates are the items that have events, where theirs are all that are listed (ml-1m: 3,883 films, not 3,706).
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.fit import build_for, training_of
from benchmarks.inputs import Known
from benchmarks.plan import make_run, read_yaml
from benchmarks.size import device_memory, out_of_memory
from synergen.contract import Batch, Recommender, Task
from synergen.data.batches import gather, tensor
from synergen.data.dataset import Dataset
from synergen.data.splits import LeaveOneOut, Part
from synergen.errors import unknown_name
from synergen.evaluation.metrics import metrics
from synergen.evaluation.ranking import full_ranks
from synergen.events import EventLog
from synergen.runs import RunSpec
from synergen.training.trainer import Summary, train

PUBLISHED = Path(__file__).resolve().parent / "published_hstu.yaml"
METRICS = ("R@10", "N@10", "R@50", "N@50", "R@200", "N@200")

_NO_CLIPPING = 1e30
"""A norm that no gradient has, and that JSON can write."""

Report = Callable[[str, dict[str, Any]], None]
"""Called with a stage (training, testing) and its state."""


@dataclass(frozen=True)
class AllButLast(LeaveOneOut):
    """Per user: the last event tests, the rest trains; nothing validates."""

    def train_ends(self) -> np.ndarray:
        return self.log.offsets[1:] - 1

    def targets(self, part: Part) -> np.ndarray:
        if part is Part.VALID:
            raise ValueError("nothing validates where everything but the last event trains")
        return super().targets(part)


def published_run(model: str, dataset: str, seed: int) -> RunSpec:
    """The run that numbers are published for.

    Raises:
        UserError: there are none of this model on this data set.
    """
    told = read_yaml(PUBLISHED)
    if dataset not in told:
        raise unknown_name("data set", dataset, told, where=PUBLISHED.name)
    epochs, known = told[dataset]["epochs"], told[dataset]["models"]
    if model not in known:
        raise unknown_name("model", model, known, where=f"{PUBLISHED.name}, {dataset}")
    protocol = {"split": "all but the last", "max_history": told[dataset]["max_history"], "candidates": "full"}
    training = {
        "max_epochs": epochs,
        "validate_every": epochs,
        "clip_norm": _NO_CLIPPING,
        "precision": "fp32",
    }
    return make_run(model, str(Task.RECOMMENDATION), {}, protocol, dataset, "paper", seed, training, by_hand=True)


def reproduce(spec: RunSpec, log: EventLog, checkpoint: Path, device: str, report: Report) -> Summary:
    """Train from nothing, or go on from the checkpoint; the last point of the curve has the metrics of the test.

    Raises:
        UserError: bad settings, a loss or gradient that is not finite, a GPU without enough memory, or a checkpoint
            that cannot be written.
    """
    split, max_history, config = AllButLast(log), spec.protocol["max_history"], training_of(spec)
    torch.manual_seed(spec.seed)
    model = build_for(spec, Dataset(log, split, query_rule=""), None).to(device)

    def batches(epoch: int) -> Iterator[Batch]:
        return last_windows(split, max_history, config.batch_size, np.random.default_rng([spec.seed, epoch]))

    def tested(done: int, total: int) -> None:
        report("testing", {"task": spec.task, "candidates": "full", "done": done, "total": total})

    def test(model: Recommender) -> dict[str, float]:
        ranks = full_ranks(
            model, log, split, Part.TEST, Task.RECOMMENDATION, max_history=max_history, device=device, report=tested
        )
        return metrics(ranks, METRICS)

    try:
        return train(
            model,
            config,
            batches,
            steps=-(-log.n_users // config.batch_size),
            validate=test,
            seed=spec.seed,
            checkpoint=checkpoint,
            device=device,
            report=lambda progress: report("training", asdict(progress)),
        )
    except torch.OutOfMemoryError as error:
        raise out_of_memory(spec, Known(log.n_items, log.n_users), device_memory(device)) from error


def last_windows(split: AllButLast, max_history: int, batch_size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch: the last max_history + 1 training events of every user, `batch_size` random users at a time."""
    stops = split.train_ends()
    starts = np.maximum(split.log.offsets[:-1], stops - max_history - 1)
    users = rng.permutation(split.log.n_users)
    for at in range(0, len(users), batch_size):
        chosen = users[at : at + batch_size]
        events = gather(split.log, starts[chosen], stops[chosen])
        yield Batch(events, events.valid, torch.zeros_like(events.actions), tensor(chosen))
