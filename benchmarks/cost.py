"""What the models of Table 3 cost on a data set: seconds an epoch, milliseconds a request, parameters."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch

from baselines.registry import MODELS
from benchmarks.fit import build_for, epochs, observe, training_of
from benchmarks.inputs import load_for, tasks_of_run, vectors_for
from benchmarks.measure import Setting
from benchmarks.plan import make_run
from benchmarks.spec import load_spec
from synergen.contract import Recommender
from synergen.data.batches import questions
from synergen.data.dataset import Dataset
from synergen.data.splits import EventSplit, Part
from synergen.evaluation.ranking import inference
from synergen.runs import RunSpec
from synergen.training.step import make_optimiser, take_step

_STEPS, _REQUESTS, _POOL = 16, 256, 100
"""Of a turn: steps of training, and requests with their candidates."""


@dataclass(frozen=True)
class Cost:
    """Of one model; seconds are the processor's where there is one thread."""

    model: str
    parameters: int
    seconds_an_epoch: float | None
    """None where nothing is trained."""
    milliseconds_a_request: float
    """To score a pool of 100 candidates, in a batch of 256 random requests of the test part."""


def costs(source: str, name: str, setting: Setting) -> Iterator[Cost]:
    """The rows of Table 3 whose models are registered, one after the other, with the settings of scale cpu.

    Args:
        source: the data set's name or folder; `name` is what its settings are called after.

    Raises:
        UserError: there is no such data set, or its data are bad.
    """
    spec = load_spec(3)
    for row in spec.rows:
        if row.model in MODELS:
            run = make_run(row.model, row.task, row.settings, spec.protocol, name, "cpu", 0)
            yield _cost(run, load_for(source, run.protocol), setting)


def _cost(run: RunSpec, dataset: Dataset, setting: Setting) -> Cost:
    torch.manual_seed(0)
    model = build_for(run, dataset, vectors_for(run, dataset))
    parameters = sum(parameter.numel() for group in model.parameter_groups().values() for parameter in group)
    epoch = None
    if model.learns:
        epoch = _seconds_an_epoch(model, run, dataset, setting)
    else:
        observe(model, dataset)
    return Cost(run.model, parameters, epoch, _milliseconds_a_request(model, run, dataset, setting))


def _seconds_an_epoch(model: Recommender, run: RunSpec, dataset: Dataset, setting: Setting) -> float:
    training = training_of(run)
    rates = {"dense": training.learning_rate, "sparse": training.sparse_learning_rate}
    optimiser = make_optimiser(model.train(), rates, training.weight_decay, training.row_updates)
    autocast = setting.dtype if setting.dtype is torch.bfloat16 else None
    batches, steps = epochs(dataset, run, training)

    def turn() -> None:
        for batch in islice(batches(1), _STEPS):
            take_step(model, optimiser, batch, training.clip_norm, autocast)

    (seconds,) = setting.seconds(turn)
    return statistics.median(seconds) * steps / min(steps, _STEPS)


def _milliseconds_a_request(model: Recommender, run: RunSpec, dataset: Dataset, setting: Setting) -> float:
    assert isinstance(dataset.split, EventSplit)  # as table 3 has it
    history = run.protocol["max_history"]
    found = []
    for task in tasks_of_run(run):
        count = len(dataset.split.questions(Part.TEST, task))
        some = np.random.default_rng(0).permutation(count)[:_REQUESTS]
        found.append(next(questions(dataset.log, dataset.split, Part.TEST, task, history, _REQUESTS, some)).requests)
    with inference(model) as score:
        actions = [
            partial(score, requests, torch.randint(1, dataset.log.n_items + 1, (len(requests.times), _POOL)))
            for requests in found
        ]
        turns = setting.seconds(*actions)
    return 1e3 * statistics.mean(
        statistics.median(seconds) / len(requests.times) for seconds, requests in zip(turns, found, strict=True)
    )
