"""A trained model in service: from histories as numbers to answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from synergen.answers import Answer, RankedItem
from synergen.contract import Requests, Task
from synergen.data.dataset import item_text
from synergen.errors import UserError
from synergen.histories import Numbering, Past, as_tensors, padded, seconds
from synergen.index import ItemIndex, Kind, build_index, load_index
from synergen.model.synergen import Encoded, SynerGen
from synergen.model_files import SavedModel, refuse_not_finite
from synergen.raw import Columns, catalogue, listed, refuse_rows
from synergen.text import TextKind, encode_texts

Time = int | datetime


@dataclass(frozen=True)
class Asked:
    """One request of each of B histories; None stands for the defaults."""

    at: Sequence[Time | None]
    queries: Sequence[str] | None = None
    """None in recommendation."""
    action: str | None = None


class ServedModel:
    """A SynerGen model with its catalogue and index, on one device.

    The id vectors of items without training events are set to zero: nothing has taught them who likes the item.
    """

    def __init__(self, saved: SavedModel, index: Kind, device: str) -> None:
        self.saved = saved
        self.model = cast(SynerGen, saved.model).to(device).eval()
        self.device = device
        self.ids, self.titles = list(saved.item_ids), list(saved.titles)
        self._texts, self._text_vectors = saved.view.item_texts, saved.view.item_vectors
        self._known_queries = {text: row for row, text in enumerate(saved.view.query_texts)}
        self.numbering = Numbering(self.ids, saved.actions, saved.usual_action)
        if self.model.items.id is not None:
            untrained = torch.from_numpy(saved.view.item_counts == 0).to(device)
            self.model.items.id.weight.data[untrained] = 0
        self._index = self._open_index(index)

    @torch.inference_mode()
    def encode(self, pasts: Sequence[Past]) -> Encoded:
        """Encode B histories."""
        return self.model.encode(as_tensors(pasts, self.model.config.max_history).to(self.device))

    @torch.inference_mode()
    def extend(self, encoded: Encoded, past: Past) -> Encoded:
        """`past` encoded, where `encoded` is all of it but its last event."""
        if not 1 < len(past) <= self.model.config.max_history:
            return self.encode([past])
        return self.model.extend(encoded, as_tensors([past], 1).to(self.device))

    @torch.inference_mode()
    def retrieve(
        self, pasts: Sequence[Past], encoded: Encoded, asked: Asked, k: int, exclude_seen: bool | None
    ) -> list[Answer]:
        """The k best items of the catalogue for each request, by the retrieval head."""
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise UserError(f"k is {k!r}; ask for a whole number of items, at least 1")
        requests = self.requests(pasts, asked)
        users = self.model.answer(encoded, requests)  # (B, D)
        exclude = self.saved.removes_seen if exclude_seen is None else exclude_seen
        seen = [set(past.items) if exclude else set() for past in pasts]
        fetched = min(len(self.ids) - 1, k + max(map(len, seen)))
        scores, items = self._index.search(users.float().cpu().numpy(), fetched)  # (B, fetched)
        found = [
            [(item, score) for item, score in zip(*row, strict=True) if item not in known][:k]
            for *row, known in zip(items.tolist(), scores.tolist(), seen, strict=True)
        ]
        probabilities = self._probabilities(encoded, requests, [[item for item, _ in row] for row in found])
        return [
            self._answer([(*one, p) for one, p in zip(row, own, strict=True)], past)
            for row, own, past in zip(found, probabilities, pasts, strict=True)
        ]

    @torch.inference_mode()
    def rank(
        self, pasts: Sequence[Past], encoded: Encoded, asked: Asked, candidates: Sequence[Sequence[Any]]
    ) -> list[Answer]:
        """All candidates of each request, by the ranking head, or by the retrieval head where that is all there is."""
        numbers = [self._candidates(own) for own in candidates]
        requests = self.requests(pasts, asked)
        vectors = self.model.items(padded(numbers).to(self.device))  # (B, C, D)
        scores = torch.einsum("bd,bcd->bc", self.model.answer(encoded, requests), vectors).tolist()
        probabilities = self._probabilities(encoded, requests, numbers)
        answers = []
        for own, score, p, past in zip(numbers, scores, probabilities, pasts, strict=True):
            ranked = list(zip(own, score, p, strict=False))  # scores may be padded
            ranked.sort(key=lambda one: one[1] if one[2] is None else one[2], reverse=True)
            answers.append(self._answer(ranked, past))
        return answers

    def requests(self, pasts: Sequence[Past], asked: Asked) -> Requests:
        """What the model is asked.

        Raises:
            UserError: a task that the model was not trained for, a time before the end of the history, an empty query,
                or an action that is unknown or an outcome.
        """
        task = Task.RECOMMENDATION if asked.queries is None else Task.SEARCH
        trained = self.saved.spec.task
        if trained not in ("joint", task):
            raise UserError(f"run {self.saved.spec.id} was trained for {trained}, not for {task}; train a joint one")
        if self.saved.action_is_outcome and asked.action is not None:
            raise UserError(f"action '{asked.action}': the actions of this model are outcomes, which nobody asks for")
        wanted = 0 if self.saved.action_is_outcome else self.numbering.action(asked.action)
        queries = [0] * len(pasts) if asked.queries is None else self._hold_queries(asked.queries)
        return Requests(
            task,
            as_tensors(pasts, self.model.config.max_history),
            torch.tensor([_time(past, at) for past, at in zip(pasts, asked.at, strict=True)]),
            torch.tensor(queries),
            torch.full((len(pasts),), wanted),
        ).to(self.device)

    def item_number(self, item: Any) -> int:
        """The number of an item of the catalogue.

        Raises:
            UserError: it is not there.
        """
        return self._candidates([item])[0]

    def add_items(self, items: pd.DataFrame) -> None:
        """See `Recommender.add_items`."""
        source = "add_items"
        if self._text_vectors is None or self.model.items.text is None:
            raise UserError(
                f"{source}: this model was trained with inputs: id, and nothing is known of a new item's id; train one "
                "with inputs: both or text"
            )
        if Columns.ITEM not in items.columns:
            raise UserError(f"{source}: the table has no column '{Columns.ITEM}'")
        items = items.reset_index(drop=True)
        ids = items[Columns.ITEM]
        refuse_rows(ids.isna(), "item is null", "remove these rows", source)
        refuse_rows(ids.duplicated(), "its item is named twice", "keep one row an item", source)
        known = ids.map(self.numbering.item).notna()
        refuse_rows(known, "its item is in the catalogue already", "remove these rows", source)
        table = catalogue(items, source)
        texts = [
            item_text(title, paths)
            for title, paths in zip(table[Columns.TITLE], listed(table[Columns.CATEGORIES]), strict=True)
        ]
        refuse_rows(
            [not text.strip() for text in texts],
            "its item has no text, by which alone it could be known",
            "give it a title",
            source,
        )

        self._text_vectors = np.concatenate([self._text_vectors, self._encode_texts(texts, "item")])
        self._texts = [*self._texts, *texts]
        self.ids += list(ids)
        self.titles += list(table[Columns.TITLE])
        self.numbering = Numbering(self.ids, self.saved.actions, self.saved.usual_action)
        self.model.items.hold(self._text_vectors, self._texts)
        self._index = build_index(self._item_vectors(), self._index.kind)

    def build_index(self, kind: Kind) -> ItemIndex:
        """See `Recommender.build_index`."""
        self._index = build_index(self._item_vectors(), kind)
        if kind != "flat" and len(self.ids) == len(self.saved.item_ids):
            self._index.save(self._index_path(kind))
        return self._index

    def _open_index(self, kind: Kind) -> ItemIndex:
        path = self._index_path(kind)
        return load_index(path, kind, len(self.ids) - 1) if path.is_file() else self.build_index(kind)

    def _index_path(self, kind: Kind) -> Path:
        return self.saved.folder / f"{kind}.faiss"

    @torch.inference_mode()
    def _item_vectors(self) -> np.ndarray:
        return self.model.item_vectors().float().cpu().numpy()

    def _hold_queries(self, queries: Sequence[str]) -> list[int]:
        """Let the model's query table hold these texts and no others; their numbers."""
        for text in queries:
            if not isinstance(text, str) or not text.strip():
                raise UserError("the query is empty; write what is looked for, or ask for a recommendation")
        assert self.model.queries is not None
        assert self.saved.view.query_vectors is not None
        wanted = [text.strip() for text in queries]
        texts = ["", *sorted(set(wanted))]
        rows = np.array([self._known_queries.get(text, -1) for text in texts])
        vectors = self.saved.view.query_vectors[rows]
        if (rows < 0).any():
            new = [text for text, row in zip(texts, rows, strict=True) if row < 0]
            vectors[rows < 0] = self._encode_texts(new, "query")
        self.model.queries.hold(vectors, texts)
        number = {text: i for i, text in enumerate(texts)}
        return [number[text] for text in wanted]

    def _encode_texts(self, texts: list[str], kind: TextKind) -> np.ndarray:
        """(N, text width) float16, by the frozen encoder of the run and what reduced its vectors."""
        vectors = encode_texts(texts, self.saved.spec.protocol["encoder"], kind, device=self.device)
        refuse_not_finite(vectors, "text vectors")
        return vectors if self.saved.projection is None else self.saved.projection(vectors)

    def _candidates(self, items: Sequence[Any]) -> list[int]:
        """The numbers of items, at least one, all of them known and none named twice."""
        if not items:
            raise UserError("there are no candidates to rank; name one item or more")
        numbers = [self.numbering.item(item) for item in items]
        unknown = [str(item) for item, number in zip(items, numbers, strict=True) if number is None]
        if unknown:
            named = ", ".join(unknown[:5])
            raise UserError(f"{len(unknown)} of {len(items)} candidates are not in the catalogue: {named}; remove them")
        twice = [item for place, item in enumerate(items) if numbers[place] in numbers[:place]]
        if twice:
            raise UserError(f"candidate {twice[0]} is named twice; name each once")
        return cast(list[int], numbers)

    def _probabilities(
        self, encoded: Encoded, requests: Requests, candidates: Sequence[Sequence[int]]
    ) -> Sequence[Sequence[float | None]]:
        """Of each candidate, by the ranking head; None where the model has none."""
        if self.model.ranking_head is None:
            return [[None] * len(own) for own in candidates]
        logits = self.model.rank(encoded, requests, padded(candidates).to(self.device)).cpu().double().numpy()  # (B, C)
        probabilities = expit(self.saved.temperature(logits)).tolist()
        return [row[: len(own)] for row, own in zip(probabilities, candidates, strict=True)]

    def _answer(self, ranked: Sequence[tuple[int, float, float | None]], past: Past) -> Answer:
        return Answer([RankedItem(self.ids[i], self.titles[i], score, p) for i, score, p in ranked], past.skipped)


def _time(past: Past, at: Time | None) -> int:
    """When a request is made: `at`, or a second after the last event."""
    if at is None:
        return 0 if past.end is None else past.end + 1
    time = seconds(at, "at")
    if past.end is not None and time < past.end:
        raise UserError(f"at is {time}, before the last event of the history ({past.end}); cut the history there")
    return time
