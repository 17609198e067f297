"""Measure how fast SynerGen's decoder is, as ratios within one run.

The two sides of a ratio take turns, so that whatever else the machine does weighs on both alike; each figure is the
median over its repeats. Random weights and inputs: nothing here depends on data, and nothing is trained for good.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

if __package__ in (None, ""):  # python benchmarks/perf.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from synergen.console import exit_status
from synergen.contract import Batch, DataView, Histories
from synergen.errors import UserError, unknown_name
from synergen.files import write_json
from synergen.model.decoder import ContextState, Decoder, DecoderLayer
from synergen.model.synergen import SynerGen
from synergen.model.task_mask import Kind, task_mask
from synergen.model.time_rope import Rotation, TimeRope, rotate
from synergen.precision import autocast_dtype

EXAMPLES = """\
examples:
  python benchmarks/perf.py                                     all figures, about three minutes
  python benchmarks/perf.py --only rank_candidates_scaling      one figure; --only may be repeated
  python benchmarks/perf.py --threads 2 --json perf.json        on two threads, kept as JSON too
"""

START, DAY = 1_700_000_000, 86_400
_LOG_WIDTH = 120
"""Columns of the table where there is no terminal whose width could be asked."""

SERVED_EVENTS = 200
"""Events of the histories that the serving figures read."""


@dataclass(frozen=True)
class Setting:
    """How everything is timed."""

    threads: int
    dtype: torch.dtype  # of matrix products
    repeats: int

    def autocast(self) -> torch.autocast:
        """The context in which models run."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype is torch.bfloat16)

    def seconds(self, *actions: Callable[[], object]) -> list[list[float]]:
        """Seconds of each repeat (repeats) of each action, which take turns, after one turn that does not count."""
        # Of one thread the processor time, which other programs do not lengthen as they do the wall's.
        clock = time.process_time if self.threads == 1 else time.perf_counter
        for action in actions:
            action()
        turns = [[_timed(action, clock) for action in actions] for _ in range(self.repeats)]
        return [list(column) for column in zip(*turns, strict=True)]


@dataclass(frozen=True)
class Value:
    """What a figure measured, and how near that is to what the machine could do."""

    value: float
    note: str


@dataclass(frozen=True)
class Figure:
    """A ratio and what it is meant to reach."""

    name: str
    unit: str
    target: float
    better: str  # higher or lower
    measure: Callable[[Setting], Value]
    dtype: torch.dtype | None  # where it is not the dtype of training

    def reached(self, value: float) -> bool:
        return value >= self.target if self.better == "higher" else value <= self.target


@dataclass(frozen=True)
class Measurement:
    """One line of the report."""

    name: str
    value: float
    unit: str
    target: float
    better: str
    ok: bool
    note: str
    threads: int
    dtype: str
    repeats: int


FIGURES: dict[str, Figure] = {}


def figure(
    unit: str, target: float, better: str, dtype: torch.dtype | None = None
) -> Callable[[Callable[[Setting], Value]], Callable[[Setting], Value]]:
    """Register a function as the figure of its name."""

    def register(measure: Callable[[Setting], Value]) -> Callable[[Setting], Value]:
        FIGURES[measure.__name__] = Figure(measure.__name__, unit, target, better, measure, dtype)
        return measure

    return register


@figure("x", 2.5, "higher")
def attention_vs_dense(setting: Setting) -> Value:
    """Time of the same layers over all T·(1 + R) tokens at once, the dense task mask given to
    scaled_dot_product_attention, over the time of the decoder, which never builds that mask.

    Forward and backward of two layers, same weights, same inputs, equal outputs (checked before the clock starts):
    B = 4, T = 200 events of as many requests, R = 6 task tokens each, D = 256, 4 heads, feed-forward 1024, no dropout.
    """
    batch, steps, tokens, width, heads = 4, 200, 6, 256, 4
    decoder = _decoder(width, heads)
    context, tasks = torch.randn(batch, steps, width), torch.randn(batch, steps, tokens, width)
    inputs = [context.requires_grad_(), tasks.requires_grad_(), *decoder.parameters()]
    rope = _rope(width, heads)
    of_context, of_tasks = _rotation(rope, batch, steps, 0), _rotation(rope, batch, steps, DAY // 2)
    visible = torch.ones(steps, steps, dtype=torch.bool).tril(-1).expand(batch, -1, -1)  # (B, E, T)

    def ours() -> Tensor:
        outputs = decoder(context, of_context, tasks, of_tasks, visible)
        return torch.cat([outputs[0], outputs[1].flatten(1, 2)], dim=1)  # (B, T·(1 + R), D)

    tokens_rotation = Rotation(
        *(torch.cat([a, b.repeat_interleave(tokens, 1)], 1)[:, None] for a, b in zip(of_context, of_tasks, strict=True))
    )  # (B, 1, T·(1 + R), P)
    allowed = _dense_mask(batch, steps, tokens)[:, None]  # (B, 1, T·(1 + R), T·(1 + R))

    def dense() -> Tensor:
        x = torch.cat([context, tasks.flatten(1, 2)], dim=1)
        for layer in cast(Iterable[DecoderLayer], decoder.layers):
            qkv = layer.qkv(layer.attention_norm(x)).unflatten(-1, (3, heads, -1))  # (B, N, 3, H, D / H)
            query, key, value = qkv.movedim((-3, -2), (0, 2))  # (B, H, N, D / H)
            query, key = rotate(query, *tokens_rotation), rotate(key, *tokens_rotation)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
            x = x + layer.out(mixed.transpose(1, 2).flatten(-2))
            x = x + layer.feed_forward(x)
        return decoder.norm(x)

    with torch.no_grad(), setting.autocast():
        tolerance = 0.1 if setting.dtype is torch.bfloat16 else 1e-4
        torch.testing.assert_close(ours(), dense(), atol=tolerance, rtol=0)
    weights = torch.randn(batch, steps * (1 + tokens), width)

    def train(path: Callable[[], Tensor]) -> None:
        with setting.autocast():
            loss = (path() * weights).sum()
        torch.autograd.grad(loss, inputs)

    product, fast, slow = setting.seconds(_gemm(setting.dtype), lambda: train(ours), lambda: train(dense))
    pairs = _visible_pairs(batch, steps, steps, tokens)
    useful = 3 * _decoder_flops(batch * steps * (1 + tokens), pairs, 2, width, 4 * width)
    return Value(_median_ratio(slow, fast), _near(useful, fast, product))


@figure("of GEMM", 0.5, "higher")
def train_flops_of_gemm(setting: Setting) -> Value:
    """Useful FLOP/s of a training step over the FLOP/s of a product of two 2048 x 2048 matrices of the same dtype.

    A step is forward, loss, backward, clipping and AdamW of SynerGen with the layers of the 100M-parameter
    configuration (benchmarks/configs/SynerGen.yaml, scale paper): 2 of its 12 layers, and 2,000 items so that table
    and layers keep about the proportion that they have with a catalogue of 12,000; 16 histories of T = 50 events, all
    of them targets, R = 6 task tokens each. Useful are three times (forward, backward by inputs and by weights) the
    linear layers of decoder and fusion, and the attention pairs that the task mask allows. Losses, normalisations,
    dropout, optimiser and the pairs computed to be masked take time and count for nothing.
    """
    batch, steps, width, ffn_width, layers, negatives = 16, 50, 768, 3072, 2, 4
    torch.manual_seed(0)
    model = SynerGen(
        _catalogue(2000), width=width, heads=12, ffn_width=ffn_width, layers=layers, dropout=0.1, embedding_dropout=0.1,
        inputs="id", ranking_negatives=negatives,
    ).train()  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    data = _training_batch(batch, steps, 2000)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        with setting.autocast():
            terms = model.loss(data)
        torch.stack([term.float() for term in terms.values()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()

    product, ours = setting.seconds(_gemm(setting.dtype), step)
    tokens = 2 + negatives  # R
    n = batch * steps * (1 + tokens)
    useful = 3 * (
        _decoder_flops(n, _visible_pairs(batch, steps, steps, tokens), layers, width, ffn_width)
        + 2 * n * 2 * width**2  # fusion, the two maps that every token takes
    )
    ratios = [useful / step_s / (_GEMM_FLOPS / gemm_s) for step_s, gemm_s in zip(ours, product, strict=True)]
    return Value(statistics.median(ratios), _near(useful, ours, product))


@figure("x", 50, "higher", torch.float32)
def rank_cached_vs_reencode(setting: Setting) -> Value:
    """Time to rank 1,000 candidates with one full sequence each, over the time with the history encoded once.

    A sequence is the 200 context tokens, the retrieval token and one candidate's ranking token; sequences go through
    the decoder 50 at a time. With the cache the history is encoded once, inside the time, and all candidates are tokens
    of one request. Same decoder (2 layers, D = 256), equal outputs (checked before the clock starts).
    """
    served = _Served(setting)
    tasks = served.tasks(1000)

    def one_by_one() -> Tensor:
        outputs = []
        for chunk in tasks[0, 0, 1:].split(50):
            own = torch.stack([tasks[0, 0, :1].expand(len(chunk), -1), chunk], dim=1)[:, None]  # (50, 1, 2, D)
            outputs.append(served.answer(served.encode(len(chunk)), own)[:, 0, 1])
        return torch.cat(outputs)  # (C, D)

    def cached() -> Tensor:
        return served.answer(served.encode(1), tasks)[0, 0, 1:]

    _check(cached(), one_by_one(), setting)
    slow, fast = setting.seconds(one_by_one, cached)
    return Value(_median_ratio(slow, fast), f"{_ms(fast)} against {_ms(slow)}")


@figure("x", 10, "higher", torch.float32)
def append_vs_reencode(setting: Setting) -> Value:
    """Time to encode 201 events and read the recommendation from the last context token, over the time to append the
    last event to the 200 before, which are cached, and read the same.

    One history, 2 layers, D = 256; equal outputs (checked before the clock starts). The search of the catalogue that
    would follow is the same for both and left out.
    """
    served = _Served(setting)
    state = served.encode(1)

    def anew() -> Tensor:
        return served.encode(1, SERVED_EVENTS + 1).outputs[:, -1]

    def appended() -> Tensor:
        return served.extend(state).outputs[:, -1]

    _check(appended(), anew(), setting)
    times = 20  # one takes less than a millisecond
    slow, fast = setting.seconds(lambda: [anew() for _ in range(times)], lambda: [appended() for _ in range(times)])
    return Value(_median_ratio(slow, fast), f"{_ms(fast, times)} against {_ms(slow, times)}")


@figure("x", 11, "lower", torch.float32)
def rank_candidates_scaling(setting: Setting) -> Value:
    """Time to rank 10,000 candidates over the time to rank 1,000, with one cached history of 200 events."""
    served = _Served(setting)
    state, few, many = served.encode(1), served.tasks(1000), served.tasks(10_000)
    long, short = setting.seconds(lambda: served.answer(state, many), lambda: served.answer(state, few))
    return Value(_median_ratio(long, short), f"{_ms(long)} against {_ms(short)}")


class _Served:
    """A decoder of two layers of D = 256, and one history for it; in float32, as recommendations are computed."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.decoder = _decoder(256, 4).to(setting.dtype).requires_grad_(False)
        self.context = torch.randn(1, SERVED_EVENTS + 1, 256, dtype=setting.dtype)
        self.rotation = _rotation(_rope(256, 4), 1, SERVED_EVENTS + 2, 0)

    def tasks(self, candidates: int) -> Tensor:
        """(1, 1, 1 + C, D): a request's retrieval token, and one ranking token for each candidate."""
        generator = torch.Generator().manual_seed(1)
        return torch.randn(1, 1, 1 + candidates, 256, generator=generator).to(self.setting.dtype)

    def encode(self, batch: int, events: int = SERVED_EVENTS) -> ContextState:
        with torch.inference_mode():
            return self.decoder.encode(
                self.context[:, :events].expand(batch, -1, -1), self._rotation(batch, slice(events))
            )

    def extend(self, state: ContextState) -> ContextState:
        last = slice(SERVED_EVENTS, SERVED_EVENTS + 1)
        with torch.inference_mode():
            return self.decoder.extend(state, self.context[:, last], self._rotation(1, last))

    def answer(self, state: ContextState, tasks: Tensor) -> Tensor:
        """Outputs (B, 1, R, D) of a request that sees all of the history."""
        batch, steps = state.outputs.shape[:2]
        visible = torch.ones(batch, 1, steps, dtype=torch.bool)
        with torch.inference_mode():
            return self.decoder.attend(state, tasks, self._rotation(batch, slice(steps, steps + 1)), visible)

    def _rotation(self, batch: int, part: slice) -> Rotation:
        return Rotation(*(angles[:, part].expand(batch, -1, -1) for angles in self.rotation))


_GEMM_SIZE = 2048
_GEMM_FLOPS = 2 * _GEMM_SIZE**3


def _gemm(dtype: torch.dtype) -> Callable[[], object]:
    a, b = torch.randn(2, _GEMM_SIZE, _GEMM_SIZE).to(dtype)
    return lambda: a @ b


def _decoder_flops(tokens: int, pairs: int, layers: int, width: int, ffn_width: int) -> int:
    """Of a forward pass: linear layers of all tokens; logits and weighted sums of the attention pairs."""
    return layers * (2 * tokens * width * (4 * width + 2 * ffn_width) + 4 * pairs * width)


def _visible_pairs(batch: int, steps: int, events: int, tokens: int) -> int:
    """Pairs (i, j) of B sequences that the task mask allows, when event e sees the e events before it: context, then
    task tokens on context, on themselves, and ranking tokens on their retrieval token."""
    context = steps * (steps + 1) // 2
    seen = events * (events - 1) // 2
    return batch * (context + tokens * seen + events * (2 * tokens - 1))


def _dense_mask(batch: int, steps: int, tokens: int) -> Tensor:
    """(B, N, N) bool over T context tokens, then T·R task tokens, every event a request of its own."""
    event = torch.cat([torch.arange(steps), torch.arange(steps).repeat_interleave(tokens)]).expand(batch, -1)
    kinds = torch.full((steps, 1 + tokens), Kind.RANKING)
    kinds[:, 0], kinds[:, 1] = Kind.CONTEXT, Kind.RETRIEVAL
    kinds = torch.cat([kinds[:, 0], kinds[:, 1:].flatten()]).expand(batch, -1)
    return task_mask(kinds, event, event, torch.ones_like(event, dtype=torch.bool))


def _decoder(width: int, heads: int) -> Decoder:
    torch.manual_seed(0)
    return Decoder(width, layers=2, heads=heads, ffn_width=4 * width, dropout=0.0)


def _rope(width: int, heads: int) -> TimeRope:
    return TimeRope(width // heads // 2, "mixed", DAY, 2.0, 3650.0)


def _rotation(rope: TimeRope, batch: int, steps: int, later: int) -> Rotation:
    """Of one token a day, each `later` seconds after its hour."""
    positions = torch.arange(steps).expand(batch, -1)
    times = START + positions * DAY
    return rope(times + later, positions, times[:, :1])


def _catalogue(n_items: int) -> DataView:
    return DataView(
        n_items=n_items, n_queries=0, n_actions=1, item_texts=[""] * (n_items + 1), query_texts=[""],
        item_counts=np.ones(n_items + 1, dtype=np.int64),
    )  # fmt: skip


def _training_batch(batch: int, steps: int, n_items: int) -> Batch:
    """Full histories of one event a day, each a request of its own and a target."""
    shape = (batch, steps)
    order = torch.arange(steps).expand(shape)
    events = Histories(
        items=torch.randint(1, n_items + 1, shape),
        actions=torch.ones(shape, dtype=torch.int64),
        times=START + order * DAY,
        queries=torch.zeros(shape, dtype=torch.int64),
        groups=order,
        lengths=torch.full((batch,), steps),
    )
    return Batch(events, torch.ones(shape, dtype=torch.bool), events.actions, torch.arange(batch))


def _check(ours: Tensor, reference: Tensor, setting: Setting) -> None:
    """Two ways to one output differ by rounding alone. Outputs are normalised: their size is about one."""
    tolerance = 0.1 if setting.dtype is torch.bfloat16 else 1e-3
    torch.testing.assert_close(ours, reference, atol=tolerance, rtol=0)


def _timed(action: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    action()
    return clock() - start


def _median_ratio(above: list[float], below: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def _near(flops: float, seconds: list[float], product: list[float]) -> str:
    reached, possible = flops / statistics.median(seconds) / 1e9, _GEMM_FLOPS / statistics.median(product) / 1e9
    return f"{reached:.0f} useful GFLOP/s, a GEMM reaches {possible:.0f}"


def _ms(seconds: list[float], times: int = 1) -> str:
    return f"{1e3 * statistics.median(seconds) / times:.3g} ms"


def measure(name: str, setting: Setting) -> Measurement:
    """One figure.

    Raises:
        UserError: there is no figure of this name.
    """
    if name not in FIGURES:
        raise unknown_name("figure", name, FIGURES)
    one = FIGURES[name]
    setting = replace(setting, dtype=one.dtype or setting.dtype)
    found = one.measure(setting)
    return Measurement(
        name, found.value, one.unit, one.target, one.better, one.reached(found.value), found.note, setting.threads,
        str(setting.dtype).removeprefix("torch."), setting.repeats,
    )  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    figures = "\n\n".join(f"{name}\n    {one.measure.__doc__}" for name, one in FIGURES.items())
    p = argparse.ArgumentParser(
        description=f"{__doc__}\nfigures:\n\n{figures}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--only", action="append", metavar="NAME", help="measure this figure alone; may be repeated")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the figures as a JSON list too")
    p.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="default 1, timed by the processor's clock, which other programs do not lengthen; more threads take the "
        "wall's, and on a busy machine wait for one another",
    )
    p.add_argument("--repeats", type=int, default=7, metavar="N", help="turns that a median is taken of; default 7")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 for targets missed, too, since measuring is all that was asked."""
    options = parser().parse_args(arguments)
    return exit_status(lambda: _run(options))


def _run(options: argparse.Namespace) -> None:
    if options.threads < 1 or options.repeats < 1:
        raise UserError("--threads and --repeats must be 1 or more")
    names = options.only or list(FIGURES)
    for name in names:
        if name not in FIGURES:
            raise unknown_name("figure", name, FIGURES)
    torch.set_num_threads(options.threads)
    setting = Setting(options.threads, autocast_dtype("cpu") or torch.float32, options.repeats)
    found = [measure(name, setting) for name in names]
    screen = Console(highlight=False)
    if not screen.is_terminal:
        screen = Console(highlight=False, width=_LOG_WIDTH)
    screen.print(_table(found, setting))
    if options.json:
        write_json(options.json, [asdict(one) for one in found])


def _table(found: list[Measurement], setting: Setting) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.title = f"threads: {setting.threads}; medians of {setting.repeats} repeats"
    table.title_justify = "left"
    for title in ("figure", "value", "target", "", "dtype", "measured"):
        table.add_column(
            title, justify="right" if title in ("value", "target") else "left", no_wrap=title != "measured"
        )
    for one in found:
        sign = "≥" if one.better == "higher" else "≤"
        mark = "[green]reached[/]" if one.ok else "[red]missed[/]"
        value, target = f"{one.value:.3g} {one.unit}", f"{sign} {one.target:g}"
        table.add_row(one.name, value, target, mark, one.dtype, f"[dim]{one.note}[/]")
    return table


if __name__ == "__main__":
    sys.exit(main())
