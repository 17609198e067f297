"""The tables in results/ are what their records give today."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.exports import to_json
from benchmarks.plan import registry_tasks
from benchmarks.spec import load_spec
from benchmarks.tables import build
from synergen.runs import RunStore

RESULTS = Path(__file__).resolve().parents[1] / "results"


@pytest.mark.parametrize("path", sorted((RESULTS / "tables").glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_table_is_a_function_of_its_records(path):
    shipped = json.loads(path.read_text(encoding="utf-8"))
    store = RunStore(RESULTS)
    ids = {row["method"]: [] for row in shipped["rows"]}
    for row in shipped["rows"]:
        ids[row["method"]] += [run for run in row["runs"] if run not in ids[row["method"]]]
    runs = {method: [store.load(run_id) for run_id in found] for method, found in ids.items()}
    assert None not in [run for found in runs.values() for run in found]
    spec = load_spec(shipped["table"]).fitting(impressions=shipped["protocol"].get("split") == "time")
    table = build(spec, runs, registry_tasks(), shipped["dataset"])
    assert to_json(table) == shipped


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX: apt-get install texlive-latex-recommended")
def test_shipped_tables_compile_as_they_are(tmp_path):
    """One document that inputs all of them, none wider than its text or longer than a page."""
    paths = sorted((RESULTS / "tables").glob("*.tex"))
    inputs = "\n".join(rf"\input{{{path}}}\clearpage" for path in paths)
    packages = r"\usepackage{booktabs}\usepackage{graphicx}"
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{inputs}\end{{document}}"
    (tmp_path / "all.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert said.returncode == 0, said.stdout[-2000:]
    assert "Output written on all.pdf" in said.stdout
    for complaint in ("Overfull \\hbox", "Float too large"):
        assert complaint not in said.stdout


def test_no_record_names_a_place_of_the_machine_that_made_it():
    for record in RunStore(RESULTS).records():
        text = json.dumps(record)
        assert str(Path.home()) not in text
        assert "/tmp/" not in text
