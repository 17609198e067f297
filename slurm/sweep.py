"""Send the runs of a table to a SLURM cluster, watch them, and collect the table.

A run that meets its time limit, is preempted or queued again goes on where it was; what is finished is on record and is
never run again. The results folder and the cache (SYNERGEN_CACHE) must be on a file system that all nodes see.
"""

import argparse
import logging
import shlex
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table as Grid

if __package__ in (None, ""):  # python slurm/sweep.py, without installation; this folder itself is not to be searched
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.campaign import RESULTS, Campaign, add_arguments
from benchmarks.inputs import prepare_for
from benchmarks.progress import Pace, describe, duration
from slurm import scheduler
from slurm.job_profile import Profile, changed, load_profile, names
from slurm.submit import event_of, script, send, standings
from slurm.sweeps import Standing, Sweep, load_sweep, sweep_of
from synergen.console import bars, exit_status, page
from synergen.runs import RunStore

COMMANDS = ("submit", "status", "retry", "cancel", "collect")
EXAMPLES = """\
examples:
  python slurm/sweep.py --table 3 --profile a100 --seeds 10 --dry-run                  scripts and hours, no job is sent
  python slurm/sweep.py --table 3 --profile a100 --seeds 10 --slurm partition=gpu --slurm account=me
  python slurm/sweep.py status                                                         all sweeps
  python slurm/sweep.py status table3.ml-100k.paper --watch                            one, until all its runs are over
  python slurm/sweep.py retry table3.ml-100k.paper --slurm mem_gb=128                  what failed, with more memory
  python slurm/sweep.py collect table3.ml-100k.paper                                   the table of what is done
"""


def parser() -> argparse.ArgumentParser:
    """The command line; `submit` may be left out."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = p.add_subparsers(required=True, metavar="COMMAND")
    submit = commands.add_parser("submit", help="send the runs of a table that are not on record; the default command")
    add_arguments(submit, "paper")
    submit.add_argument(
        "--profile",
        required=True,
        metavar="NAME|FILE",
        help=f"what a job asks for: {', '.join(names())}, or a YAML file",
    )
    submit.add_argument("--dry-run", action="store_true", help="print the script and the hours, and send nothing")
    status = commands.add_parser("status", help="how the runs of a sweep stand; without a name, all sweeps")
    status.add_argument("name", nargs="?")
    status.add_argument("--watch", action="store_true", help="until all runs are over")
    retry = commands.add_parser("retry", help="send again what failed, was killed or was cancelled")
    retry.add_argument("--unknown", action="store_true", help="and what SLURM knows nothing about")
    cancel = commands.add_parser("cancel", help="cancel what waits or runs; what is finished stays")
    collect = commands.add_parser("collect", help="make the table of what is done")
    collect.add_argument("--json", action="store_true", help="print the table as JSON instead of text")
    for command, act in ((submit, _submit), (status, _status), (retry, _retry), (cancel, _cancel), (collect, _collect)):
        command.set_defaults(act=act)
    for command in (retry, cancel, collect):
        command.add_argument("name")
    for command in (status, retry, cancel, collect):
        command.add_argument(
            "--out", type=Path, default=RESULTS, metavar="DIR", help="results folder; default results/"
        )
    for command in (submit, retry):
        command.add_argument(
            "--slurm",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="set a field of the profile, such as partition=gpu or time_min=90; may be repeated",
        )
        command.add_argument("--threads", type=int, default=1, metavar="N", help="threads of each run; default 1")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] not in (*COMMANDS, "-h", "--help"):
        given = ["submit", *given]
    options = parser().parse_args(given)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    screen = page(stderr=getattr(options, "json", False))
    options.out = options.out.resolve()
    return exit_status(lambda: options.act(options, screen))


def _submit(options: argparse.Namespace, screen: Console) -> None:
    profile = load_profile(options.profile, options.slurm)
    campaign = Campaign.asked(options)
    finished = campaign.finished()
    campaign.refuse_other_data(finished, needed=not options.dry_run)
    to_do = campaign.to_do(finished)
    wanted = {run.id for runs in campaign.wanted.values() for run in runs}
    sweep = sweep_of(campaign, profile, to_do)
    screen.print(
        f"Table {campaign.spec.number} on {campaign.name}, scale {campaign.scale}, {campaign.seeds} seed(s): "
        f"{len(to_do)} runs to send, {len(wanted - set(to_do))} on record",
        soft_wrap=True,
    )
    if not to_do:
        screen.print("nothing to send")
        return
    screen.print(_hours(profile, campaign.forecast(to_do)), soft_wrap=True)
    if options.dry_run:
        for run_id, (method, run) in to_do.items():
            screen.print(f"  {run_id}  {method} seed {run.seed}", soft_wrap=True)
        screen.print(script(sweep, len(to_do), profile, options.threads), markup=False, soft_wrap=True)
        return
    scheduler.refuse_no_slurm()
    campaign.store.check_writable()
    busy = _busy(sweep, campaign)
    free = [run_id for run_id in to_do if run_id not in busy]
    if len(free) < len(to_do):
        screen.print(f"{len(to_do) - len(free)} of them wait or run already")
    if free:
        with bars(screen) as report:
            prepare_for(campaign.source, campaign.spec.protocol, report)  # here, and not by every job
        sent = send(sweep, free, profile, options.threads)
        screen.print(f"sent: {sent[0].job}{f' to {sent[-1].job}' if len(sent) > 1 else ''}", soft_wrap=True)
    here = "" if options.out == RESULTS else f" --out {shlex.quote(str(options.out))}"
    screen.print(f"python slurm/sweep.py status {sweep.name}{here} says how they stand", soft_wrap=True)


def _busy(sweep: Sweep, campaign: Campaign) -> set[str]:
    """The runs that somebody works on or will, for whichever table: tables share runs."""
    folders = sorted(path.parent for path in sweep.folder.parent.glob("*/sweep.json"))
    sweeps = [sweep, *(load_sweep(folder) for folder in folders if folder != sweep.folder)]
    stands = (standings(one, campaign.store) for one in sweeps)
    return {run_id for one in stands for run_id, standing in one.items() if not standing.over}


def _hours(profile: Profile, forecast: dict[str, float | None]) -> str:
    runs, each = len(forecast), profile.time_min / 60
    most = f"at most {runs * each:,.0f} hours of jobs"
    if profile.gpus:
        most += f", {runs * each * profile.gpus:,.0f} GPU-hours,"
    line = f"{most} before any is queued again ({profile.time_min} min each, {profile.array_parallelism} at a time)"
    known = [seconds for seconds in forecast.values() if seconds is not None]
    if not known:
        return f"{line}; there are no like runs on record to tell how long they take"
    return f"{line}; by like runs on record, on their machine, {duration(sum(known))} for {len(known)} of them"


def _status(options: argparse.Namespace, screen: Console) -> None:
    if options.name is None:
        for folder in sorted((options.out / "sweeps").glob("*/sweep.json")):
            sweep = load_sweep(folder.parent)
            counts = Counter(one.stage for one in standings(sweep, RunStore(options.out)).values())
            screen.print(f"{sweep.name}: {', '.join(f'{count} {stage}' for stage, count in counts.items())}")
        return
    sweep = load_sweep(options.out / "sweeps" / options.name)
    found = standings(sweep, RunStore(options.out))
    if not options.watch:
        screen.print(_grid(sweep, found))
        return
    with Live(_grid(sweep, found), console=screen, refresh_per_second=1) as live:
        while not all(standing.over for standing in found.values()):
            time.sleep(5)
            found = standings(sweep, RunStore(options.out))
            live.update(_grid(sweep, found))


def _retry(options: argparse.Namespace, screen: Console) -> None:
    sweep = load_sweep(options.out / "sweeps" / options.name)
    profile = changed(sweep.profile, options.slurm, f"profile of {sweep.name}")
    again = ("failed", "killed", "cancelled", "unsent", *(["unknown"] if options.unknown else []))
    found = standings(sweep, RunStore(options.out))
    wanted = [run_id for run_id, standing in found.items() if standing.stage in again]
    unknown = sum(standing.stage == "unknown" for standing in found.values())
    if wanted:
        sent = send(sweep, wanted, profile, options.threads)
        screen.print(f"sent {len(sent)} runs again: {', '.join(one.job for one in sent)}", soft_wrap=True)
    else:
        screen.print("nothing failed, was killed or cancelled")
    if unknown and not options.unknown:
        screen.print(f"of {unknown} runs SLURM says nothing; if it has forgotten them, add --unknown", soft_wrap=True)


def _cancel(options: argparse.Namespace, screen: Console) -> None:
    sweep = load_sweep(options.out / "sweeps" / options.name)
    live = [one.job for one in standings(sweep, RunStore(options.out)).values() if one.stage in ("pending", "running")]
    scheduler.cancel(live)
    screen.print(f"cancelled {len(live)} jobs; finished runs and checkpoints are kept")


def _collect(options: argparse.Namespace, screen: Console) -> None:
    sweep = load_sweep(options.out / "sweeps" / options.name)
    asked = sweep.options | {"dataset": sweep.source, "out": options.out}
    campaign = Campaign.asked(argparse.Namespace(**asked))
    finished = campaign.finished()
    screen.print(f"{sum(run is not None for run in finished.values())} of {len(finished)} runs are done")
    campaign.show(screen, options.json, finished)


def _grid(sweep: Sweep, found: dict[str, Standing]) -> Grid:
    counts = Counter(one.stage for one in found.values())
    title = f"{sweep.name}: {', '.join(f'{count} {stage}' for stage, count in counts.items())}"
    grid = Grid("run", "job", "stands", "", box=None, header_style="bold", pad_edge=False, title=title)
    for run_id, standing in found.items():
        event = event_of(run_id, standing)
        what = standing.detail if standing.over else describe(event.stage, event.state, Pace())
        label = f"{sweep.methods[run_id]} seed {sweep.specs[run_id].seed}"
        grid.add_row(label, standing.job, standing.stage, what)
    return grid


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs would ignore the first
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
