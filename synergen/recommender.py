"""The trained model as a person uses it.

recommender = Recommender.load("0123456789ab", out="out")
print(recommender.search([("B00X4WHP5E", 1404777600)], "wool socks"))
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, cast

import pandas as pd

from synergen.answers import Answer
from synergen.errors import UserError
from synergen.histories import EventLike, History, Past, is_batch
from synergen.index import Kind
from synergen.model.synergen import Encoded
from synergen.model_files import SavedModel, load_model, model_folder
from synergen.serving import Asked, ServedModel, Time

Answers = Answer | list[Answer]
"""Of one history, or of each in a list."""

_AT_ONCE = 256
"""Histories encoded at a time."""


class Recommender:
    """A trained SynerGen model that answers for histories.

    `recommend`, `search` and `rank` take one history and return an `Answer`, or a list of histories and return a list;
    `at`, `query` and `candidates` may then be lists with one for each history.

    - `at`, when the user asks, is by default one second after the last event; it may not lie before that event.
    - `action` is what the user shall do, by default the most frequent action of the training log. Where actions are
      outcomes, such as ratings, there is none to ask for.
    - Events of unknown items are left out and counted in `Answer.skipped`. A user without history gets the model's
      prior, whatever the time.
    - `exclude_seen` removes the items of the history from the answer; by default as the run was tested: yes after a
      leave-one-out split, no on requests with impressions.
    - k beyond the catalogue gives the whole catalogue.
    - Items without training events are known by their text alone, as those of `add_items` are.

    One recommender serves one thread at a time.

    Raises:
        UserError: by all methods, for what the caller can mend: an unreadable history or one out of order, an unknown
            name, an empty query, k below 1.
    """

    def __init__(self, saved: SavedModel, index: Kind = "flat", device: str = "cpu") -> None:
        self.served = ServedModel(saved, index, device)

    @classmethod
    def load(cls, run: str | Path, out: str | Path = "out", index: Kind = "flat", device: str = "cpu") -> Self:
        """The model of a run.

        Args:
            run: the id of a run whose results are in the folder `out`, or a folder of model files.
            index: how the catalogue is searched: exactly (flat), or by an approximate index (ivf, hnsw), which is
                built once and kept with the model files.

        Raises:
            UserError: there is no such model, its files are damaged, or it is not SynerGen.
        """
        folder = Path(run) if Path(run).is_dir() else model_folder(Path(out), str(run))
        return cls(load_model(folder), index, device)

    def recommend(
        self,
        history: History | list[History],
        k: int = 10,
        at: Time | list[Time] | None = None,
        action: str | None = None,
        exclude_seen: bool | None = None,
    ) -> Answers:
        """The k items that the user is likeliest to want next, by the score of the retrieval head."""

        def answer(pasts: list[Past], encoded: Encoded, at: list[Time | None]) -> list[Answer]:
            return self.served.retrieve(pasts, encoded, Asked(at, None, action), k, exclude_seen)

        return self._each(history, answer, at=at)

    def search(
        self,
        history: History | list[History],
        query: str | list[str],
        k: int = 10,
        at: Time | list[Time] | None = None,
        action: str | None = None,
        exclude_seen: bool | None = None,
    ) -> Answers:
        """The k items that the user is likeliest to want for a query, by the score of the retrieval head."""

        def answer(pasts: list[Past], encoded: Encoded, at: list[Time | None], query: list[str]) -> list[Answer]:
            return self.served.retrieve(pasts, encoded, Asked(at, query, action), k, exclude_seen)

        return self._each(history, answer, at=at, query=query)

    def rank(
        self,
        history: History | list[History],
        candidates: Sequence[Any],
        query: str | list[str] | None = None,
        at: Time | list[Time] | None = None,
        action: str | None = None,
    ) -> Answers:
        """All candidates in order: by the probability of the ranking head, or by score where the model has none.

        Raises:
            UserError: also for a candidate that is unknown or named twice.
        """

        def answer(
            pasts: list[Past],
            encoded: Encoded,
            at: list[Time | None],
            query: list[str | None],
            candidates: list[Sequence[Any]],
        ) -> list[Answer]:
            queries = None if query[0] is None else cast(list[str], query)
            return self.served.rank(pasts, encoded, Asked(at, queries, action), candidates)

        own = candidates if candidates and isinstance(candidates[0], list) else tuple(candidates)
        return self._each(history, answer, at=at, query=query, candidates=own)

    def open(self, history: History = ()) -> "Session":
        """A history that is encoded once for any number of answers, and can grow."""
        return Session(self.served, self.served.numbering.extend(Past(), history))

    def add_items(self, items: pd.DataFrame) -> None:
        """Add items that the model has not seen, known by their text alone, to the catalogue and the index.

        Args:
            items: columns item, title and optionally categories, as in the items table of a data set folder.

        Raises:
            UserError: a model that reads no text; an item that is known, named twice, or without text.
        """
        self.served.add_items(items)

    def build_index(self, kind: Kind) -> None:
        """Search the catalogue by a new index from now on. Approximate ones are kept with the model files, unless items
        were added."""
        self.served.build_index(kind)

    def _each(self, history: History | list[History], answer: Callable[..., list[Answer]], **given: Any) -> Answers:
        """`answer` for one history or, in batches, for many; what is `given` is shared, or a list of one a history."""
        many = is_batch(history)
        histories = cast(list[History], history if many else [history])
        pasts = [self.served.numbering.extend(Past(), one) for one in histories]
        columns = {name: _one_each(value, len(pasts), name) for name, value in given.items()}
        answers: list[Answer] = []
        for start in range(0, len(pasts), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            own = {name: values[part] for name, values in columns.items()}
            answers += answer(pasts[part], self.served.encode(pasts[part]), **own)
        return answers if many else answers[0]


class Session:
    """A user's history, kept encoded.

    An appended event costs one token. Once the history is longer than the model's `max_history`, the last
    `max_history` events are encoded anew at each event, as the window then starts later: answers are always those that
    `Recommender` gives for the whole history.
    """

    def __init__(self, served: ServedModel, past: Past) -> None:
        self._served, self.past = served, past
        self.encoded = served.encode([past])

    def append(self, event: EventLike) -> None:
        """Take one more event, no earlier than the last one."""
        past = self._served.numbering.extend(self.past, [event])
        if len(past) > len(self.past):
            self.encoded = self._served.extend(self.encoded, past)
        self.past = past

    def recommend(
        self, k: int = 10, at: Time | None = None, action: str | None = None, exclude_seen: bool | None = None
    ) -> Answer:
        """See `Recommender.recommend`."""
        return self._served.retrieve([self.past], self.encoded, Asked([at], None, action), k, exclude_seen)[0]

    def search(
        self,
        query: str,
        k: int = 10,
        at: Time | None = None,
        action: str | None = None,
        exclude_seen: bool | None = None,
    ) -> Answer:
        """See `Recommender.search`."""
        return self._served.retrieve([self.past], self.encoded, Asked([at], [query], action), k, exclude_seen)[0]

    def rank(
        self, candidates: Sequence[Any], query: str | None = None, at: Time | None = None, action: str | None = None
    ) -> Answer:
        """See `Recommender.rank`."""
        asked = Asked([at], None if query is None else [query], action)
        return self._served.rank([self.past], self.encoded, asked, [candidates])[0]


def _one_each(value: Any, count: int, name: str) -> list[Any]:
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise UserError(f"{name}: {len(value)} values for {count} histories; give one for each, or one for all")
    return value
