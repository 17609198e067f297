"""Train HSTU or the SASRec of its authors under the authors' own protocol, and compare with the numbers published.

What the protocol is, and where ours departs from it, is said in benchmarks/hstu_protocol.py. A command that was stopped
goes on from the last whole epoch; a training that is finished is read from its record.
"""

import argparse
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

if __package__ in (None, ""):  # python benchmarks/reproduce.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.environment import environment
from benchmarks.execute import Event
from benchmarks.hstu_protocol import METRICS, PUBLISHED, published_run, reproduce
from benchmarks.plan import read_yaml
from benchmarks.progress import Display, label
from synergen.console import bars, exit_status
from synergen.data.dataset import load_dataset
from synergen.events import EventLog
from synergen.files import write_json
from synergen.runs import RunSpec, RunStore

RESULTS = Path(__file__).resolve().parents[1] / "results"

EXAMPLES = """\
examples:
  synergen data prepare ml-1m                                     once: downloads 6 MB
  python benchmarks/reproduce.py --dataset ml-1m --model HSTU
  python benchmarks/reproduce.py --dataset ml-1m --model HSTU-large --seed 1 --device cuda
"""


def comparison(spec: RunSpec, ours: dict[str, float]) -> Table:
    """Ours and what is published, with the difference in percent."""
    table = Table(label(spec, f"{spec.model} on {spec.dataset}"), *METRICS, box=None, pad_edge=False)
    table.add_row("ours, stable sort", *(f"{ours[name]:.4f}" for name in METRICS))
    told = read_yaml(PUBLISHED)[spec.dataset]["models"][spec.model]
    for key, title in (("stable", "published, stable sort"), ("authors", "authors, unstable sort")):
        if key in told:
            table.add_row(title, *(f"{told[key][name]:.4f}" for name in METRICS))
            shares = (100 * (ours[name] / told[key][name] - 1) for name in METRICS)
            table.add_row("  ours differs by", *(f"{share:+.1f} %" for share in shares))
    return table


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--dataset", required=True, metavar="NAME", help=f"one of {', '.join(read_yaml(PUBLISHED))}")
    p.add_argument("--model", required=True, metavar="NAME", help="HSTU, HSTU-large or SASRec-HSTU")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    p.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="results folder; default results/")
    p.add_argument("--json", action="store_true", help="print the record as JSON instead of a table")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    return exit_status(lambda: _run(options, Console(stderr=options.json, highlight=False)))


def _run(options: argparse.Namespace, screen: Console) -> None:
    spec = published_run(options.model, options.dataset, options.seed)
    with bars(screen) as preparing:
        log = load_dataset(spec.dataset, search_share=0.5, report=preparing).log  # as `synergen data prepare` makes it
    file = options.out / "reproduced" / f"{spec.model}.{log.name}.seed{spec.seed}.json"
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if (record.get("id"), record.get("data")) != (spec.id, log.data_hash):
        store = RunStore(options.out)
        record = _train(spec, log, store, options.device, screen)
        write_json(file, record)
        store.drop_checkpoints(spec.id)
    if options.json:
        print(json.dumps(record))
    else:
        screen.print(comparison(spec, record["metrics"]))
    screen.print(f"written: {file}", soft_wrap=True)


def _train(spec: RunSpec, log: EventLog, store: RunStore, device: str | None, screen: Console) -> dict[str, Any]:
    """The record of a training, which shows its progress."""
    store.check_writable()
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with Display(screen, {spec.id: label(spec, spec.model)}) as display:

        def report(stage: str, state: dict[str, Any]) -> None:
            display.show(Event(spec.id, stage, state))

        summary = reproduce(spec, log, store.checkpoint_path(spec.id), device, report)
    return {
        "id": spec.id,
        "data": log.data_hash,
        **asdict(spec),
        "metrics": {name: summary.curve[-1][name] for name in METRICS},
        "training": asdict(summary),
        "environment": environment(device),
    }


if __name__ == "__main__":
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell's background jobs would ignore the first
        signal.signal(stop, signal.default_int_handler)
    sys.exit(main())
