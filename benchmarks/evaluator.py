"""Ranks of a model, or of a reference, under the protocol of one run."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.references import Reference
from benchmarks.views import QUESTIONS_OF_PAIRS, RANKING, View, has_slates
from synergen.contract import PairRecommender, Recommender, Requests, Task
from synergen.data.candidates import pools
from synergen.data.dataset import Dataset
from synergen.data.harder_queries import HarderQueries
from synergen.data.slates import SlateQuestion
from synergen.data.splits import EventSplit, Part, PerTask, TimeSplit
from synergen.evaluation.audit import PopularRanker, SeenRanker, leak_shares
from synergen.evaluation.metrics import metrics
from synergen.evaluation.ranking import Report, Scorer, full_ranks, inference, is_spread, pool_ranks
from synergen.evaluation.slates import ShownItems, SlateRanks, SlateScores, catalogue_ranks, shown_items, slate_ranks
from synergen.model.synergen import SynerGen
from synergen.runs import Ranks, RunSpec

_METRICS = ("R@1", "R@5", "R@10", "R@50", "R@200", "N@5", "N@10", "N@50", "N@200", "MRR")
_METRICS_OF_SLATES = ("NDCG", "MRR", "R@1")
_METRICS_OF_REQUESTS = ("NDCG", "MRR", "R@1", "R@10", "R@50", "R@300")  # among a pool or the whole catalogue


class RankingHead(nn.Module):
    """The ranking head of a SynerGen as a scorer."""

    def __init__(self, model: SynerGen) -> None:
        super().__init__()
        self.model = model

    @property
    def first_item(self) -> int | None:
        return self.model.first_item

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        return self.model.rank_logits(requests, candidates)


def has_ranking_head(model: object) -> bool:
    """Whether the model can be read from two heads."""
    return isinstance(model, SynerGen) and model.ranking_head is not None


def head_of(model: Scorer, head: str) -> Scorer:
    """The scorer that reads a model from one of its heads."""
    return RankingHead(model) if head == RANKING and isinstance(model, SynerGen) else model


def means(ranks: Ranks, names: Iterable[str]) -> dict[str, float]:
    """Means of metrics over users, or over requests where users have several."""
    return ranks.metrics(names) if isinstance(ranks, SlateRanks) else metrics(ranks, names)


def kept_metrics(view: View, ranks: Ranks) -> dict[str, float]:
    """The metrics that a record keeps of one set of ranks."""
    if not isinstance(ranks, SlateRanks):
        return means(ranks, _METRICS)
    return means(ranks, _METRICS_OF_SLATES if view.candidates == "slate" else _METRICS_OF_REQUESTS)


def validation_metric(protocol: Mapping[str, Any], task: Task) -> str:
    """The metric that training stops by: one for all tasks, or one for each."""
    name = protocol["validation"]
    return name[str(task)] if isinstance(name, Mapping) else name


class Evaluator(Protocol):
    """Ranks under a protocol; `subject` is anything that the protocol can ask."""

    device: str

    def prepare(self, part: Part, view: View) -> None:
        """Make what questions of this view need of the data, so that nobody's time has it."""

    def ranks(self, subject: Any, part: Part, view: View, report: Report | None = None) -> Ranks: ...


def evaluator_for(dataset: Dataset, spec: RunSpec, device: str) -> "PoolEvaluator | SlateEvaluator":
    """The evaluator that a data set's split calls for."""
    history = spec.protocol["max_history"]
    if isinstance(dataset.split, TimeSplit):
        return SlateEvaluator(dataset.split, history, device)
    return PoolEvaluator(dataset, dataset.split, spec.protocol["negatives"], spec.seed, history, device)


class PoolEvaluator:
    """Questions about single events, among a pool or the whole catalogue."""

    def __init__(
        self, dataset: Dataset, split: EventSplit, negatives: int, seed: int, max_history: int, device: str
    ) -> None:
        self.log, self.split, self.negatives, self.seed = dataset.log, split, negatives, seed
        self.max_history, self.device = max_history, device
        self.harder: HarderQueries | None = None
        """What views of harder queries ask; the models must hold these queries."""
        self._pools: dict[tuple[Part, Task], np.ndarray] = {}

    def prepare(self, part: Part, view: View) -> None:
        """Draw the negatives."""
        if view.candidates != "full" and (part, view.task) not in self._pools:
            drawn = pools(self.log, self.split, part, view.task, self.seed, self.negatives)
            self._pools[part, view.task] = drawn

    def ranks(self, subject: Scorer, part: Part, view: View, report: Report | None = None) -> Ranks:
        """(U,) ranks, NaN where not asked; or those of all questions, where users are asked several."""
        events = self.split.questions(part, view.task)  # (Q,)
        users, found = self.log.users[events], self._ranks_of_questions(subject, part, view, report)
        if (np.diff(users) == 0).any():
            asked = ~np.isnan(found)
            return SlateRanks(events[asked], users[asked], found[asked])
        by_user = np.full(self.log.n_users, np.nan)
        by_user[users] = found
        return by_user

    def _ranks_of_questions(self, subject: Scorer, part: Part, view: View, report: Report | None) -> np.ndarray:
        scorer = head_of(subject, view.head)
        common: dict[str, Any] = {"max_history": self.max_history, "device": self.device, "report": report}
        if view.candidates == "full":
            among = self._sample(part, view.task) if isinstance(scorer, PairRecommender) else None
            return full_ranks(scorer, self.log, self.split, part, view.task, among=among, **common)
        self.prepare(part, view)
        pool = self._pools[part, view.task]
        rephrased = self.harder.numbers[view.queries] if self.harder and view.queries else None
        return pool_ranks(scorer, self.log, self.split, part, view.task, pool, rephrased=rephrased, **common)

    def _sample(self, part: Part, task: Task) -> np.ndarray:
        """Numbers of the questions that models are asked for which the whole catalogue is dear: the same for all."""
        count = len(self.split.questions(part, task))
        chosen = np.random.default_rng(0).permutation(count)[:QUESTIONS_OF_PAIRS]
        return np.sort(chosen)


class SlateEvaluator:
    """All requests with a choice, among what they showed or the whole catalogue."""

    def __init__(self, split: TimeSplit, max_history: int, device: str) -> None:
        self.split, self.max_history, self.device = split, max_history, device

    def prepare(self, part: Part, view: View) -> None:
        """The log says what was shown."""

    def ranks(self, subject: Scorer | Reference, part: Part, view: View, report: Report | None = None) -> SlateRanks:
        """Ranks of all items that got the action wanted."""
        action = len(self.split.log.action_names) - 1 if view.strongest else 1
        rank = catalogue_ranks if view.candidates == "full" else slate_ranks
        with self._scoring(subject, view) as score:
            common: dict[str, Any] = {"max_history": self.max_history, "report": report, "spread": is_spread(subject)}
            return rank(score, self.split, part, view.task, action, **common)

    def shown(self, subject: Scorer, part: Part, view: View, report: Report | None = None) -> ShownItems:
        """Scores of everything that was shown, chosen or not."""
        with self._scoring(subject, view) as score:
            return shown_items(score, self.split, part, view.task, 1, max_history=self.max_history, report=report)

    @contextmanager
    def _scoring(self, subject: Scorer | Reference, view: View) -> Iterator[SlateScores]:
        if isinstance(subject, Reference):
            yield subject.catalogue if view.candidates == "full" else subject.slate
            return
        everything = torch.arange(1, self.split.log.n_items + 1, device=self.device)
        with inference(head_of(subject, view.head)) as score:

            def scores(question: SlateQuestion) -> Tensor:
                candidates = everything if view.candidates == "full" else question.slates.to(self.device)
                return score(question.requests.to(self.device), candidates)

            yield scores


def validate(evaluator: Evaluator, spec: RunSpec, tasks: list[Task]) -> Callable[[Recommender], dict[str, float]]:
    """The protocol's metric on the validation part, under the table's own candidates; the mean over the run's tasks
    comes first."""
    name, candidates = spec.protocol["validation"], spec.protocol["candidates"]

    def values(model: Recommender) -> dict[str, float]:
        by_task = {}
        for task in tasks:
            metric = validation_metric(spec.protocol, task)
            ranks = evaluator.ranks(model, Part.VALID, View(task, candidates))
            by_task[f"{metric} {task}"] = means(ranks, (metric,))[metric]
        return {name if isinstance(name, str) else "mean": float(np.mean(list(by_task.values()))), **by_task}

    return values


def audit(dataset: Dataset, evaluator: Evaluator, protocol: Mapping[str, Any]) -> dict[str, float]:
    """The leak audit's lines: shares, and what two trivial rankers reach under the table's protocol."""
    log, candidates = dataset.log, protocol["candidates"]
    trivial = {
        "was it seen before": SeenRanker(log.n_items),
        "most popular": PopularRanker(dataset.split.item_counts()).to(evaluator.device),
    }
    asked = dict.fromkeys(Task if isinstance(dataset.split, PerTask) else [Task.RECOMMENDATION], "R@10")
    if has_slates(protocol):
        asked = {task: validation_metric(protocol, task) for task in Task}
    shares = leak_shares(log, dataset.split)
    for task, metric in asked.items():
        of = f"{metric} ({task}) of" if len(asked) > 1 else f"{metric} of"
        for name, ranker in trivial.items():
            reached = means(evaluator.ranks(ranker, Part.TEST, View(task, candidates)), (metric,))[metric]
            shares[f"{of} the ranker '{name}' ({candidates})"] = reached
    return shares
