"""Search the settings of one model on one data set, on its validation part alone.

Every model gets the same number of trials, so that a table compares models and not the care spent on them. Trial 1 has
the configuration by hand, so what is found is never worse on validation; the others are drawn by Optuna from the
`search` section of benchmarks/configs/MODEL.yaml, and those that fall behind are pruned. What leads after few epochs
need not lead at the end: with --confirm, the best values and those by hand are trained again at a larger scale. The
study is a journal on disk: a command that was stopped goes on where it was, and more trials may be asked for later.
"""

import argparse
import os
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from optuna.distributions import CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial
from rich.console import Console

if __package__ in (None, ""):  # python benchmarks/tune.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from baselines.registry import tasks_of
from benchmarks.evaluator import validation_metric
from benchmarks.inputs import load_for, prepare_for, reads_text, vectors_for
from benchmarks.plan import make_run, model_file, read_yaml
from benchmarks.spec import load_spec
from benchmarks.tuning.display import TuningDisplay, best_trials, importance_lines
from benchmarks.tuning.findings import FINALISTS, best_of, finalists, importances, save, trials_table
from benchmarks.tuning.plot import plot_contour, plot_pareto, plot_search, plot_slices
from benchmarks.tuning.space import conditions, search_space
from benchmarks.tuning.study import Search, kept
from benchmarks.tuning.workers import Pool, Processes, search_until
from slurm.job_profile import load_profile
from slurm.search_job import Jobs
from synergen.console import bars, exit_status, page
from synergen.contract import Task
from synergen.data.dataset import protocol_for
from synergen.data.preparation import source_hash
from synergen.data.sources import find_source
from synergen.errors import UserError, unknown_name
from synergen.files import write_text

RESULTS = Path(__file__).resolve().parents[1] / "results"

_ENOUGH_FOR_A_CONTOUR = 6
"""Trials."""

EXAMPLES = """\
examples:
  python benchmarks/tune.py --model SASRec --dataset ml-100k --trials 8
  python benchmarks/tune.py --model SASRec --dataset ml-100k --trials 16          8 more, in the same study
  python benchmarks/tune.py --model SASRec --dataset ml-100k --trials 16 --save   the best, for all tables from now on
  python benchmarks/tune.py --model SASRec --dataset ml-100k --trials 16 --confirm cpu --save    the best at their end
  python benchmarks/tune.py --model SynerGen --dataset beauty --trials 8 --scale short --set settings.inputs=id
  python benchmarks/tune.py --model SynerGen --dataset DIR --trials 8 --params alpha,lambda,tau \\
      --set settings.retrieval_loss=infonce --start settings.temperature=0.085     the paper's three, under its own loss
"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--model", required=True, metavar="NAME", help="a model of the registry, e.g. SASRec")
    p.add_argument("--dataset", default="ml-100k", metavar="NAME|DIR", help="as in run.py; default ml-100k")
    p.add_argument("--trials", type=int, required=True, metavar="N", help="go on until the study has N trials in all")
    p.add_argument(
        "--params", metavar="A,B", help="search these alone, by short name (tau, lambda: temperature, lambda_pair)"
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PLACE=VALUE",
        help="fix settings.KEY or training.KEY in all trials; may be repeated. It is no part of what --save writes",
    )
    p.add_argument(
        "--start",
        action="append",
        default=[],
        metavar="PLACE=VALUE",
        help="what trial 1 has in place of the configuration's value; may be repeated",
    )
    p.add_argument(
        "--scale",
        default="smoke",
        metavar="NAME",
        help="epoch budget and patience of a trial, as in run.py; default smoke",
    )
    p.add_argument(
        "--confirm",
        metavar="SCALE",
        help=f"train the best {FINALISTS} and the configuration by hand again at this scale; the best of these counts",
    )
    p.add_argument("--table", type=int, default=2, metavar="N", help="whose protocol holds; default 2")
    p.add_argument(
        "--task", choices=[*map(str, Task), "joint"], help="default: recommendation, where the model serves it"
    )
    p.add_argument(
        "--save", action="store_true", help="write the best values to benchmarks/tuned/, where the tables find them"
    )
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for studies/ and plots/; default results/")
    p.add_argument("--workers", type=int, metavar="W", help="trials side by side; default one a core, one on a GPU")
    p.add_argument(
        "--executor",
        choices=("inline", "slurm"),
        default="inline",
        help="workers are processes of this command (inline, default) or jobs of SLURM (slurm), a worker a job",
    )
    p.add_argument("--profile", default="cpu", metavar="NAME|FILE", help="what a job asks for; default %(default)s")
    p.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="set a field of the profile; may be repeated"
    )
    p.add_argument(
        "--pareto",
        action="store_true",
        help="with --task joint: both metrics apart, for their Pareto front, not their mean",
    )
    p.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each trial; default 1")
    p.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    screen = page()
    return exit_status(lambda: _tune(options, screen))


def _tune(options: argparse.Namespace, screen: Console) -> None:
    if options.trials < 1 or (options.workers is not None and options.workers < 1):
        raise UserError("--trials and --workers must be 1 or more")
    search = _search(options)
    last = _search(options, options.confirm) if options.confirm else None
    metric = _metric(search.base.protocol)
    screen.print(_opening(search, metric), soft_wrap=True, markup=False)
    with bars(screen) as report:
        prepare_for(search.source, search.base.protocol, report)
        if reads_text(search.base):  # once, and not by every worker
            dataset = load_for(search.source, search.base.protocol)
            vectors_for(search.base, dataset, lambda done, total: report("texts", done, total))
    workers = options.workers or (1 if search.device == "cuda" else os.cpu_count() or 1)
    pool: Pool = Processes(options.threads)
    if options.executor == "slurm":
        pool = Jobs(load_profile(options.profile, options.slurm), options.threads)

    def studied(search: Search, count: int) -> Study:
        with TuningDisplay(screen, metric, count, workers) as display:
            return search_until(search, count, workers, pool, display.show)

    study = studied(search, options.trials)
    trials, shares = kept(study), importances(study)
    best_of(trials)
    screen.print(best_trials(trials, metric))
    if shares:
        screen.print(importance_lines(shares))
    confirmed = None
    if last:
        last = replace(last, finalists=finalists(trials))
        screen.print(_opening(last, metric), soft_wrap=True, markup=False)
        confirmed = last.scale, kept(studied(last, 1 + len(last.finalists)))
        screen.print(best_trials(confirmed[1], metric))
    written = [search.journal, *_pictures(options, search, trials, shares, metric)]
    table = options.out / "studies" / f"{search.shown_as}.csv"
    write_text(table, trials_table(trials, search))
    written.append(table)
    if options.save:
        written.append(save(trials, search, metric, _command(options, search), confirmed))
    screen.print(f"written: {', '.join(str(path) for path in written)}", soft_wrap=True)


def _pictures(
    options: argparse.Namespace,
    search: Search,
    trials: list[FrozenTrial],
    shares: dict[str, float] | None,
    metric: str,
) -> list[Path]:
    """History with importance and the metric against each value; where there is enough to draw, the two values that
    matter most; where both tasks are sought apart, their front."""
    stem = options.out / "plots" / f"tuning.{search.shown_as}.png"
    title = f"{search.base.model} on {search.base.dataset}, scale {search.scale}"
    slices, contour, front = (stem.with_suffix(f".{kind}.png") for kind in ("slices", "contour", "pareto"))
    plot_search(stem, trials, shares, metric, title)
    plot_slices(slices, trials, search, metric)
    written = [stem, slices]
    numbers = [place for place in shares or () if not isinstance(search.space[place], CategoricalDistribution)]
    if len(numbers) >= 2 and sum(bool(trial.values) for trial in trials) >= _ENOUGH_FOR_A_CONTOUR:
        plot_contour(contour, trials, search, (numbers[0], numbers[1]), metric)
        written.append(contour)
    if search.pareto:
        names = tuple(f"{validation_metric(search.base.protocol, task)} {task}" for task in Task)
        plot_pareto(front, trials, names, title)
        written.append(front)
    return written


def _search(options: argparse.Namespace, scale: str | None = None) -> Search:
    """What is searched, at the scale asked for or another one."""
    scale = scale or options.scale
    source = find_source(options.dataset)
    protocol = protocol_for(source, load_spec(options.table).fitting(source.has_impressions).protocol)
    if not protocol:
        raise UserError(f"table {options.table} trains nothing; name another --table")
    fixed, start = _values(options.set, "--set"), _values(options.start, "--start")
    base = make_run(
        options.model,
        _task(options),
        start["settings"] | fixed["settings"],
        protocol,
        source.name,
        scale,
        0,
        start["training"] | fixed["training"],
        by_hand=True,
    )
    path = model_file(options.model)
    section = read_yaml(path).get("search", {})
    places = [f"{part}.{key}" for part, values in fixed.items() for key in values]
    decisive = {place for given in section.values() for place in conditions(given)}
    started = [f"{part}.{key}" for part, values in start.items() for key in values]
    if options.save and (chosen := decisive & {*places, *started}):
        raise UserError(
            f"--set or --start {', '.join(sorted(chosen))} decides which values are read at all, so what is found "
            f"would not suit the model's configuration: write it to {path} and search without it, or leave out --save"
        )
    only = options.params.split(",") if options.params else None
    space = search_space(section, base, places, only, path.name)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if options.executor == "slurm" and not options.device:
        device = load_profile(options.profile, options.slurm).device
    if options.confirm == options.scale:
        raise UserError(
            f"--confirm {options.confirm} is the scale of the trials; name one with more epochs, such as cpu"
        )
    if options.pareto and (base.task != "joint" or options.save or options.confirm):
        raise UserError("--pareto is for --task joint, and finds no single best values to --save or --confirm")
    where = str(Path(options.dataset).resolve()) if Path(options.dataset).is_dir() else options.dataset
    studies = (options.out / "studies").resolve()
    return Search(base, space, where, source_hash(source), scale, studies, device, options.pareto, fixed)


def _values(changes: list[str], option: str) -> dict[str, dict[str, Any]]:
    """Values by section and key."""
    values: dict[str, dict[str, Any]] = {"settings": {}, "training": {}}
    for change in changes:
        place, equals, value = change.partition("=")
        section, _, key = place.partition(".")
        if section not in values or not key or not equals:
            raise UserError(f"{option} {change}: write settings.KEY=VALUE or training.KEY=VALUE")
        values[section][key] = yaml.safe_load(value)
    return values


def _task(options: argparse.Namespace) -> str:
    served = [str(task) for task in Task if task in tasks_of(options.model)]
    known = [*served, "joint"] if len(served) == len(Task) else served
    if options.task not in (None, *known):
        raise unknown_name("task", options.task, known, where=f"{options.model}")
    return options.task or served[0]


def _metric(protocol: dict[str, Any]) -> str:
    name = protocol["validation"]
    return name if isinstance(name, str) else f"mean of {' and '.join(name.values())}"


def _opening(search: Search, metric: str) -> str:
    base = search.base
    places = ", ".join(place.partition(".")[2] for place in search.space)
    return (
        f"{base.model} on {base.dataset}, {base.task}, scale {search.scale}: validation {metric} over {places}; "
        f"study {search.id}"
    )


def _command(options: argparse.Namespace, search: Search) -> str:
    """The command that repeats the search, without places on this machine."""
    words = ["python", "benchmarks/tune.py", "--model", options.model, "--dataset", search.base.dataset]
    words += ["--trials", str(options.trials), "--scale", options.scale, "--table", str(options.table)]
    words += ["--confirm", options.confirm] if options.confirm else []
    words += ["--task", search.base.task, *(["--params", options.params] if options.params else [])]
    words += [word for change in options.set for word in ("--set", change)]
    words += [word for change in options.start for word in ("--start", change)]
    return shlex.join([*words, "--save"])


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs would ignore the first
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
