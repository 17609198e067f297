"""Train a model by RecBole as RecBole ships it: its configuration, data loaders and trainer, on one of our logs.

Repository: https://github.com/RUCAIBox/RecBole 1.2.1. Everything is at its defaults (a padded row of 50 events for
each target, batches of 2,048 rows, Adam at 0.001, a validation each epoch, at most 300 epochs, stopped by the eleventh
in a row without a new best), but for:

- `train_neg_sample_args` none, without which RecBole refuses its own loss, the cross-entropy over all items.
- `valid_metric` NDCG@10, which our training stops by, too.
- Times are the ordinals of the events of a user: RecBole holds times in float32, which would reorder close events.
  Its leave-one-out split is then ours.
- The processor computes unless `--device cuda` is given, and seconds are the processor's, of a GPU the clock's.
- No progress bar, no checkpoint at a new best, and no detection of anomalies, which importing one of its modules
  switches on (a training is then some 1.4 times as long). None of these changes a weight: without them the times are
  RecBole's best.

RecBole's full ranking of sequential models keeps the items of the history among the candidates; so the weights of each
epoch are ranked by RecBole and by the evaluator of this benchmark, on test events, too: what an epoch has there is for
the reader of the curve, and stops nothing.

RecBole's BERT4Rec drops the oldest event of every history for the mask; our evaluator drops it only where there are 50.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

if __package__ in (None, ""):  # python benchmarks/shipped.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines.recbole_adapter import RecBoleModel
from baselines.recbole_models import (
    BERT4Rec,
    GRU4Rec,
    RecBoleBERT4Rec,
    RecBoleGRU4Rec,
    RecBoleSASRec,
    SASRec,
)
from benchmarks.inputs import load_for
from benchmarks.spec import load_spec
from synergen.console import exit_status
from synergen.contract import Task
from synergen.data.dataset import Dataset, protocol_for
from synergen.data.sources import find_source
from synergen.data.splits import LeaveOneOut, Part
from synergen.errors import UserError
from synergen.evaluation.metrics import metrics
from synergen.evaluation.ranking import full_ranks
from synergen.events import EventLog
from synergen.files import write_atomically, write_json

for _name, _type in {"float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}.items():
    setattr(np, _name, _type)  # RecBole takes them from NumPy, whose version 2 has them no more

from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.model.abstract_recommender import SequentialRecommender  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

MAX_HISTORY, MAX_EPOCHS, PATIENCE = 50, 300, 10
"""RecBole's MAX_ITEM_LIST_LENGTH, epochs and stopping_step."""
TEST_METRICS = ("R@10", "N@10")


@dataclass(frozen=True)
class Pair:
    """A class of RecBole's and ours that is made of it."""

    theirs: type[SequentialRecommender]
    ours: Callable[..., RecBoleModel]
    max_history: int = MAX_HISTORY
    """Events that ours reads, so that it has as many positions as RecBole's."""


MODELS = {
    "SASRec": Pair(RecBoleSASRec, SASRec),
    "GRU4Rec": Pair(RecBoleGRU4Rec, GRU4Rec),
    "BERT4Rec": Pair(RecBoleBERT4Rec, BERT4Rec, MAX_HISTORY - 1),
}


@dataclass(frozen=True)
class Point:
    """Where a training stood after an epoch."""

    epoch: int
    seconds: float
    """Since the start, without any validation: of the processor, or by the clock where a GPU computes."""
    recbole_ndcg: float
    """Validation NDCG@10 by RecBole, which rounds it to four digits and stops by it."""
    ndcg: float
    """Validation NDCG@10 of the same weights by our evaluator."""
    test: dict[str, float]
    """Test metrics of the same weights by our evaluator."""


@dataclass(frozen=True)
class Curve:
    """A training by RecBole, epoch by epoch."""

    model: str
    dataset: str
    data_hash: str
    users: int
    items: int
    points: list[Point]
    accelerator: str | None = None
    """What computed, None where the processor did."""

    @property
    def finished(self) -> bool:
        """Whether RecBole stops here, by its patience or for good; a metric that is equalled counts as a new best."""
        if not self.points:
            return False
        best = max(self.points, key=lambda point: (point.recbole_ndcg, point.epoch))
        return self.points[-1].epoch - best.epoch > PATIENCE or self.points[-1].epoch >= MAX_EPOCHS

    @property
    def best(self) -> Point:
        """The best epoch on validation, by our evaluator."""
        return max(self.points, key=lambda point: point.ndcg)


class TimedTrainer(Trainer):
    """RecBole's trainer with a clock that runs while it trains."""

    seconds = 0.0
    """Of the processor, which other programs do not lengthen; by the clock where a GPU computes."""

    def _train_epoch(self, *args: Any, **kwargs: Any) -> Any:
        clock = time.process_time if self.device.type == "cpu" else time.perf_counter
        start = clock()
        loss = super()._train_epoch(*args, **kwargs)
        self.seconds += clock() - start
        return loss


@dataclass(frozen=True)
class Shipped:
    """What RecBole makes of a log."""

    pair: Pair
    trainer: TimedTrainer
    train: Any  # its data loaders
    valid: Any
    item_numbers: torch.Tensor  # (V + 1,): its number of each of our items

    def ours(self, dataset: Dataset) -> RecBoleModel:
        """Our model of RecBole's sizes with the present weights of RecBole's; in training mode."""
        model = self.pair.ours(dataset.view(None, None), max_history=self.pair.max_history)
        weights, table = self.trainer.model.state_dict(), "item_embedding.weight"
        numbers = self.item_numbers.to(weights[table].device)
        weights[table] = torch.cat([weights[table][numbers], weights[table][len(numbers) :]])
        if (bias := "output_bias") in weights:
            weights[bias] = weights[bias][numbers]
        model.net.load_state_dict(weights)
        return model.to(self.trainer.device)


@contextmanager
def shipped(log: EventLog, model: str = "SASRec", device: str = "cpu", **options: Any) -> Iterator[Shipped]:
    """RecBole's model of that name on a log, with further `options` of its configuration; its files are temporary."""
    pair = MODELS[model]
    with _surroundings():
        _export(log, Path("dataset/log/log.inter"))
        config = Config(
            pair.theirs,
            "log",
            config_dict={
                "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
                "train_neg_sample_args": None,
                "valid_metric": "NDCG@10",
                "gpu_id": "" if device == "cpu" else os.environ.get("CUDA_VISIBLE_DEVICES", "0"),
                "show_progress": False,
                **options,
            },
        )
        init_seed(config["seed"], config["reproducibility"])
        dataset = create_dataset(config)
        train, valid, _ = data_preparation(config, dataset)
        init_seed(config["seed"], config["reproducibility"])
        trainer = TimedTrainer(config, pair.theirs(config, train.dataset).to(config["device"]))
        tokens = [str(item) for item in range(1, log.n_items + 1)]
        numbers = np.concatenate([[0], dataset.token2id(dataset.iid_field, tokens)])
        yield Shipped(pair, trainer, train, valid, torch.from_numpy(numbers))


def training_curve(
    dataset: Dataset,
    file: Path,
    report: Callable[[Point], None],
    model: str = "SASRec",
    device: str = "cpu",
    **options: Any,
) -> Curve:
    """Train to the end, or go on from where the training that writes this file was stopped.

    Args:
        file: JSON, the curve so far; the state of an unfinished training lies beside it.
        options: of RecBole's configuration.

    Raises:
        UserError: the data set is split otherwise than RecBole can, the file cannot be written, or it is the curve of
            another training.
    """
    log, split = dataset.log, dataset.split
    if not isinstance(split, LeaveOneOut):
        raise UserError(
            f"{log.name}: RecBole is compared under leave-one-out only, and this data set has another split"
        )
    curve = Curve(model, log.name, log.data_hash, log.n_users, log.n_items, [], _named(device))
    if file.exists():
        known = read_curve(file)
        if replace(known, points=[]) != curve:
            raise UserError(
                f"{file}: a training of {known.model} on {known.dataset} ({known.users:,} users), not of {model} on "
                f"{log.name} ({log.n_users:,} users); name another file"
            )
        curve = known
    if curve.finished:
        return curve
    state, points = file.with_suffix(".state"), curve.points
    with shipped(log, model, device, **options) as theirs:
        trainer = theirs.trainer
        del points[_resume(theirs, state) if state.exists() else 0 :]

        def after_epoch(epoch: int, recbole_ndcg: float) -> None:
            ours = theirs.ours(dataset)
            ndcg = _ranked(ours, dataset, Part.VALID, "N@10")["N@10"]
            test = _ranked(ours, dataset, Part.TEST, *TEST_METRICS)
            points.append(Point(epoch + 1, trainer.seconds, float(recbole_ndcg), ndcg, test))
            write_json(file, asdict(curve))
            _save(theirs, len(points), state)
            report(points[-1])

        trainer.fit(theirs.train, theirs.valid, verbose=False, saved=False, callback_fn=after_epoch)
    return curve


def _named(device: str) -> str | None:
    return None if device == "cpu" else torch.cuda.get_device_name()


def read_curve(file: Path) -> Curve:
    """A training that `training_curve` wrote.

    Raises:
        UserError: there is no such file, or it is none of these.
    """
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        return Curve(**{**known, "points": [Point(**point) for point in known["points"]]})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: no training curve of benchmarks/shipped.py: {error}") from error


def _ranked(model: RecBoleModel, dataset: Dataset, part: Part, *names: str) -> dict[str, float]:
    assert isinstance(dataset.split, LeaveOneOut)
    device = str(next(model.parameters()).device)
    ranks = full_ranks(
        model, dataset.log, dataset.split, part, Task.RECOMMENDATION, max_history=MAX_HISTORY, device=device
    )
    return metrics(ranks, names)


def table_dataset(name_or_folder: str, max_users: int | None = None) -> Dataset:
    """A data set as table 2 has it, or a sample of its users.

    Raises:
        UserError: there is none of this name, its data are bad, or no such sample can be drawn.
    """
    protocol = protocol_for(find_source(name_or_folder), load_spec(2).protocol)
    return load_for(name_or_folder, {**protocol, "max_users": max_users})


def _save(theirs: Shipped, epochs: int, path: Path) -> None:
    trainer = theirs.trainer
    state = {
        "epochs": epochs,
        "model": trainer.model.state_dict(),
        "optimiser": trainer.optimizer.state_dict(),
        "seconds": trainer.seconds,
        "best": float(trainer.best_valid_score),
        "epochs_since": trainer.cur_step,
        "random": torch.get_rng_state(),
        "random_of_gpu": torch.cuda.get_rng_state() if trainer.device.type == "cuda" else None,
        "masks": random.getstate(),
        "order": theirs.train.generator.get_state(),
    }
    write_atomically(path, lambda temporary: torch.save(state, temporary))


def _resume(theirs: Shipped, path: Path) -> int:
    """Go back to a state that `_save` wrote; returns the epochs behind it."""
    state, trainer = torch.load(path, weights_only=True, map_location="cpu"), theirs.trainer
    trainer.model.load_state_dict(state["model"])
    trainer.optimizer.load_state_dict(state["optimiser"])
    trainer.seconds, trainer.best_valid_score = state["seconds"], state["best"]
    trainer.start_epoch, trainer.cur_step = state["epochs"], state["epochs_since"]
    torch.set_rng_state(state["random"])
    if trainer.device.type == "cuda":
        torch.cuda.set_rng_state(state["random_of_gpu"])
    random.setstate(state["masks"])
    theirs.train.generator.set_state(state["order"])
    return state["epochs"]


def _export(log: EventLog, path: Path) -> None:
    """RecBole's atomic file: our numbers for names, and the ordinal of each event of its user for its time."""
    table = pl.DataFrame(
        {
            "user_id:token": log.users,
            "item_id:token": log.items,
            "timestamp:float": np.arange(log.n_events) - log.offsets[log.users],
        }
    )
    path.parent.mkdir(parents=True)
    table.write_csv(path, separator="\t")


@contextmanager
def _surroundings() -> Iterator[None]:
    """What RecBole reads and changes: it parses the command line, writes into the working folder, and says which
    devices may be used. What pandas warns it of is not said: it is none of the user's business."""
    devices, arguments, folder = os.environ.get("CUDA_VISIBLE_DEVICES"), sys.argv, Path.cwd()
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"recbole\.")
        os.chdir(temporary)
        sys.argv = sys.argv[:1]
        try:
            yield
        finally:
            os.chdir(folder)
            sys.argv = arguments
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            if devices is not None:
                os.environ["CUDA_VISIBLE_DEVICES"] = devices


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dataset", help="a data set by name or folder, filtered and split as for table 2")
    p.add_argument("--model", default="SASRec", choices=tuple(MODELS), help="default %(default)s")
    p.add_argument(
        "--max-users", type=int, metavar="N", help="a sample of so many users or fewer, as of run.py --max-users"
    )
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="what computes; default %(default)s")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="the curve as JSON; resumable")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    dataset, file = table_dataset(options.dataset, options.max_users), options.out.resolve()
    training_curve(
        dataset, file, lambda point: print(json.dumps(asdict(point)), flush=True), options.model, options.device
    )


if __name__ == "__main__":
    sys.exit(main())
