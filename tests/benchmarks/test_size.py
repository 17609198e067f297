"""What a run needs, before it runs and when it ran out of memory."""

import re
from dataclasses import replace

import pytest
import torch
from toys import toy_shop

import benchmarks.fit as fit
import benchmarks.size as size
from baselines.registry import MODELS, build, model_class
from benchmarks import run
from benchmarks.inputs import Known, known_of, prepare_for
from benchmarks.plan import make_run
from benchmarks.size import out_of_memory, planned_size, size_of
from benchmarks.spec import load_spec
from synergen.errors import UserError
from synergen.runs import RunSpec

PROTOCOL = load_spec(2).protocol


def planned(model: str, scale: str = "paper") -> RunSpec:
    task = "recommendation"
    return make_run(model, task, {}, PROTOCOL, "book-review", scale, 0)


@pytest.mark.parametrize("model", [name for name in MODELS if model_class(name).learns])
def test_the_plan_counts_the_parameters_of_the_model(model: str) -> None:
    """The same model, built in memory at the smaller scale with 40 items, 30 users and the words of two queries."""
    spec, known = planned(model, "cpu"), Known(40, 30, ("red shoes", "blue shoes"))
    found = size_of(spec, known)
    groups = build(model, size.catalogue_of(known), spec.settings).parameter_groups()
    counts = {name: sum(parameter.numel() for parameter in group) for name, group in groups.items()}
    assert {"dense": found.dense, "sparse": found.tables} == counts
    assert found.state_bytes == 16 * sum(counts.values())  # weight, gradient, two moments, of four bytes each


def test_a_plan_of_published_data_needs_no_files(tmp_path, capsys) -> None:
    """TinyLlama twice without output layers and once without words, see test_hllm: 2,003,490,817 parameters, 16 bytes
    each. A step has at most 8 · 51 + 512 texts of 257 tokens through 22 layers of 44.0 M parameters, 8 FLOPs each, with
    attention and users 1.86 PFLOP."""
    arguments = ["--table", "2", "--dataset", "book-review", "--scale", "paper", "--plan", "--out", str(tmp_path)]
    assert run.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    at = next(i for i, line in enumerate(lines) if "HLLM" in line)
    assert "1.94 B dense parameters and 65.5 M in embedding tables, 32.1 GB of weights" in lines[at + 1]
    assert "a step of 8 windows at most 1.86 PFLOP" in lines[at + 1]
    assert sum("nothing to train" in line for line in lines) >= 1
    assert not any("not known" in line for line in lines)


def test_unknown_sizes_are_said_to_be_unknown(tmp_path) -> None:
    protocol = planned("SASRec").protocol
    assert known_of("book-review", protocol) == Known(686_624, 694_898)  # as the recipe prints
    assert known_of(str(tmp_path), protocol) is known_of("no such data", protocol) is None
    assert planned_size(planned("SASRec"), str(tmp_path)) == "size not known before the data set is prepared"
    spec = planned("HLLM")
    elsewhere = replace(spec, settings=spec.settings | {"item_model": str(tmp_path / "nothing")})
    assert "size not known: HLLM: cannot load the configuration" in planned_size(elsewhere, "book-review")


def test_words_and_users_of_prepared_data_are_counted(tmp_path) -> None:
    """TEM has a row for each word of a query, and one for none, of its width; UniSAR one for each user beside."""
    folder = toy_shop(tmp_path / "shop", users=400, items=150)
    protocol = load_spec(3).protocol
    prepare_for(str(folder), protocol, lambda what, done, total: None)
    known = known_of(str(folder), protocol)
    assert known is not None
    words = len({word for query in known.queries for word in query.split()})
    assert words > 5
    for model, given, users in (("TEM", {}, 0), ("UniSAR", {"user_vectors": True}, known.users)):
        spec = make_run(model, "search", given, protocol, "shop", "cpu", 0)
        width = spec.settings["id_width" if model == "UniSAR" else "width"]
        more = size_of(spec, known).tables - size_of(spec, Known(known.items)).tables
        assert more == pytest.approx((words + users) * width, abs=2 * width)


def test_out_of_memory_names_the_largest_batch_that_fits() -> None:
    """Memory for the state and the activations of 5 windows: 5 it is, of the 256 asked for."""
    spec = planned("HLLM-scratch", "cpu")
    step = size._step(spec, 5)
    assert step is not None
    memory = size_of(spec, Known(40)).state_bytes + int(step.activation_bytes) + 1
    message = str(out_of_memory(spec, Known(40), memory))
    assert "training.batch_size in benchmarks/configs/HLLM-scratch.yaml may be 5 at most, now 128" in message
    assert "no batch fits" in str(out_of_memory(spec, Known(40), memory // 100))
    assert "may be 127 at most, now 128" in str(out_of_memory(spec, Known(40), 10**12))  # that many did not fit
    without = str(out_of_memory(planned("SASRec"), Known(40), 10**9))
    assert re.search(r"the GPU's 1 GB are used up.*Lower training\.batch_size in .*SASRec\.yaml, now 128", without)


def test_a_run_that_meets_the_end_of_memory_says_so(toy, monkeypatch, tmp_path) -> None:
    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(fit, "train", full)
    monkeypatch.setattr(fit, "device_memory", lambda device: 10**9)
    spec = planned("HLLM-scratch", "cpu")
    with pytest.raises(UserError, match=r"HLLM-scratch: the GPU's 1 GB are used up.*may be \d+ at most, now 128"):
        fit.fit(None, spec, toy, None, tmp_path / "x.pt", "cuda")  # type: ignore[arg-type]


def test_large_catalogues_are_in_line_with_smaller_ones(monkeypatch) -> None:
    """Built whole at 300 items, and continued from 99 and 100."""
    spec, known = planned("SynerGen", "cpu"), Known(300)
    whole = size_of(spec, known)
    monkeypatch.setattr(size, "MOST_ITEMS", 100)
    assert size_of(spec, known) == whole
    assert whole.buffer_bytes >= 2 * 8 * 300  # two float64 of popularity an item
