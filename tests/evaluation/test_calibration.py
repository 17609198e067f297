"""Calibration against hand computation, scipy, a brute-force grid, and simulated truth."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest

from synergen.errors import UserError
from synergen.evaluation.calibration import (
    Reliability,
    Temperature,
    calibration,
    expected_calibration_error,
    fit_temperature,
    log_loss,
    quality,
    reliability,
)
from synergen.evaluation.plots import reliability_figure
from synergen.plot_style import save


def clicks(n: int, seed: int = 0, shift: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """True logits of n impressions and their clicks."""
    rng = np.random.default_rng(seed)
    true = rng.normal(shift, 1.2, n)
    return true, (rng.random(n) < expit(true)).astype(int)


def test_calibration_error_by_hand() -> None:
    """Two bins of two: predicted .15 and .7, observed ½ and ½, so (.35 + .2) / 2. Equally wide bins: {.1, .2, .5}, as
    an edge belongs to the lower bin, and {.9}: predicted .8/3 and .9, observed ⅓ and 1, so ¾ · .2/3 + ¼ · .1."""
    probability, label = np.array([0.9, 0.1, 0.5, 0.2]), np.array([1, 0, 0, 1])
    assert expected_calibration_error(probability, label, 2) == pytest.approx(0.275)
    assert expected_calibration_error(probability, label, 2, equal_width=True) == pytest.approx(0.075)


def test_bins_hold_equally_many_and_agree_with_scipy() -> None:
    """90 distinct predictions in 15 bins are 6 a bin in order; the intervals are scipy's Wilson intervals."""
    rng = np.random.default_rng(0)
    probability, label = rng.random(90), rng.integers(0, 2, 90)
    found = reliability(probability, label)
    order = np.argsort(probability).reshape(15, 6)
    assert found.counts == [6] * 15
    assert found.predicted == pytest.approx(probability[order].mean(axis=1))
    assert found.observed == pytest.approx(label[order].mean(axis=1))
    wilson = [binomtest(int(k), 6).proportion_ci(method="wilson") for k in label[order].sum(axis=1)]
    assert found.low == pytest.approx([one.low for one in wilson], abs=1e-4)  # 1.96 is rounded
    assert found.high == pytest.approx([one.high for one in wilson], abs=1e-4)
    assert (found.quantiles[0], found.quantiles[-1]) == (probability.min(), probability.max())


def test_equal_predictions_share_a_bin_whatever_their_order() -> None:
    """One constant prediction has one bin, whose error is its distance from the click rate, 0.3 - 0.25."""
    label = np.tile([1, 0, 0, 0], 10)
    for labels in (label, np.sort(label)):
        found = reliability(np.full(40, 0.3), labels)
        assert (found.counts, found.error) == ([40], pytest.approx(0.05))


def test_true_probabilities_have_no_error_against_themselves_and_little_against_clicks() -> None:
    """Against clicks the error of perfect predictions is that of sampling: mean √(2/π · p (1 - p) / count) over bins,
    here met within a half of itself."""
    true, label = clicks(30_000)
    probability = expit(true)
    assert expected_calibration_error(probability, probability) == pytest.approx(0, abs=1e-12)
    found = reliability(probability, label)
    p = np.array(found.predicted)
    assert found.error == pytest.approx(np.sqrt(2 / np.pi * p * (1 - p) / 2000).mean(), rel=0.5)


def test_log_loss_by_hand_and_where_probabilities_would_round() -> None:
    """ln 2 at a logit of 0, ln 4 at odds of 3 against; a wrong logit of 50 costs 50, where 1 - σ(50) is 0 in float64;
    a certain prediction costs nothing when right and everything when wrong."""
    assert log_loss(np.array([0.0, np.log(3)]), np.array([1, 0])) == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert log_loss(np.array([50.0]), np.array([0])) == pytest.approx(50)
    assert log_loss(logit([0.0, 1.0]), np.array([0, 1])) == 0
    assert log_loss(logit([0.0]), np.array([1])) == np.inf


@pytest.mark.parametrize("bias", [False, True])
def test_the_fit_is_the_least_log_loss(bias: bool) -> None:
    """Reference: the best point of a grid around the fit, refined no further; the fit must be as good and near it.

    Where the shift is free, the mean calibrated probability is the click rate (the slope in the shift is 0)."""
    true, label = clicks(1000)
    logits = 2 * true + 1
    found = fit_temperature(logits, label, bias=bias)
    scales = np.linspace(0.02, 1.5, 75)  # steps of 0.02
    shifts = np.linspace(-1.5, 0.5, 101) if bias else np.zeros(1)  # steps of 0.02
    losses = np.array([[log_loss(s * logits + b, label) for b in shifts] for s in scales])
    i, j = np.unravel_index(losses.argmin(), losses.shape)
    assert log_loss(found(logits), label) <= losses[i, j]
    assert abs(found.scale - scales[i]) <= 0.04
    assert abs(found.bias - shifts[j]) <= 0.04
    if bias:
        assert expit(found(logits)).mean() == pytest.approx(label.mean(), abs=1e-7)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 100.0])
def test_the_distortion_is_undone_at_any_size_of_logits(unit: float) -> None:
    """Logits that are (true + 1) · unit are right again at scale 1 / unit and shift -1, within four standard errors
    (about 0.011 and 0.02 at 40,000 clicks of this spread)."""
    true, label = clicks(40_000)
    found = fit_temperature((true + 1) * unit, label, bias=True)
    assert found.scale * unit == pytest.approx(1, abs=0.05)
    assert found.bias == pytest.approx(-1, abs=0.08)


def test_calibration_never_turns_the_order_around() -> None:
    """Of scores that say the opposite of the clicks, the best scale that is not negative is 0."""
    true, label = clicks(2000)
    found = fit_temperature(-true, label, bias=True)
    assert found.scale == 0
    assert expit(found.bias) == pytest.approx(label.mean(), abs=1e-6)


def test_the_summary_knows_the_distortion_and_the_floor() -> None:
    """Logits 2 · true + 1: only scale and shift together undo them. The loss of the true probabilities differs from the
    best fit's by chance alone, and every figure can go into a run record."""
    true, label = clicks(20_000, seed=1)
    valid_true, valid_label = clicks(20_000, seed=2)
    found = calibration(2 * true + 1, label, 2 * valid_true + 1, valid_label, truth=expit(true))
    raw, tempered, platt, floor = found.raw, found.after_temperature, found.after_platt, found.floor
    assert floor is not None
    assert found.platt == fit_temperature(2 * valid_true + 1, valid_label, bias=True)
    assert platt.log_loss < tempered.log_loss < raw.log_loss
    assert platt.log_loss == pytest.approx(floor.log_loss, abs=1e-3)
    assert (floor.truth_ece, floor.truth_error) == pytest.approx((0, 0), abs=1e-12)
    assert platt.truth_error < 0.02 < 0.05 < raw.truth_error
    assert platt.ece < 0.02 < 0.05 < raw.ece
    assert raw.brier == pytest.approx(np.mean((expit(2 * true + 1) - label) ** 2))
    assert found.click_rate == label.mean()
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == asdict(found)


def test_without_truth_nothing_is_said_of_it() -> None:
    """Real logs have clicks alone."""
    true, label = clicks(500)
    found = calibration(true, label, true, label)
    assert (found.floor, found.raw.truth_ece, found.raw.truth_error) == (None, None, None)
    assert found.raw == quality(true, label)


def test_identity_is_the_default_temperature() -> None:
    """A fit on logits that are right already stays near scale 1 (four standard errors)."""
    true, label = clicks(40_000)
    assert fit_temperature(true, label) == Temperature(pytest.approx(1, abs=0.05), 0.0)


def test_what_cannot_be_judged_is_refused() -> None:
    """Empty parts and one-sided labels are the data's fault, NaN and values outside [0, 1] the program's."""
    some = np.array([0.2, 0.4])
    with pytest.raises(UserError, match="no prediction"):
        log_loss(np.array([]), np.array([]))
    with pytest.raises(UserError, match="all labels are 0"):
        fit_temperature(some, np.array([0, 0]))
    with pytest.raises(ValueError, match="NaN"):
        reliability(np.array([0.2, np.nan]), np.array([0, 1]))
    with pytest.raises(ValueError, match="in \\[0, 1\\]"):
        reliability(np.array([0.2, 1.4]), np.array([0, 1]))
    with pytest.raises(ValueError, match="0 or 1"):
        log_loss(some, some)
    with pytest.raises(ValueError, match="one length"):
        log_loss(some, np.array([1]))


def test_the_figure_is_written_as_png_and_pdf_and_is_the_same_each_time(tmp_path: Path) -> None:
    """File signatures of the two formats. Curves that went through a run record's JSON draw the same bytes; a bin
    without a click and one of a constant prediction can be drawn, on both kinds of axes."""
    true, label = clicks(2000, shift=-4.0)
    curves = {"raw": reliability(expit(true), label), "constant": reliability(np.full(2000, 0.1), label)}
    assert 0 in curves["raw"].observed
    read_back = {name: Reliability(**json.loads(json.dumps(asdict(curve)))) for name, curve in curves.items()}
    save(reliability_figure(curves, "clicks"), tmp_path / "linear.png")
    save(reliability_figure(curves, "clicks", log=True), tmp_path / "log.png")
    save(reliability_figure(read_back, "clicks", log=True), tmp_path / "again.png")
    assert len(list(tmp_path.iterdir())) == 6
    for kind, signature in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        linear, log, again = ((tmp_path / f"{name}.{kind}").read_bytes() for name in ("linear", "log", "again"))
        assert linear.startswith(signature)
        assert linear != log == again


def test_importing_the_plots_chooses_no_backend() -> None:
    """A person who imports this in a notebook keeps the backend that the notebook chose."""
    code = "import sys, synergen.evaluation.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
