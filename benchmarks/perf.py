"""Measure how fast SynerGen is, and what it holds in memory, mostly as ratios within one run.

The two sides of a ratio take turns, so that whatever else the machine does weighs on both alike; each figure is the
median over its repeats. Weights and inputs are random: nothing here depends on data, and nothing is trained for good.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from rich import box
from rich.console import Console
from rich.table import Table

if __package__ in (None, ""):  # python benchmarks/perf.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import measure
from benchmarks.cost import costs
from benchmarks.figures import cluster, decoder, evaluation, hstu, preparation, recbole, serving, training  # noqa: F401 - registers their figures
from synergen.console import exit_status, page
from synergen.data.sources import find_source
from synergen.errors import UserError, unknown_name
from synergen.files import write_json
from synergen.precision import autocast_dtype

EXAMPLES = """\
examples:
  python benchmarks/perf.py                                     all figures; those of preparation take minutes
  python benchmarks/perf.py --only rank_candidates_scaling      one figure; --only may be repeated
  python benchmarks/perf.py --threads 2 --json perf.json        on two threads, kept as JSON too
  python benchmarks/perf.py --cost ml-100k --repeats 3          what each model of table 3 costs
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    figures = "\n\n".join(f"{name}\n    {one.measure.__doc__}" for name, one in measure.FIGURES.items())
    p = argparse.ArgumentParser(
        description=f"{__doc__}\nfigures:\n\n{figures}",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--only", action="append", metavar="NAME", help="measure this figure alone; may be repeated")
    p.add_argument(
        "--cost",
        metavar="NAME|DIR",
        help="in place of the figures: seconds an epoch, milliseconds a request and parameters of each model of table "
        "3 on this data set",
    )
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
    screen = page()
    if options.cost:
        _print_costs(options, screen)
        return
    names = options.only or [name for name, one in measure.FIGURES.items() if one.ready]
    for name in names:
        if name not in measure.FIGURES:
            raise unknown_name("figure", name, measure.FIGURES)
    setting = _setting(options)
    found = [measure.measured(name, setting) for name in names]
    screen.print(_table(found, setting.repeats))
    for name, one in measure.FIGURES.items():
        if not (options.only or one.ready):
            screen.print(f"skipped {name}: it needs {one.needs}, see --help")
    if options.json:
        write_json(options.json, [asdict(one) for one in found])


def _setting(options: argparse.Namespace) -> measure.Setting:
    return measure.Setting(options.threads, autocast_dtype("cpu") or torch.float32, options.repeats)


def _print_costs(options: argparse.Namespace, screen: Console) -> None:
    name = find_source(options.cost).name
    torch.set_num_threads(options.threads)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"cost on {name}, {options.threads} thread(s)")
    for title in ("model", "parameters", "s an epoch", "ms a request"):
        table.add_column(title, justify="left" if title == "model" else "right")
    found = []
    for one in costs(options.cost, name, _setting(options)):
        found.append(one)
        epoch = "" if one.seconds_an_epoch is None else f"{one.seconds_an_epoch:.1f}"
        table.add_row(one.model, f"{one.parameters:,}", epoch, f"{one.milliseconds_a_request:.2f}")
        screen.print(f"[dim]{one.model} measured[/]")
    screen.print(table)
    if options.json:
        write_json(options.json, [asdict(one) for one in found])


def _table(found: list[measure.Measurement], repeats: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.title = f"medians of {repeats} repeats"
    table.title_justify = "left"
    for title in ("figure", "value", "target", "", "dtype", "threads", "measured"):
        table.add_column(
            title, justify="right" if title in ("value", "target", "threads") else "left", no_wrap=title != "measured"
        )
    for one in found:
        sign = "≥" if one.better == "higher" else "≤"
        mark = "" if one.target is None else "[green]reached[/]" if one.ok else "[red]missed[/]"
        value, target = f"{one.value:.3g} {one.unit}", "" if one.target is None else f"{sign} {one.target:g}"
        table.add_row(one.name, value, target, mark, one.dtype or "", str(one.threads), f"[dim]{one.note}[/]")
    return table


if __name__ == "__main__":
    sys.exit(main())
