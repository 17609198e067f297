"""What the README tells people to type is accepted by the programs it names."""

import json
import re
import shlex
from pathlib import Path

import pytest
from saved_toys import save_toy_model, toy_vectors

from benchmarks import heads, perf, plot, reproduce, run, tune
from benchmarks.plan import scales
from benchmarks.spec import load_spec
from slurm import sweep
from synergen import cli
from synergen.data.dataset import load_dataset

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [shlex.split(line, comments=True) for block in BLOCKS for line in block.splitlines() if line.strip()]


def test_the_main_table_has_the_numbers_of_the_results():
    """Mean, half-width and seeds of N@10 in the JSON of Table 2, to two digits of a percent; the best one is bold."""
    head, _, *lines = re.search(r"(?:^\|.*\n)+", README.partition("## Results today")[2], re.MULTILINE)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, *lines)]
    for column, dataset in enumerate(cells[0][1:], start=1):
        rows = json.loads((ROOT / "results" / "tables" / f"table2.{dataset}.json").read_text())["rows"]
        found = {row["method"]: (row["metrics"]["N@10"], row["seeds"]) for row in rows if row["metrics"]}
        best = max(value["mean"] for value, _ in found.values())
        for method, *shown in cells[1:]:
            if method not in found:
                assert shown[column - 1] == ""
                continue
            value, seeds = found.pop(method)
            mean = f"{100 * value['mean']:.2f}"
            mean = f"**{mean}**" if value["mean"] == best else mean
            assert shown[column - 1] == f"{mean} ± {50 * (value['high'] - value['low']):.2f} ({seeds})"
        assert not found


def starting(*words: str) -> list[list[str]]:
    return [command[len(words) :] for command in COMMANDS if command[: len(words)] == list(words)]


@pytest.mark.parametrize(
    "arguments", [a for a in starting("python", "benchmarks/run.py") if a != ["--help"]], ids=" ".join
)
def test_table_commands_parse(arguments):
    options = run.parser(needs_table="--report" not in arguments).parse_args(arguments)
    assert options.report or load_spec(options.table)
    assert options.scale in (None, *scales())


@pytest.mark.parametrize("command", [tune, reproduce, perf, plot, heads], ids=lambda command: command.__name__)
def test_other_commands_parse(command):
    name = f"benchmarks/{command.__name__.rpartition('.')[2]}.py"
    found = [line[line.index(name) + 1 :] for line in COMMANDS if name in line]
    assert found
    for arguments in found:
        command.parser().parse_args(arguments)


@pytest.mark.parametrize("arguments", starting("python", "slurm/sweep.py"), ids=" ".join)
def test_sweep_commands_parse(arguments):
    given = arguments if arguments[0] in sweep.COMMANDS else ["submit", *arguments]
    assert sweep.parser().parse_args(given).act.__name__ == f"_{given[0]}"


@pytest.mark.parametrize("arguments", starting("synergen"), ids=" ".join)
def test_synergen_commands_parse(arguments):
    assert callable(cli.parser().parse_args(arguments).action)


@pytest.fixture
def trained(tmp_path_factory, monkeypatch) -> None:
    """A folder out/ with a random model of ml-100k under the run id of the README; text vectors are made up."""
    folder = tmp_path_factory.mktemp("reader")
    save_toy_model(folder / "out" / "models" / "0123456789ab", load_dataset("ml-100k", search_share=0.5))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("synergen.serving.encode_texts", toy_vectors)


def test_a_trained_model_is_used_as_written(trained, capsys):
    asking = [c for c in starting("synergen") if c[0] in ("recommend", "search", "rank", "explain")]
    assert [command[0] for command in asking] == ["recommend", "search", "rank", "explain"]
    for command in asking:
        assert cli.main(command) == 0, capsys.readouterr().err
    assert Path("attention.png").stat().st_size > 0
    assert capsys.readouterr().out.count("the last 8 of 39 events") == 3  # user 196 has 39 ratings in MovieLens 100K


def test_the_python_example_runs_as_written(trained, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(example, {})
    printed = capsys.readouterr().out
    for title in ("Toy Story", "Fargo", "Return of the Jedi"):  # films 1, 100 and 181 of MovieLens
        assert title in printed
    assert len(printed.splitlines()) >= 3 * 5 + 3  # three answers of five films, and one of three


def test_make_targets_of_the_readme_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = [command[0] for command in starting("make")]
    assert {"table3", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)


def test_continuous_integration_runs_the_readme_command():
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
