"""Train UniSAR by its authors' own modules on one of our logs, ranked by the evaluator of this benchmark.

Repository: https://github.com/TengShi-RUC/UniSAR, commit 1a14a24; --code names a checkout. Model, losses and their
weights, optimiser (Adam, L2 1e-5 but for biases), schedule (a tenth of the rate after four epochs in a row without a
new best), batches (1,024 recommendations, and as many searches as are used up in as many steps), four negatives drawn
once and stopping (five epochs in a row without a new best, 100 at most) are those of its configuration for Amazon. Its
data loaders, which read files of its own, are not used. What differs:

- A history without one of the two kinds of event gets an event of nothing there, with a vector of its own: the modules
  give NaN otherwise, and so could not be trained on every event, as all models here are.
- An epoch is validated by N@10 on the pools of Table 3, of 5,000 users unless told otherwise; theirs by N@5.
- --recommend-searched: what a search led to is learnt as a recommendation, too, as in our configuration of UniSAR.

Writes the curve as JSON, with test metrics of all users at each new best; a training that was stopped goes on.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

if __package__ in (None, ""):  # python benchmarks/authors_unisar.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines.asked import cut
from baselines.query_words import Vocabulary
from benchmarks.inputs import load_for
from benchmarks.spec import load_spec
from synergen.console import exit_status
from synergen.contract import Histories, Task
from synergen.data.batches import questions, training_batches, training_windows
from synergen.data.candidates import pools
from synergen.data.dataset import Dataset, protocol_for
from synergen.data.sources import find_source
from synergen.data.splits import EventSplit, Part
from synergen.errors import UserError
from synergen.evaluation.metrics import metrics, rank_of_positive
from synergen.files import write_atomically, write_json

OF_A_KIND, BATCH, NEGATIVES, ALIGNED = 30, 1024, 4, 1024
MAX_EPOCHS, PATIENCE, PLATEAU = 100, 5, 3
SEARCH_WEIGHT, L2, RATE, LEAST_RATE = 0.01, 1e-5, 1e-3, 1e-6
"""The authors' numbers for Amazon."""
METRICS = ("R@1", "R@5", "R@10", "N@5", "N@10")

_SIZES = {"batch_size": BATCH, "dropout": 0.1, "num_layers": 1, "num_heads": 2, "model_path": ""}
_LOSSES = {"q_i_cl_temp": 0.1, "q_i_cl_weight": 0.1, "his_cl_temp": 0.1, "his_cl_weight": 0.01}
_RECOMMENDED, _SEARCHED = 1, 2
_PAIRS_AT_ONCE = 6400
"""Requests times candidates of an evaluation."""


@dataclass(frozen=True)
class Sessions:
    """What the authors call sessions: the different pairs of a query and the item that it led to, numbered from 1. One
    more, the last, is nothing; and so is the item after the last."""

    n_items: int
    keys: np.ndarray  # (S,) int64, sorted: query (V + 1) + item
    words: Tensor  # (Q + 1, L) int64: of each query

    @classmethod
    def of(cls, dataset: Dataset) -> "Sessions":
        log = dataset.log
        keys = np.unique(log.queries[log.queries > 0].astype(np.int64) * (log.n_items + 1) + log.items[log.queries > 0])
        return cls(log.n_items, keys, Vocabulary(log.query_texts).table(log.query_texts))

    @property
    def nothing(self) -> tuple[int, int]:
        """The item and the session that stand for no event."""
        return self.n_items + 1, len(self.keys) + 1

    def vocabulary(self) -> dict[str, np.ndarray]:
        """Words and item of each session, row 0 for padding."""
        of_pairs = self.words.numpy()[self.keys // (self.n_items + 1)]
        none = np.zeros((1, self.words.shape[1]), dtype=np.int64)
        items = np.concatenate([[0], self.keys % (self.n_items + 1), [0]])
        return {"keyword": np.concatenate([none, of_pairs, none]), "pos_items": items[:, None]}

    def histories(self, history: Histories) -> tuple[Tensor, Tensor]:
        """Items or sessions (B, 60) of histories, the last 30 of either kind in order of time, and which they are."""
        items, queries = history.items.numpy(), history.queries.numpy()
        sessions = 1 + np.searchsorted(self.keys, queries.astype(np.int64) * (self.n_items + 1) + items)
        events, kinds = (np.zeros((len(items), 2 * OF_A_KIND), dtype=np.int64) for _ in range(2))
        for row, length in enumerate(history.lengths.tolist()):
            searched = queries[row, :length] > 0
            rest = (~searched)[::-1].cumsum()[::-1], searched[::-1].cumsum()[::-1]  # of its kind from here on
            kept = np.where(searched, rest[1], rest[0]) <= OF_A_KIND
            own = np.where(searched, sessions[row, :length], items[row, :length])[kept].tolist()
            of = np.where(searched[kept], _SEARCHED, _RECOMMENDED).tolist()
            for kind, nothing in zip((_RECOMMENDED, _SEARCHED), self.nothing, strict=True):
                if kind not in of:
                    own, of = [nothing, *own], [kind, *of]
                lacking = OF_A_KIND - of.count(kind)
                own, of = own + [0] * lacking, of + [kind] * lacking
            events[row], kinds[row] = own, of
        return torch.from_numpy(events), torch.from_numpy(kinds)


@dataclass(frozen=True)
class Examples:
    """N requests of one task."""

    users: Tensor  # (N,) from 0
    events: Tensor  # (N, 60)
    kinds: Tensor  # (N, 60)
    items: Tensor  # (N, 1 + 4): what was chosen, and what was not
    queries: Tensor  # (N,)

    def to(self, device: torch.device) -> "Examples":
        """The same, on a device."""
        return Examples(*(getattr(self, name).to(device) for name in _COLUMNS))

    def feed(self, rows: Tensor, words: Tensor, aligned: dict[str, Tensor]) -> dict[str, Any]:
        """A batch as the authors' losses read it."""
        return {
            **_feed(self.users[rows], self.events[rows], self.kinds[rows], self.items[rows], words[self.queries[rows]]),
            **aligned,
        }


def _feed(users: Tensor, events: Tensor, kinds: Tensor, items: Tensor, words: Tensor) -> dict[str, Any]:
    return {
        "user": users,
        "all_his": events,
        "all_his_type": kinds,
        "item": items[:, 0],
        "neg_items": items[:, 1:],
        "query": words,
    }


def examples(dataset: Dataset, sessions: Sessions, recommend_searched: bool) -> tuple[Examples, Examples]:
    """Everything to recommend and everything to search for in training.

    Raises:
        UserError: there is nothing of the one or the other.
    """
    log, rng = dataset.log, np.random.default_rng(0)
    assert isinstance(dataset.split, EventSplit)
    touched = np.unique(log.users * (log.n_items + 1) + log.items)
    parts: tuple[list[Examples], list[Examples]] = ([], [])
    for batch in training_batches(log, training_windows(dataset.split, 2 * OF_A_KIND, 0), 512, rng):
        asked, chosen = cut(batch, 0, recommend_searched)
        known = asked.history.lengths > 0  # nobody's first event is asked for
        events, kinds = sessions.histories(asked.history)
        users, unwanted = asked.users.numpy() - 1, rng.integers(1, log.n_items + 1, (len(chosen), NEGATIVES))
        while (own := np.isin(users[:, None] * (log.n_items + 1) + unwanted, touched)).any():
            unwanted[own] = rng.integers(1, log.n_items + 1, int(own.sum()))
        items = torch.cat([chosen[:, None], torch.from_numpy(unwanted)], dim=1)
        for part, of in zip(parts, (known & ~asked.searches, known & asked.searches), strict=True):
            part.append(Examples(asked.users[of] - 1, events[of], kinds[of], items[of], asked.queries[of]))
    if not all(any(len(one.users) for one in part) for part in parts):
        raise UserError(f"{log.name}: nobody searches, or nobody does anything else; UniSAR learns from both")
    columns = [[torch.cat([getattr(one, name) for one in part]) for name in _COLUMNS] for part in parts]
    return Examples(*columns[0]), Examples(*columns[1])


_COLUMNS = ("users", "events", "kinds", "items", "queries")


@contextmanager
def authors_modules(
    code: Path, sessions: Sessions, n_users: int, device: str = "cpu"
) -> Iterator[Callable[[], nn.Module]]:
    """A function that builds the authors' UniSAR for such data.

    Raises:
        UserError: the folder holds no checkout of their code.
    """
    if not (code / "models" / "UniSAR.py").is_file():
        raise UserError(f"{code}: no checkout of https://github.com/TengShi-RUC/UniSAR; models/UniSAR.py is missing")
    sys.path.insert(0, str(code))
    try:
        from models.UniSAR import UniSAR  # type: ignore[import-not-found]
        from utils import const, utils  # type: ignore[import-not-found]

        const.init_setting_Amazon()
        const.item_id_num, const.user_id_num = sessions.nothing[0] + 1, n_users
        const.word_id_num, const.max_query_word_len = int(sessions.words.max()) + 1, sessions.words.shape[1]
        tables = {const.user_map_vocab: {}, const.item_map_vocab: {}, const.session_map_vocab: sessions.vocabulary()}
        utils.load_pickle = tables.__getitem__
        args = SimpleNamespace(**_SIZES, **_LOSSES, pred_hid_units=[200, 80, 1], device=torch.device(device))
        yield lambda: UniSAR(args)
    finally:
        sys.path.remove(str(code))
        for name in [name for name in sys.modules if name.split(".")[0] in ("models", "utils")]:
            del sys.modules[name]


class Ranking:
    """Ranks among the pools of Table 3."""

    def __init__(self, dataset: Dataset, sessions: Sessions, max_history: int, negatives: int) -> None:
        self.dataset, self.sessions, self.max_history, self.negatives = dataset, sessions, max_history, negatives

    def metrics(self, model: nn.Module, part: Part, most_users: int | None = None) -> dict[str, dict[str, float]]:
        """By task; of `most_users` random users, by default all."""
        model.eval()
        with torch.inference_mode():
            return {str(task): self._of_task(model, part, task, most_users) for task in Task}

    def _of_task(self, model: nn.Module, part: Part, task: Task, most_users: int | None) -> dict[str, float]:
        log, split = self.dataset.log, self.dataset.split
        assert isinstance(split, EventSplit)
        pool = pools(log, split, part, task, 0, self.negatives)
        among = np.random.default_rng(0).permutation(len(pool))[:most_users]
        ranks = np.full(len(pool), np.nan)
        at_once = _PAIRS_AT_ONCE // pool.shape[1]
        for asked in questions(log, split, part, task, self.max_history, at_once, among):
            requests = asked.requests
            assert requests.users is not None
            items = torch.from_numpy(pool[asked.numbers])
            words = self.sessions.words[requests.queries]
            feed = _feed(requests.users - 1, *self.sessions.histories(requests.history), items, words)
            feed = {name: values.to(_place(model)) for name, values in feed.items()}
            predict = model.src_predict if task is Task.SEARCH else model.rec_predict
            scores = predict(feed).reshape(items.shape).cpu()  # type: ignore[operator]
            ranks[asked.numbers] = rank_of_positive(scores, torch.zeros(len(items), dtype=torch.int64), None)
        return metrics(ranks, METRICS)


def train(
    model: Any,
    parts: tuple[Examples, Examples],
    words: Tensor,
    ranking: Ranking,
    file: Path,
    most_users: int | None,
    about: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
) -> list[dict[str, Any]]:
    """Train to the end, or go on; writes the curve and returns it.

    Args:
        about: what tells this training from others, and is written before the curve.

    Raises:
        UserError: the file is of another training.
    """
    if file.exists() and (other := json.loads(file.read_text(encoding="utf-8"))["about"]) != about:
        raise UserError(f"{file}: another training, {other}; this one is {about}: name another file")
    parts, words = (parts[0].to(_place(model)), parts[1].to(_place(model))), words.to(_place(model))
    optimiser = torch.optim.Adam(model.customize_parameters(), lr=RATE, weight_decay=L2)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, mode="max", patience=PLATEAU, min_lr=LEAST_RATE)
    state, curve = file.with_suffix(".state"), []
    if state.exists():
        kept = torch.load(state, weights_only=True, map_location=_place(model))
        model.load_state_dict(kept["model"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        curve = kept["curve"]
    while not finished(curve):
        torch.manual_seed(len(curve))
        start, loss = time.process_time(), _epoch(model, optimiser, parts, words)
        seconds = time.process_time() - start + (curve[-1]["seconds"] if curve else 0.0)
        valid = ranking.metrics(model, Part.VALID, most_users)
        mean = float(np.mean([of_task["N@10"] for of_task in valid.values()]))
        is_best = mean > max((point["mean"] for point in curve), default=-math.inf)
        test = ranking.metrics(model, Part.TEST) if is_best else None
        schedule.step(mean)
        point = {"epoch": len(curve) + 1, "seconds": seconds, "loss": loss, "mean": mean, "valid": valid, "test": test}
        curve.append(point)
        write_json(file, {"about": about, "curve": curve})
        states = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        write_atomically(state, partial(torch.save, {**states, "curve": curve}))
        report(point)
    return curve


def finished(curve: list[dict[str, Any]]) -> bool:
    """Whether the authors' code stops here."""
    if not curve:
        return False
    best = max(curve, key=lambda point: (point["mean"], -point["epoch"]))
    return len(curve) - best["epoch"] + 1 > PATIENCE or len(curve) >= MAX_EPOCHS


def _epoch(model: Any, optimiser: torch.optim.Optimizer, parts: tuple[Examples, Examples], words: Tensor) -> float:
    """The mean loss of a step."""
    model.train()
    recommended, searched = parts
    steps = len(recommended.users) // BATCH + 1
    orders = [torch.randperm(len(part.users)).to(words.device) for part in parts]
    searches = orders[1].split(len(searched.users) // steps + 1)
    n_items = model.session_embedding.item_feat.item_id_emb.num_embeddings - 2  # without padding and nothing
    items, queries = ((torch.randperm(n) + 1).to(words.device) for n in (n_items, len(words) - 1))
    losses = []
    for step, rows in enumerate(orders[0].split(BATCH)):
        place = torch.arange(ALIGNED, device=words.device) + step * ALIGNED
        aligned = {
            "align_neg_item": items[place % len(items)],
            "align_neg_query": words[queries[place % len(queries)]],
        }
        loss = model.rec_loss(recommended.feed(rows, words, aligned))["total_loss"]
        own = searches[step % len(searches)]
        loss = loss + SEARCH_WEIGHT * model.src_loss(searched.feed(own, words, aligned))["total_loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _place(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dataset", help="a data set by name or folder, filtered and split as for table 3")
    p.add_argument("--code", type=Path, required=True, metavar="DIR", help="a checkout of the authors' code")
    p.add_argument("--out", type=Path, required=True, metavar="FILE", help="the curve as JSON; resumable")
    p.add_argument("--recommend-searched", action="store_true", help="learn searched items as recommendations, too")
    p.add_argument("--device", default="cpu", choices=("cpu", "cuda"), help="what computes; default %(default)s")
    p.add_argument("--valid-users", type=int, default=5000, metavar="N", help="of each validation; default %(default)s")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    protocol = protocol_for(find_source(options.dataset), load_spec(3).protocol)
    dataset = load_for(options.dataset, protocol)
    sessions = Sessions.of(dataset)
    parts = examples(dataset, sessions, options.recommend_searched)
    ranking = Ranking(dataset, sessions, protocol["max_history"], protocol["negatives"])
    with authors_modules(options.code, sessions, dataset.log.n_users, options.device) as build:
        torch.manual_seed(0)
        train(
            build(),
            parts,
            sessions.words,
            ranking,
            options.out.resolve(),
            options.valid_users,
            {
                "dataset": dataset.log.name,
                "data_hash": dataset.log.data_hash,
                "recommend_searched": options.recommend_searched,
                "valid_users": options.valid_users,
                "accelerator": None if options.device == "cpu" else torch.cuda.get_device_name(),
            },
            lambda point: print(json.dumps(point), flush=True),
        )


if __name__ == "__main__":
    sys.exit(main())
