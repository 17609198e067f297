"""Retrieval head, ranking head, and both in sequence: what each reaches on the test part, and in what time.

In sequence, the retrieval head orders the candidates and the ranking head orders the k best of them again. Needs the
weights of a finished run, which stay on the machine that trained it.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.table import Table as Grid
from torch import Tensor, nn

if __package__ in (None, ""):  # python benchmarks/heads.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines.registry import build
from benchmarks.campaign import RESULTS
from benchmarks.evaluator import RankingHead, evaluator_for, has_ranking_head, means
from benchmarks.inputs import load_for, tasks_of_run
from benchmarks.views import RANKING, RETRIEVAL, View, has_slates
from synergen.console import exit_status, page
from synergen.contract import Requests, dot_scores
from synergen.data.dataset import Dataset
from synergen.data.splits import Part
from synergen.errors import UserError
from synergen.evaluation.cases import cases
from synergen.evaluation.ranking import Scorer
from synergen.files import write_text
from synergen.model.synergen import SynerGen
from synergen.model_files import load_model, model_folder
from synergen.runs import RunSpec

EXAMPLES = """\
examples:
  python benchmarks/heads.py --run 0123456789ab --out out
  python benchmarks/heads.py --run 0123456789ab --dataset DIR --top 20,100,500
"""
METRICS = ("R@1", "R@10", "N@10", "MRR")
METRICS_OF_SLATES = ("R@1", "NDCG", "MRR")

_SCHEMA = {
    **{"run": pl.String, "task": pl.String, "candidates": pl.String, "heads": pl.String, "k": pl.Int64},
    **{"metric": pl.String, "value": pl.Float64, "milliseconds": pl.Float64},
}


class InSequence(nn.Module):
    """The k best candidates of the retrieval head in the order of the ranking head, before all others, which keep the
    order of the retrieval head. What the history shows takes no place among the k where `removes_seen`."""

    def __init__(self, model: SynerGen, k: int, removes_seen: bool) -> None:
        super().__init__()
        self.model, self.k, self.removes_seen = model, k, removes_seen
        self.known: tuple[Tensor, Tensor | None] | None = None  # item vectors, which are part of the time it takes

    def score(self, requests: Requests, candidates: Tensor) -> Tensor:
        """(B, C) float64 of candidates (B, C), 0 for padding, or (C,) for all requests."""
        if self.known is None:
            self.known = self.model.item_vectors(), self.model.item_bias()
        items, bias = self.known
        scores = dot_scores(self.model.user_vectors(requests), items, bias, candidates).double()
        candidates = candidates.expand(len(scores), -1)
        unwanted = candidates == 0
        if self.removes_seen:
            seen = torch.zeros(len(scores), len(items), dtype=torch.bool, device=scores.device)
            unwanted |= seen.scatter_(1, requests.history.items, True).gather(1, candidates)
        best = scores.masked_fill(unwanted, -torch.inf).topk(min(self.k, scores.shape[1])).indices  # (B, k)
        again = self.model.rank_logits(requests, candidates.gather(1, best)).double()
        behind = scores - (scores.amax(1) - again.amin(1) + 1)[:, None]
        return behind.scatter(1, best, again)


def measured(model: SynerGen, spec: RunSpec, dataset: Dataset, depths: Sequence[int], device: str) -> pl.DataFrame:
    """A row a task, way of ranking and metric (a mean over users or requests, as a fraction), with the processor's
    milliseconds a question. The whole catalogue is too dear for the ranking head alone."""
    candidates = spec.protocol["candidates"]
    evaluator, rows = evaluator_for(dataset, spec, device), []
    names = METRICS_OF_SLATES if has_slates(spec.protocol) else METRICS
    for task in tasks_of_run(spec):
        for way, k, scorer in _ways(model, candidates, depths):
            evaluator.prepare(Part.TEST, View(task, candidates))
            begin = time.process_time()
            ranks = evaluator.ranks(scorer, Part.TEST, View(task, candidates))
            seconds = time.process_time() - begin
            each = 1000 * seconds / int(np.isfinite(cases(ranks, "MRR")).sum())
            reached = means(ranks, names)
            rows += [(spec.id, str(task), candidates, way, k, name, reached[name], each) for name in names]
    return pl.DataFrame(rows, _SCHEMA, orient="row")


def _ways(model: SynerGen, candidates: str, depths: Sequence[int]) -> Iterator[tuple[str, int | None, Scorer]]:
    yield RETRIEVAL, None, model
    for k in depths:
        yield "both", k, InSequence(model, k, removes_seen=candidates == "full")
    if candidates != "full":
        yield RANKING, None, RankingHead(model)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--run", required=True, metavar="ID", help="a finished run of SynerGen whose model is in --out")
    p.add_argument("--dataset", metavar="DIR", help="folder of the run's data set, where it is not built in")
    p.add_argument("--top", default="10,50", metavar="K,K", help="how many are ranked again; default %(default)s")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="results folder; default results/")
    p.add_argument("--device", default="cpu", help="cpu or cuda")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    screen = page()
    return exit_status(lambda: _compare(options, screen))


def _compare(options: argparse.Namespace, screen: Console) -> None:
    depths = options.top.split(",")
    if not all(k.isdecimal() and int(k) > 0 for k in depths):
        raise UserError(f"--top {options.top}: write whole numbers of 1 or more with commas between, such as 10,50")
    folder = model_folder(options.out, options.run)
    if not folder.exists():
        raise UserError(f"{folder}: the model of run {options.run} is not here; see --out, or train it again")
    saved = load_model(folder, build)
    dataset = load_for(options.dataset or saved.spec.dataset, saved.spec.protocol)
    saved.refuse_other_items(dataset.log.item_ids, saved.spec.dataset)
    if not has_ranking_head(saved.model):
        raise UserError(f"run {options.run} has no ranking head; the two heads are those of a SynerGen")
    assert isinstance(saved.model, SynerGen)
    model = saved.model.to(options.device).eval()
    found = measured(model, saved.spec, dataset, list(map(int, depths)), options.device)
    path = options.out / "tables" / f"heads.{saved.spec.dataset}.{options.run}.csv"
    write_text(path, found.write_csv())
    screen.print(_grid(found))
    screen.print(f"written: {path}", soft_wrap=True, markup=False)


def _grid(found: pl.DataFrame) -> Grid:
    """A line a task and way, metrics in percent."""
    names = found["metric"].unique(maintain_order=True).to_list()
    grid = Grid(
        "Task", "Heads", *names, "ms/request", title=f"Run {found['run'][0]}, candidates {found['candidates'][0]}"
    )
    for (task, way, k), own in found.group_by("task", "heads", "k", maintain_order=True):
        heads = str(way) if k is None else f"ranking, of retrieval's top {k}"
        values = [f"{100 * value:.2f}" for value in own["value"]]
        grid.add_row(str(task), heads, *values, f"{own['milliseconds'][0]:.2f}")
    return grid


if __name__ == "__main__":
    sys.exit(main())
