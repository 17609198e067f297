"""Draw the figures of a table from its records: nothing is trained.

Each is written to results/plots/ as PDF, PNG, and the CSV that it is drawn from. What a figure needs and does not find
is said in a line, and the others are drawn.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console

if __package__ in (None, ""):  # python benchmarks/plot.py, without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.campaign import Campaign, add_arguments
from benchmarks.plots.registry import PLOTS
from synergen.console import exit_status, page
from synergen.errors import UserError, unknown_name

EXAMPLES = f"""\
figures:
{chr(10).join(f"  {name:<18} {plot.about}" for name, plot in PLOTS.items())}

examples:
  python benchmarks/plot.py --table 2 --dataset ml-100k
  python benchmarks/plot.py --table 2 --dataset ml-100k --only learning-curves,recall
  python benchmarks/plot.py --table 2 --dataset DIR        a folder: figures by popularity, history or gap read its log
"""


def parser() -> argparse.ArgumentParser:
    """The command line: that of run.py, whose table is drawn."""
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(p, None)
    p.add_argument("--only", metavar="A,B", help="these figures alone; default all")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = parser().parse_args(arguments)
    screen = page()
    return exit_status(lambda: _draw(options, screen))


def _draw(options: argparse.Namespace, screen: Console) -> None:
    names = options.only.split(",") if options.only else list(PLOTS)
    for name in names:
        if name not in PLOTS:
            raise unknown_name("figure", name, PLOTS)
    campaign = Campaign.on_record(options, every_seed=True)
    if campaign.spec.qualitative:
        raise UserError(f"table {campaign.spec.number} has texts and no numbers to draw; --table 2 has some")
    finished = campaign.finished()
    campaign.refuse_other_data(finished, needed=False)
    material = campaign.material(finished, campaign.wanted)
    count = sum(map(len, material.runs.values()))
    screen.print(f"{material.title}, scale {campaign.scale}: {count} runs on record", soft_wrap=True, markup=False)
    drawn = 0
    for name in names:
        try:
            parts = list(PLOTS[name].data(material))
        except UserError as why:
            screen.print(f"  {name}: not drawn: {why}", soft_wrap=True, markup=False)
            continue
        written = PLOTS[name].write(parts, material, campaign.stem, name)
        figures = [path.stem for path in written if path.suffix == ".png"]
        drawn += len(figures)
        screen.print(f"  {name}: {', '.join(figures)}", soft_wrap=True, markup=False)
    folder = campaign.store.folder / "plots"
    screen.print(f"{drawn} figures in {folder}, each as png, pdf and csv", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
