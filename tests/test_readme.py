"""What the README tells people to type is accepted by the programs it names."""

import re
import shlex
from pathlib import Path

import pytest

from benchmarks import run
from synergen import cli

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line.strip()]


def starting(*words: str) -> list[list[str]]:
    return [command[len(words) :] for command in COMMANDS if command[: len(words)] == list(words)]


@pytest.mark.parametrize(
    "arguments", [a for a in starting("python", "benchmarks/run.py") if a != ["--help"]], ids=" ".join
)
def test_table_commands_parse(arguments):
    options = run.parser().parse_args(arguments)
    run.load_spec(options.table)
    assert options.scale in run.scales()


@pytest.mark.parametrize("arguments", starting("synergen"), ids=" ".join)
def test_synergen_commands_parse(arguments):
    assert callable(cli.parser().parse_args(arguments).action)


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [command[0] for command in starting("make")]
    assert {"table3", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_continuous_integration_runs_the_readme_command():
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
