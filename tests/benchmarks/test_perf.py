"""The performance command: its counting and its report. Nothing here looks at how long anything takes."""

import json

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import measure, perf
from benchmarks.figures import decoder, made_up, serving
from synergen.data.batches import training_batches, training_windows
from synergen.data.splits import LeaveOneOut
from synergen.model.task_mask import Kind


@pytest.fixture
def fast_and_slow(monkeypatch) -> None:
    """Two figures that cost nothing, one reached and one missed."""
    monkeypatch.setattr(measure, "FIGURES", {})
    for name, value in (("fast", 3.0), ("slow", 12.0)):
        made = lambda setting, value=value: measure.Value(value, "as made up")  # noqa: E731
        made.__name__ = name
        measure.figure("x", 2.5 if name == "fast" else 11, "higher" if name == "fast" else "lower")(made)


def test_pairs_and_mask_are_those_of_the_model() -> None:
    # B = 2, T = E = 5, R = 3: the mask counted literally.
    mask = decoder._dense_mask(2, 5, 3)
    assert decoder._visible_pairs(2, 5, 5, 3) == mask.sum()
    assert mask.shape == (2, 5 + 15, 5 + 15)
    assert [Kind(0), Kind(1)] == [Kind.CONTEXT, Kind.RETRIEVAL]


def test_flops_are_those_that_torch_counts() -> None:
    # Linear layers of a decoder without attention pairs, by torch's own counter; D = 16, 2 layers, 10 tokens.
    layers = made_up.decoder(16, 4).layers
    with FlopCounterMode(display=False) as counter:
        for layer in layers:
            tokens = torch.randn(10, 16)
            layer.qkv(tokens), layer.out(tokens), layer.feed_forward(tokens)
    assert decoder._decoder_flops(10, 0, 2, 16, 64) == counter.get_total_flops()
    # A pair is one logit and one weighted value a layer: 2 D multiplications and additions each.
    assert decoder._decoder_flops(10, 1, 2, 16, 64) - decoder._decoder_flops(10, 0, 2, 16, 64) == 2 * 2 * 2 * 16


def test_sides_take_turns_after_one_turn_that_does_not_count() -> None:
    calls = []
    seconds = measure.Setting(1, torch.float32, 3).seconds(lambda: calls.append("a"), lambda: calls.append("b"))
    assert "".join(calls) == "ab" * 4
    assert [len(column) for column in seconds] == [3, 3]


def test_a_figure_may_have_its_own_threads_and_dtype_or_none(monkeypatch) -> None:
    # The declarations against what the measuring function was given, and what torch was told meanwhile and after.
    monkeypatch.setattr(measure, "FIGURES", {})
    seen = []

    def loader(setting):
        seen.append((setting.threads, setting.dtype, torch.get_num_threads()))
        return measure.Value(1.0, "")

    setting, before = measure.Setting(1, torch.bfloat16, 1), torch.get_num_threads()
    reported = []
    for declared in ({}, {"dtype": None, "threads": 2}, {"dtype": torch.float32}):
        measure.figure("x", 1, "lower", **declared)(loader)
        found = measure.measured("loader", setting)
        reported.append((found.threads, found.dtype))
    assert seen == [(1, torch.bfloat16, 1), (2, torch.bfloat16, 2), (1, torch.float32, 1)]
    assert reported == [(1, "bfloat16"), (2, None), (1, "float32")]
    assert torch.get_num_threads() == before


def test_report_as_table_and_as_json(fast_and_slow, tmp_path, capsys) -> None:
    out = tmp_path / "perf.json"
    assert perf.main(["--threads", "1", "--repeats", "1", "--json", str(out)]) == 0  # a target missed is no error
    found = json.loads(out.read_text())
    assert [(one["name"], one["value"], one["target"], one["better"], one["ok"]) for one in found] == [
        ("fast", 3.0, 2.5, "higher", True),
        ("slow", 12.0, 11, "lower", False),
    ]
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("fast", "≥ 2.5", "reached", "slow", "≤ 11", "missed"))


def test_only_chooses_and_refuses_what_there_is_not(fast_and_slow, tmp_path, capsys) -> None:
    out = tmp_path / "perf.json"
    assert perf.main(["--only", "slow", "--threads", "1", "--json", str(out)]) == 0
    assert [one["name"] for one in json.loads(out.read_text())] == ["slow"]
    assert perf.main(["--only", "slwo"]) == 2
    assert "did you mean 'slow'?" in capsys.readouterr().err
    assert perf.main(["--threads", "0"]) == 2


def test_help_says_what_each_figure_compares(capsys) -> None:
    with pytest.raises(SystemExit, match="0"):
        perf.main(["--help"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in measure.FIGURES)


def test_serving_figures_compare_equal_outputs() -> None:
    # What the figures check before the clock starts, on three candidates.
    served = serving._Served(measure.Setting(1, torch.float32, 1))
    tasks = served.tasks(3)
    together = served.answer(served.encode(1), tasks)[0, 0, 1:]
    alone = torch.stack([served.answer(served.encode(1), tasks[:, :, [0, i]])[0, 0, 1] for i in (1, 2, 3)])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_the_made_up_log_is_one_that_windows_can_be_cut_of() -> None:
    # Five events or more a user; each event that trains (all but two of a user) is a target once.
    log = made_up.log(200, 50)
    lengths = np.diff(log.offsets)
    assert lengths.min() == 5
    assert lengths.max() > 5 * lengths.min()
    windows = training_windows(LeaveOneOut(log), 20)
    batches = list(training_batches(log, windows, 16, np.random.default_rng(0)))
    assert sum(int(batch.targets.sum()) for batch in batches) == log.n_events - 2 * log.n_users
    assert all(int(batch.events.items[batch.events.valid].min()) >= 1 for batch in batches)
