"""A figure that needs code from elsewhere: left out, and said so, where that is not here."""

import pytest
import torch

from benchmarks import measure, perf
from benchmarks.figures import hstu
from synergen.errors import UserError

SETTING = measure.Setting(1, torch.float32, 1)


def test_figures_without_what_they_need_are_left_out(monkeypatch, capsys) -> None:
    """By the declarations: of two figures that cost nothing one needs a variable, which is not set, and then is."""
    monkeypatch.setattr(measure, "FIGURES", {})
    for name, needs in (("free", None), ("needy", "NEEDED")):
        made = lambda setting: measure.Value(1.0, "as made up")  # noqa: E731
        made.__name__ = name
        measure.figure("x", 2, "lower", needs=needs)(made)
    monkeypatch.delenv("NEEDED", raising=False)
    assert perf.main(["--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("as made up") == 1
    assert "skipped needy: it needs NEEDED" in printed
    monkeypatch.setenv("NEEDED", "here")
    assert perf.main(["--repeats", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("as made up") == 2
    assert "skipped" not in printed


def test_a_reference_that_is_missing_is_named(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv(hstu.REFERENCE, raising=False)
    with pytest.raises(UserError, match=f"{hstu.REFERENCE} is not set"):
        hstu.hstu_layer_vs_reference(SETTING)
    monkeypatch.setenv(hstu.REFERENCE, str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}: No module named"):
        hstu.hstu_layer_vs_reference(SETTING)
