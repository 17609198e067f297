"""Whether predicted probabilities are the frequencies that they claim to be.

Notation: N predictions. An outcome is a label (0 or 1: was it clicked?) or, where the data are simulated, the true
probability of the label; predictions are logits wherever the logarithm of a probability is taken, so that none is
rounded to 0 or 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import expit, logit

from synergen.errors import UserError

_Z = 1.96
"""Normal quantile of the 95 % intervals."""


@dataclass(frozen=True)
class Reliability:
    """Predictions against outcomes in bins of like predictions; plain numbers, so that a run record can hold them."""

    counts: Sequence[int]
    predicted: Sequence[float]
    """Mean prediction of each bin, rising."""
    observed: Sequence[float]
    """Mean outcome of each bin."""
    low: Sequence[float]
    """Lower end of the 95 % Wilson interval of `observed`."""
    high: Sequence[float]
    quantiles: Sequence[float]
    """101 evenly spaced quantiles of all predictions, from the least to the greatest."""

    @property
    def error(self) -> float:
        """The expected calibration error: mean |predicted - observed|, weighed by counts."""
        gaps = np.abs(np.subtract(self.predicted, self.observed))
        return float(np.average(gaps, weights=self.counts))


def reliability(
    probability: np.ndarray, outcome: np.ndarray, bins: int = 15, *, equal_width: bool = False
) -> Reliability:
    """Mean predictions and mean outcomes in bins.

    Bins hold equally many predictions, or with `equal_width` are equally wide between 0 and 1. Equal predictions are
    always in one bin; empty bins are left out. The Wilson intervals are those of independent labels: where the outcome
    is a true probability they are wider than need be.

    Args:
        probability: (N,) in [0, 1].
        outcome: (N,) labels or true probabilities, in [0, 1].

    Raises:
        UserError: no prediction at all.
        ValueError: a value outside [0, 1], or NaN.
    """
    probability, outcome = _checked(probability, outcome)
    if not all(((values >= 0) & (values <= 1)).all() for values in (probability, outcome)):
        raise ValueError("probabilities and outcomes must be in [0, 1]")
    inner = np.arange(1, bins) / bins
    edges = inner if equal_width else np.quantile(probability, inner, method="inverted_cdf")
    place = np.searchsorted(edges, probability)  # (N,): edges[i - 1] < probability ≤ edges[i]
    counts = np.bincount(place, minlength=bins)
    filled = counts > 0
    n = counts[filled]
    predicted = np.bincount(place, probability, bins)[filled] / n
    observed = np.bincount(place, outcome, bins)[filled] / n
    centre = (observed + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * np.sqrt(observed * (1 - observed) / n + _Z**2 / (4 * n**2))
    return Reliability(
        counts=n.tolist(),
        predicted=predicted.tolist(),
        observed=observed.tolist(),
        low=np.maximum(0, centre - half).tolist(),
        high=np.minimum(1, centre + half).tolist(),
        quantiles=np.quantile(probability, np.linspace(0, 1, 101)).tolist(),
    )


def expected_calibration_error(
    probability: np.ndarray, outcome: np.ndarray, bins: int = 15, *, equal_width: bool = False
) -> float:
    """Mean |mean prediction - mean outcome| over bins, weighed by their counts (arguments as `reliability`).

    It is above 0 for perfect predictions too, since each bin's mean outcome scatters by √(p (1 - p) / count).
    """
    return reliability(probability, outcome, bins, equal_width=equal_width).error


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of 0/1 labels in nats; ∞ where a certain prediction (logit ±∞) is wrong.

    Raises:
        UserError: no prediction at all.
        ValueError: a logit that is NaN, a label that is not 0 or 1.
    """
    logits, labels = _checked(logits, labels)
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("labels must be 0 or 1")
    return float(np.logaddexp(0, np.where(labels == 1, -logits, logits)).mean())


@dataclass(frozen=True)
class Temperature:
    """The calibrated logit is scale · logit + bias; 1 / scale is the temperature."""

    scale: float
    bias: float = 0.0

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        return self.scale * logits + self.bias


def fit_temperature(logits: np.ndarray, labels: np.ndarray, *, bias: bool = False) -> Temperature:
    """The scale, and with `bias` the shift, of least log loss (Guo et al. 2017, section 4.2; Platt 1999).

    The loss is convex. The scale is kept from below 0: calibration must not turn the order around.

    Raises:
        UserError: labels of one kind only, which any shift fits better than the last.
    """
    logits, labels = _checked(logits, labels)
    if labels.min() == labels.max():
        raise UserError(f"calibration needs clicks and non-clicks, here all labels are {labels[0]:g}; use more data")

    def loss_and_slope(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        calibrated = parameters[0] * logits + parameters[1]
        excess = expit(calibrated) - labels  # (N,)
        return log_loss(calibrated, labels), np.array([(excess * logits).mean(), excess.mean()])

    found = optimize.minimize(
        loss_and_slope,
        x0=np.array([1.0, 0.0]),
        jac=True,
        bounds=[(0, None), (None, None) if bias else (0, 0)],
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    return Temperature(*map(float, found.x))


@dataclass(frozen=True)
class Quality:
    """How good one set of predictions is."""

    ece: float
    """Expected calibration error against the labels."""
    log_loss: float
    brier: float
    """Mean squared difference from the labels."""
    truth_ece: float | None
    """Expected calibration error against the true probabilities, where they are known."""
    truth_error: float | None
    """Mean absolute difference from the true probabilities."""


def quality(logits: np.ndarray, labels: np.ndarray, truth: np.ndarray | None = None, bins: int = 15) -> Quality:
    """The quality of logits (N,) against labels (N,) and, where it is known, the true probability (N,) of a click."""
    probability = expit(np.asarray(logits, dtype=np.float64))
    return Quality(
        ece=expected_calibration_error(probability, labels, bins),
        log_loss=log_loss(logits, labels),
        brier=float(np.square(probability - labels).mean()),
        truth_ece=None if truth is None else expected_calibration_error(probability, truth, bins),
        truth_error=None if truth is None else float(np.abs(probability - truth).mean()),
    )


@dataclass(frozen=True)
class Calibration:
    """Predictions of the test part before and after calibration on the validation part, as a run record holds them."""

    n: int
    click_rate: float
    bins: int
    temperature: Temperature
    platt: Temperature
    raw: Quality
    after_temperature: Quality
    after_platt: Quality
    floor: Quality | None
    """Of the true probabilities themselves: what no model can beat but by chance."""


def calibration(
    logits: np.ndarray,
    labels: np.ndarray,
    validation_logits: np.ndarray,
    validation_labels: np.ndarray,
    truth: np.ndarray | None = None,
    bins: int = 15,
) -> Calibration:
    """Judge the ranking head's logits (N,) of the test part; the scalings are fitted on the validation part alone.

    The paper trains the head by binary cross-entropy so that its probabilities are calibrated (section "Multi-task
    training objectives", ranking loss), and does not report whether they are.

    Raises:
        UserError: a part without predictions, or a validation part with labels of one kind only.
    """
    temperature = fit_temperature(validation_logits, validation_labels)
    platt = fit_temperature(validation_logits, validation_labels, bias=True)
    return Calibration(
        n=len(labels),
        click_rate=float(np.mean(labels)),
        bins=bins,
        temperature=temperature,
        platt=platt,
        raw=quality(logits, labels, truth, bins),
        after_temperature=quality(temperature(logits), labels, truth, bins),
        after_platt=quality(platt(logits), labels, truth, bins),
        floor=None if truth is None else quality(logit(truth), labels, truth, bins),
    )


def _checked(prediction: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 (N,)."""
    prediction, outcome = np.asarray(prediction, dtype=np.float64), np.asarray(outcome, dtype=np.float64)
    if prediction.shape != outcome.shape or prediction.ndim != 1:
        raise ValueError(f"predictions and outcomes must be of one length, here {prediction.shape}, {outcome.shape}")
    if prediction.size == 0:
        raise UserError("there is no prediction to judge: no request of this part shows items; use a larger data set")
    if np.isnan(prediction).any() or np.isnan(outcome).any():
        raise ValueError("a prediction or an outcome is NaN; training has diverged or the model divides by zero")
    return prediction, outcome
