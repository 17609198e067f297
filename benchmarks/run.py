"""Regenerate a table of the SynerGen paper beside the paper's numbers.

Runs that have a record are reused, unfinished ones go on from their last epoch, the rest is trained. A table is a
function of records alone: when every run has one, nothing is trained and no data set is read.
"""

import argparse
import logging
import math
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

if __package__ in (None, ""):  # python benchmarks/run.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.campaign import Campaign, add_arguments
from benchmarks.execute import Job, run_all, run_here
from benchmarks.inputs import known_of, prepare_for
from benchmarks.measure import Setting
from benchmarks.plan import scales
from benchmarks.planning.bill import Bill, why_not_sharded
from benchmarks.planning.cluster import load_cluster
from benchmarks.planning.display import lines
from benchmarks.planning.utilisation import utilisation
from benchmarks.planning.workload import workload_of
from benchmarks.progress import Display, duration, label
from benchmarks.report.page import write_report
from benchmarks.size import planned_size
from slurm.job_profile import Profile, load_profile
from slurm.submit import EXECUTORS
from slurm.submit import run_all as run_jobs
from slurm.sweeps import sweep_of
from synergen import distributed
from synergen.console import bars, exit_status, page
from synergen.errors import UserError
from synergen.precision import autocast_dtype
from synergen.runs import RunSpec

EXAMPLES = """\
examples:
  python benchmarks/run.py --table 3                            ml-100k, a few minutes
  python benchmarks/run.py --table 2 --dataset DIR --scale cpu  your own log, early-stopped on validation
  python benchmarks/run.py --table 3 --models SASRec,BM25 --seeds 3
  python benchmarks/run.py --table 3 --plan                     what would run, and how long it would take
  python benchmarks/run.py --table 4 --dataset sessions-1k      ablations on a small simulated shop
  torchrun --nproc-per-node 8 benchmarks/run.py --table 3       each run by eight processes together, see README
  python benchmarks/run.py --report                             one page of all tables, figures and runs in results/
"""


def parser(needs_table: bool = True) -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(p, None, needs_table)
    p.add_argument(
        "--report",
        action="store_true",
        help="write report.html, one page of all tables, figures and runs that --out holds, and REPRODUCIBILITY.md, a "
        "verdict on each claim of the paper, and stop; trains nothing",
    )
    p.add_argument("--workers", type=int, metavar="N", help="runs side by side; default one a core, one on a GPU")
    p.add_argument(
        "--threads",
        type=int,
        default=1,
        metavar="N",
        help="threads of each run; default 1: on another number sums round otherwise and numbers change a little",
    )
    p.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    p.add_argument(
        "--executor",
        choices=("inline", *EXECUTORS),
        default="inline",
        help="where the runs go: processes of this command (inline, default), jobs of SLURM (slurm), the same jobs on "
        "this machine (local), or this process, for a debugger (debug); see also slurm/sweep.py, which does not wait",
    )
    p.add_argument("--profile", metavar="NAME|FILE", help="what a job asks for; default local, or cpu on SLURM")
    p.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="set a field of the profile; may be repeated"
    )
    p.add_argument("--force", action="store_true", help="forget the records of these runs and train again")
    p.add_argument("--plan", action="store_true", help="say what would run and for how long, and stop")
    p.add_argument(
        "--cluster",
        metavar="NAME|FILE",
        help="with --plan: what the rows' models would take of the GPUs of this profile of slurm/, such as a100x16: "
        "parameters, FLOPs, memory, communication, hours, and what fits. --dataset may be a file of counts (see "
        "benchmarks/plans/)",
    )
    p.add_argument(
        "--calibrate",
        action="store_true",
        help="with --cluster: train a few steps on this machine, to estimate at which share of their peak GPUs work",
    )
    p.add_argument("--sharded", action="store_true", help="with --cluster: only with item tables sharded by rows")
    p.add_argument("--json", action="store_true", help="print the table as JSON instead of text")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser(needs_table="--report" not in words).parse_args(words)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    return exit_status(lambda: _report(options) if options.report else _together(options))


def _report(options: argparse.Namespace) -> None:
    paths = write_report(options.out)
    page().print(f"written: {', '.join(map(str, paths))}", soft_wrap=True)


def _together(options: argparse.Namespace) -> None:
    """The whole of the command, in each of the processes that torchrun started, if it did."""
    with distributed.joined(options.device or ("cuda" if torch.cuda.is_available() else "cpu")) as device:
        if distributed.world() > 1 and options.executor != "inline":
            raise UserError(
                f"--executor {options.executor} starts processes of its own; leave torchrun, or --executor, out"
            )
        _table(options, page(stderr=options.json, quiet=distributed.rank() > 0), device)


def _table(options: argparse.Namespace, screen: Console, device: str) -> None:
    campaign = Campaign.on_record(options)
    _refuse_stray(options)
    first = distributed.rank() == 0
    if options.force and not options.plan and first:
        campaign.forget()
    distributed.gathered(None)  # all see what the first one leaves
    finished = campaign.finished()
    todo = campaign.to_do({} if options.force else finished)
    protocol = campaign.spec.protocol  # empty where nothing is ever run
    planned = options.plan and (not protocol or known_of(campaign.source, protocol) is not None)
    campaign.refuse_other_data(finished, needed=not planned)
    if options.cluster:
        _bills(screen, campaign, options, device)
        return
    untrainable = 0 if planned or campaign.source_is_here else len(todo)
    if untrainable:
        todo = {}
    forecast = campaign.forecast(todo, device.startswith("cuda"))
    _announce(screen, campaign, options, todo, untrainable, forecast)
    if options.plan:
        return
    failed: dict[str, str] = {}
    if todo:
        campaign.store.check_writable()
        with bars(screen) as report:
            prepare_for(campaign.source, campaign.spec.protocol, report)  # here, and not by every run
        failed = _train(options, screen, campaign, todo, forecast, device)
        finished |= {run_id: campaign.store.load(run_id) for run_id in todo}
    if first:
        campaign.show(screen, options.json, finished)
    if failed:
        reasons = (f"{label(todo[run_id][1], todo[run_id][0])} failed: {why}" for run_id, why in failed.items())
        raise UserError("\n".join(reasons))


def _refuse_stray(options: argparse.Namespace) -> None:
    if options.cluster and not options.plan:
        raise UserError("--cluster is for --plan; to run on a cluster, see --executor and --profile")
    for name in ("calibrate", "sharded"):
        if getattr(options, name) and not options.cluster:
            raise UserError(f"--{name} is for --plan --cluster NAME, such as a100x16")


def _bills(screen: Console, campaign: Campaign, options: argparse.Namespace, device: str) -> None:
    """What each row's model would take of a cluster, whether or not it has been run."""
    cluster = load_cluster(options.cluster, options.slurm)
    known = known_of(campaign.source, campaign.spec.protocol)
    if known is None:
        raise UserError(
            f"{campaign.source}: its size is not known before it is prepared; give a file of counts such as "
            "benchmarks/plans/session-us.yaml as --dataset"
        )
    for method, runs in campaign.wanted.items():
        spec = runs[0]
        if options.sharded and (why := why_not_sharded(spec)):
            raise UserError(f"{method}: {why}; leave out --sharded, or name other --models")
        if not spec.trainer:
            screen.print(f"{method}: nothing to train\n")
            continue
        try:
            bill = Bill(spec, known, workload_of(spec, campaign.source), cluster)
            ways = bill.ways(options.sharded)
            dtype = autocast_dtype(device, spec.trainer["precision"]) or torch.float32
            setting = Setting(options.threads, dtype, repeats=3, device=device)
            measured = utilisation(spec, known, bill.work, setting) if options.calibrate else None
        except UserError as error:
            screen.print(f"{method}: not known: {error}\n", soft_wrap=True, markup=False)
            continue
        for line in lines(f"{method} on {campaign.name}", bill, ways, measured):
            screen.print(line, soft_wrap=True, markup=False)
        screen.print()


def _announce(
    screen: Console,
    campaign: Campaign,
    options: argparse.Namespace,
    todo: dict[str, tuple[str, RunSpec]],
    untrainable: int,
    forecast: dict[str, float | None],
) -> None:
    spec, name = campaign.spec, campaign.name
    screen.print(
        f"Table {spec.number} on {name}, scale {campaign.scale}, {campaign.seeds} seed(s): {spec.title}", soft_wrap=True
    )
    if untrainable:
        screen.print(
            f"the data of {name} are not here: {untrainable} runs without a record stay pending; to train them, give "
            "the folder of the data set",
            soft_wrap=True,
        )
        return
    if not todo:
        screen.print("nothing to train" + (": every run has a record" if spec.protocol else ""))
        return
    workers = _workers(options, len(todo))
    for run_id, (method, run) in todo.items():
        state = "goes on" if campaign.store.checkpoint_path(run_id).exists() else "to run"
        screen.print(f"  {label(run, method):<28} {state}, about {duration(forecast[run_id])}", soft_wrap=True)
        if options.plan:
            screen.print(f"    {planned_size(run, campaign.source)}", soft_wrap=True)
    known = [seconds for seconds in forecast.values() if seconds is not None]
    if len(known) == len(todo):
        total = max(sum(known) / workers, max(known))
        screen.print(f"{len(todo)} runs, {workers} side by side: about {duration(total)} in all")
    else:
        screen.print(f"{len(todo)} runs, {workers} side by side; the time is known after each one's first epoch")
    if torch.cuda.is_available() and campaign.scale != "paper":
        screen.print(f"there is a GPU: --scale paper would use the paper's sizes (scales: {', '.join(scales())})")


def _workers(options: argparse.Namespace, runs: int) -> int:
    if options.workers is not None and options.workers < 1:
        raise UserError("--workers must be 1 or more")
    if options.executor != "inline":
        return min(1 if options.executor == "debug" else _profile(options).array_parallelism, max(1, runs))
    if distributed.world() > 1:
        return 1
    default = 1 if torch.cuda.is_available() and options.device != "cpu" else (os.cpu_count() or 1)
    return min(options.workers or default, max(1, runs))


def _train(
    options: argparse.Namespace,
    screen: Console,
    campaign: Campaign,
    todo: dict[str, tuple[str, RunSpec]],
    forecast: dict[str, float | None],
    device: str,
) -> dict[str, str]:
    def seconds(run_id: str) -> float:
        expected = forecast[run_id]
        return math.inf if expected is None else expected

    longest_first = [todo[run_id] for run_id in sorted(todo, key=seconds, reverse=True)]
    jobs = [Job(run, campaign.source, options.out, device, campaign.scale) for _, run in longest_first]
    labels = {run.id: label(run, method) for method, run in longest_first}
    with Display(screen, labels) as display:
        if distributed.world() > 1:
            run_here(jobs, options.threads, display.show)
            return {}
        if options.executor == "inline":
            return run_all(jobs, _workers(options, len(jobs)), options.threads, display.show)
        profile = _profile(options)
        sweep = sweep_of(campaign, profile, {job.spec.id: todo[job.spec.id] for job in jobs})
        return run_jobs(sweep, list(labels), options.executor, profile, options.threads, display.show)


def _profile(options: argparse.Namespace) -> Profile:
    """Of a job; as many of them go at a time as there are workers, on the device that was asked for."""
    profile = load_profile(options.profile or ("cpu" if options.executor == "slurm" else "local"), options.slurm)
    asked = {"array_parallelism": options.workers, "device": options.device}
    return replace(profile, **{key: value for key, value in asked.items() if value})


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs would ignore the first
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
