"""How good it is: figures of scores beside truth, without intervals (those: `bootstrap`).

Everywhere `truth` is bool, or float with NaN where it is not known; what is not known is left out.
A figure that the data cannot give (one class missing, nothing known) is NaN, never 0 or 1.

References
----------
Hanley JA, McNeil BJ, The meaning and use of the area under a ROC curve, Radiology 1982.
Guo C et al., On calibration of modern neural networks, ICML 2017.
Cox DR, Two further applications of a model for binary regression, Biometrika 1958.
Van Calster B et al., Calibration: the Achilles heel of predictive analytics, BMC Medicine 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ichnode.domain.intervals import binomial_cdf
from train.judge.logistic import CLIP, fit_level, fit_line, log_odds

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Truth = npt.NDArray[Any]  # bool, or float with NaN

BINS = 15
LABEL_WEIGHTS = np.array([2.0, 1.0, 1.0, 1.0, 1.0, 1.0])
"""Of "any" and the five subtypes in the weighted log loss of RSNA 2019."""


def known_of(values: Floats, truth: Truth) -> tuple[Floats, Flags]:
    """Return what is known: the values and whether each is a positive."""
    stated = np.asarray(truth, np.float64)
    known = ~np.isnan(stated)
    return np.asarray(values, np.float64)[known], stated[known] == 1


def auroc(scores: Floats, truth: Truth) -> float:
    """Return the chance that a positive scores above a negative; a tie counts half."""
    found, positive = known_of(scores, truth)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if positives == 0 or negatives == 0:
        return math.nan
    ranks = float(rankdata(found)[positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Return the standard error of an AUROC of independent cases."""
    if positives == 0 or negatives == 0:
        return math.nan
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return math.sqrt(max(spread, 0.0) / (positives * negatives))


def average_precision(scores: Floats, truth: Truth) -> float:
    """Return the mean precision over the positives, tied scores taken together."""
    curve = precision_recall(scores, truth)
    if curve is None:
        return math.nan
    precision, recall = curve
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def roc(scores: Floats, truth: Truth) -> tuple[Floats, Floats] | None:
    """Return false and true positive rates from (0, 0) to (1, 1), or None without both classes."""
    found, positive = known_of(scores, truth)
    if not positive.any() or positive.all():
        return None
    hits, alarms = _cumulative(found, positive)
    start = np.zeros(1)
    return (
        np.concatenate([start, alarms / alarms[-1]]),
        np.concatenate([start, hits / hits[-1]]),
    )


def precision_recall(scores: Floats, truth: Truth) -> tuple[Floats, Floats] | None:
    """Return precision and recall from the highest score downwards, or None without positives."""
    found, positive = known_of(scores, truth)
    if not positive.any():
        return None
    hits, alarms = _cumulative(found, positive)
    return hits / (hits + alarms), hits / hits[-1]


def _cumulative(scores: Floats, positive: Flags) -> tuple[Floats, Floats]:
    """Return how many positives and negatives are called at each distinct score, downwards."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.diff(scores[order], append=-np.inf))
    hits = np.cumsum(positive[order])[ends].astype(np.float64)
    return hits, ends + 1.0 - hits


@dataclass(frozen=True, slots=True)
class Counts:
    """How many were called what, at one threshold."""

    true_positive: int
    false_negative: int
    true_negative: int
    false_positive: int

    @property
    def sensitivity(self) -> float:
        """Called, of those with it; NaN when there is none."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Not called, of those without it; NaN when there is none."""
        return _ratio(self.true_negative, self.true_negative + self.false_positive)


def counts_at(probabilities: Floats, truth: Truth, threshold: float) -> Counts:
    """Count what a threshold does; at or above it is called, as in `ichnode.nets.calibration`."""
    found, positive = known_of(probabilities, truth)
    called = found >= threshold
    return Counts(
        true_positive=int((called & positive).sum()),
        false_negative=int((~called & positive).sum()),
        true_negative=int((~called & ~positive).sum()),
        false_positive=int((called & ~positive).sum()),
    )


def losses(probabilities: Floats, truth: Truth) -> Floats:
    """Return the negative log likelihood of each entry; NaN where it is not known."""
    p = np.clip(np.asarray(probabilities, np.float64), CLIP, 1 - CLIP)
    stated = np.asarray(truth, np.float64)
    return np.asarray(-(stated * np.log(p) + (1 - stated) * np.log1p(-p)))


def log_loss(probabilities: Floats, truth: Truth) -> float:
    """Return the mean negative log likelihood."""
    return _mean(losses(probabilities, truth))


def weighted_log_loss(probabilities: Floats, truth: Truth) -> float:
    """Return the log loss of RSNA 2019: [2 x any + the five subtypes] / 7.

    0.232 knows the prevalences of RSNA and nothing else; the best of 2019 reached 0.044 on theirs.

    Parameters
    ----------
    probabilities, truth : ndarray, (n, label)
        What is not known is left out together with its weight.
    """
    weighted, weights = weighted_losses(probabilities, truth)
    total = float(weights.sum())
    return float(weighted.sum()) / total if total else math.nan


def weighted_losses(probabilities: Floats, truth: Truth) -> tuple[Floats, Floats]:
    """Return loss times weight and weight of each row, whose sums make `weighted_log_loss`."""
    each = losses(probabilities, truth)
    weights = np.where(np.isnan(each), 0.0, LABEL_WEIGHTS)
    return np.where(np.isnan(each), 0.0, each * weights).sum(axis=1), weights.sum(axis=1)


def brier(probabilities: Floats, truth: Truth) -> float:
    """Return the mean squared difference of probability and truth."""
    stated = np.asarray(truth, np.float64)
    return _mean((np.asarray(probabilities, np.float64) - stated) ** 2)


def bins_of(probabilities: Floats, bins: int = BINS) -> npt.NDArray[np.int64]:
    """Return the bin of each probability, about as many in each; equal values stay together."""
    edges = np.quantile(probabilities, np.arange(1, bins) / bins, method="inverted_cdf")
    return np.searchsorted(np.unique(edges), probabilities, side="left")


def ece(probabilities: Floats, truth: Truth, bins: int = BINS) -> float:
    """Return the expected calibration error over bins of equal mass; see `ece_by_chance`."""
    p, positive = known_of(probabilities, truth)
    if not len(p):
        return math.nan
    difference = np.bincount(bins_of(p, bins), weights=p - positive)
    return float(np.abs(difference).sum()) / len(p)


def ece_by_chance(
    probabilities: Floats, bins: int = BINS, draws: int = 200, seed: int = 1
) -> float:
    """Return the calibration error that a perfectly calibrated model shows of so many cases.

    It is never 0: with n cases in a bin, chance leaves about 0.4 / sqrt(n) at a rate of a half.
    """
    p = np.asarray(probabilities, np.float64)
    if not len(p):
        return math.nan
    rng, owner = np.random.default_rng(seed), bins_of(p, bins)
    off = (np.bincount(owner, weights=p - (rng.random(len(p)) < p)) for _ in range(draws))
    return float(np.mean([np.abs(one).sum() for one in off])) / len(p)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """What became of the cases in one bin of probabilities."""

    stated: float  # mean probability
    seen: float  # fraction of positives
    count: int
    positives: int


def reliability(probabilities: Floats, truth: Truth, bins: int = BINS) -> list[ReliabilityBin]:
    """Return stated and seen frequency per bin of equal mass, the lowest first."""
    p, positive = known_of(probabilities, truth)
    if not len(p):
        return []
    owner = bins_of(p, bins)
    counts = np.bincount(owner)
    stated, seen = (np.bincount(owner, weights=v) for v in (p, positive))
    return [
        ReliabilityBin(float(stated[b] / n), float(seen[b] / n), int(n), int(seen[b]))
        for b, n in enumerate(counts)
        if n
    ]


@dataclass(frozen=True, slots=True)
class CalibrationLine:
    """How stated and true log odds go together; a calibrated model has slope 1, intercept 0.

    A slope below 1 is overconfidence. The intercept is calibration in the large: by how much the
    log odds are too low on the whole, the slope held at 1. Bounds are 95 %, for independent cases.
    """

    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    intercept_low: float
    intercept_high: float


def calibration_line(probabilities: Floats, truth: Truth) -> CalibrationLine:
    """Regress the truth on the stated log odds.

    Both estimates are drawn towards 1 and 0 by a normal prior with a standard deviation of 2. With
    enough cases it does not matter; where both classes are wholly apart, so that any steep line
    fits, it leaves a finite slope with a wide interval.
    """
    p, positive = known_of(probabilities, truth)
    if not len(p):
        return CalibrationLine(*(math.nan,) * 6)
    z = log_odds(p)
    (_, slope), covariance = fit_line(z, positive)
    level, spread = fit_level(z, positive)
    slope_sd, level_sd = math.sqrt(covariance[1, 1]), math.sqrt(spread)
    return CalibrationLine(
        slope, slope - 1.96 * slope_sd, slope + 1.96 * slope_sd,
        level, level - 1.96 * level_sd, level + 1.96 * level_sd,
    )  # fmt: skip


def accuracy(probabilities: Floats, truth: Truth, threshold: float = 0.5) -> float:
    """Return the fraction that is called rightly; says little where one class is rare."""
    found, positive = known_of(probabilities, truth)
    return float(((found >= threshold) == positive).mean()) if len(found) else math.nan


def accuracy_multi(probabilities: Floats, truth: Truth, threshold: float = 0.5) -> float:
    """Return the fraction of all entries (n, label) that are right, as fastai and the paper do.

    Calling nothing at all scores 72.5 % on the positive slices of RSNA: kept for comparison only.
    """
    found, positive = known_of(np.asarray(probabilities).ravel(), np.asarray(truth).ravel())
    return float(((found > threshold) == positive).mean()) if len(found) else math.nan


def mcnemar_exact(lost: int, won: int) -> float:
    """Return the two-sided p value that one of two models is right more often than the other.

    Parameters
    ----------
    lost, won : int
        Cases that only the first, and only the second, got right.
    """
    unequal = lost + won
    return min(1.0, 2 * binomial_cdf(min(lost, won), unequal, 0.5)) if unequal else 1.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Floats) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan
