"""Which sets of ranks a run keeps."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from synergen.contract import Task
from synergen.data.harder_queries import KINDS

RETRIEVAL, RANKING = "retrieval", "ranking"
"""The two heads that a model may be read from; most models have the first one only."""

QUESTIONS_OF_PAIRS = 2_000
"""Questions that a `PairRecommender` is asked about the whole catalogue, each of them a network over V pairs."""


@dataclass(frozen=True)
class View:
    """One set of ranks: of a task, among some candidates, by one head of the model."""

    task: Task
    candidates: str
    """pool, slate (what the request showed) or full (the whole catalogue)."""
    head: str = RETRIEVAL
    strongest: bool = False
    """Whether the strongest action of the log is wanted, and not any; where requests have slates."""
    queries: str | None = None
    """How queries are made harder, a kind of `synergen.data.harder_queries`; None where they stay as they are."""

    @property
    def name(self) -> str:
        """What records and specifications call it, beside its task."""
        asked = [self.candidates, *(["strongest action"] if self.strongest else []), *filter(None, [self.queries])]
        return view_name(", ".join(asked), self.head)


def view_name(candidates: str, head: str) -> str:
    """The name of candidates as `head` ranks them."""
    return candidates if head == RETRIEVAL else f"{candidates}, {head} head"


def has_slates(protocol: Mapping[str, Any]) -> bool:
    """Whether a protocol asks about what requests showed."""
    return protocol.get("candidates") == "slate"


def views(tasks: Iterable[Task], protocol: Mapping[str, Any], has_ranking_head: bool, n_actions: int) -> list[View]:
    """What is ranked of a run: the protocol's candidates by each head, and the whole catalogue by the retrieval head;
    pools also for harder queries, where searches are part of the protocol.

    The whole catalogue is too dear for a ranking head, and on slates for a recommendation that no table asks for.
    """
    slates = has_slates(protocol)
    heads = [head for head in protocol.get("heads", [RETRIEVAL]) if head == RETRIEVAL or has_ranking_head]
    found = []
    for task in tasks:
        found += [View(task, protocol["candidates"], head) for head in heads]
        if slates and task is Task.RECOMMENDATION and n_actions > 1:
            found += [View(task, "slate", head, strongest=True) for head in heads]
        if not (slates and task is Task.RECOMMENDATION):
            found.append(View(task, "full"))
        if task is Task.SEARCH and protocol["candidates"] == "pool":
            found += [View(task, "pool", queries=kind) for kind in KINDS]
    return list(dict.fromkeys(found))
