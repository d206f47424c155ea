"""The operating point: the largest threshold that is known to find enough.

"Known" is a one-sided 95 % lower bound of the sensitivity, by Clopper and Pearson: exact, so that
the promise holds for few cases too. Thresholds are tried from the lowest upwards and the last one
before the first failure is taken (fixed-sequence testing), so that trying many costs nothing. One
series a patient is counted, because those of a patient are no independent observations.

References
----------
Clopper CJ, Pearson ES, Biometrika 1934.
Maurer W, Hothorn LA, Lehmacher W, Multiple comparisons in drug clinical trials, 1995 (fixed
sequences).
Youden WJ, Index for rating diagnostic tests, Cancer 1950.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ichnode.domain.intervals import clopper_pearson_lower, observations_needed

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

PREVALENCES = (0.03, 0.061, 0.10, 0.15)
"""Of studies with haemorrhage, from a mixed list to an emergency department."""
LEAST_SPECIFICITY = 0.98
"""Of the cut that is taken where no promise can be made."""


@dataclass(frozen=True, slots=True)
class Predictive:
    """What a sensitivity and a specificity come to at a prevalence."""

    prevalence: float
    ppv: float  # of those called, the fraction that has it; NaN where none is called
    npv: float  # of those not called, the fraction that has it not
    alerts_per_1000: float
    false_alerts_per_1000: float
    missed_per_1000: float


def predictive(sensitivity: float, specificity: float, prevalence: float) -> Predictive:
    """Return predictive values and counts per 1,000 studies."""
    found, missed = prevalence * sensitivity, prevalence * (1 - sensitivity)
    false, clear = (1 - prevalence) * (1 - specificity), (1 - prevalence) * specificity
    return Predictive(
        prevalence=prevalence,
        ppv=found / (found + false) if found + false else math.nan,
        npv=clear / (clear + missed) if clear + missed else math.nan,
        alerts_per_1000=1000 * (found + false),
        false_alerts_per_1000=1000 * false,
        missed_per_1000=1000 * missed,
    )


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Where series are called, and what is known of that.

    Attributes
    ----------
    log_odds : float
        The threshold, on the scale of calibrated log odds.
    largest : float
        The largest threshold that keeps the promise; `log_odds` is lower where that finds more
        without a single further false alarm. NaN where none keeps it.
    hits, positives : int
        Patients found, of those with haemorrhage: one series each.
    lower_bound : float
        One-sided, of the sensitivity.
    negatives, alarms : int
        Series without haemorrhage, and those of them that are called.
    wanting : {"", "positives", "specificity"}
        What keeps the promise from being made: too few positives, or too many false alarms at
        every threshold that would keep it.
    more_positives : int or None
        How many more patients with haemorrhage would do, were the rest as these; None when no
        number would.
    """

    target: float
    log_odds: float
    largest: float
    hits: int
    positives: int
    lower_bound: float
    negatives: int
    alarms: int
    wanting: Literal["", "positives", "specificity"]
    more_positives: int | None

    @property
    def promised(self) -> bool:
        """Whether the lower bound reaches the target at an acceptable specificity."""
        return not self.wanting

    @property
    def sensitivity(self) -> float:
        """Of the patients that were counted."""
        return self.hits / self.positives

    @property
    def specificity(self) -> float:
        """Of the series that were counted."""
        return 1 - self.alarms / self.negatives

    @property
    def at_prevalences(self) -> tuple[Predictive, ...]:
        """Predictive values and alerts at usual prevalences."""
        return tuple(predictive(self.sensitivity, self.specificity, p) for p in PREVALENCES)


def positives_needed(
    target: float, observed_sensitivity: float, confidence: float = 0.95
) -> int | None:
    """Return how many positives make the lower bound of the sensitivity reach a target.

    None when no number is enough, because the sensitivity is not above the target. For a target
    of 0.9: 29 when all are found, about 290 when 93 % are.
    """
    return observations_needed(target, observed_sensitivity, confidence)


def one_per_patient(patients: Sequence[str], members: Flags, seed: int = 1) -> Flags:
    """Draw one of the members of each patient."""
    rng = np.random.default_rng(seed)
    drawn: set[str] = set()
    chosen = np.zeros(len(members), np.bool_)
    for index in rng.permutation(np.flatnonzero(members)):
        if patients[index] not in drawn:
            drawn.add(patients[index])
            chosen[index] = True
    return chosen


def find_operating_point(
    scores: Floats,
    positive: Flags,
    patients: Sequence[str],
    *,
    target: float = 0.9,
    confidence: float = 0.95,
    least_specificity: float = 0.5,
    seed: int = 1,
) -> OperatingPoint:
    """Find the largest threshold whose sensitivity is known to reach a target.

    Where no threshold is (too few positives, or too many false alarms to be of use) the cut with
    the highest sensitivity plus specificity stands in, and the result says what is missing.

    Parameters
    ----------
    scores : ndarray, float64, (series,)
        Calibrated log odds.
    positive : ndarray, bool, (series,)
        Both classes must be there.
    least_specificity : float
        A threshold that calls more of the negatives than this leaves is no triage.
    """
    counted = one_per_patient(patients, positive, seed)
    found, others = np.sort(scores[counted]), scores[~positive]
    largest = _largest(found, target, confidence)
    if math.isnan(largest):
        return _point(best_cut(scores, positive), largest, found, others, target, confidence)
    lowered = without_further_alarms(largest, found, others)
    useful = float((others < lowered).mean()) >= least_specificity
    threshold = lowered if useful else best_cut(scores, positive)
    point = _point(threshold, largest, found, others, target, confidence)
    return point if useful else dataclasses.replace(point, wanting="specificity")


def _largest(found: Floats, target: float, confidence: float) -> float:
    """Return the largest threshold that keeps the promise, or NaN; the bound falls with misses."""
    count = len(found)
    kept, broken = -1, count  # misses
    while broken - kept > 1:
        misses = (kept + broken) // 2
        enough = clopper_pearson_lower(count - misses, count, confidence) >= target
        kept, broken = (misses, broken) if enough else (kept, misses)
    return float(found[kept]) if kept >= 0 else math.nan


def without_further_alarms(threshold: float, found: Floats, others: Floats) -> float:
    """Lower a threshold into the middle of the gap below which the next false alarm lies."""
    below = others[others < threshold]
    if not len(below):
        return threshold
    nearest = float(below.max())
    lowest = float(found[found > nearest].min())
    return (nearest + min(lowest, threshold)) / 2


def _point(
    threshold: float,
    largest: float,
    found: Floats,
    others: Floats,
    target: float,
    confidence: float,
) -> OperatingPoint:
    hits, count = int((found >= threshold).sum()), len(found)
    enough = not math.isnan(largest)
    needed = positives_needed(target, hits / count, confidence)
    return OperatingPoint(
        target=target,
        log_odds=threshold,
        largest=largest,
        hits=hits,
        positives=count,
        lower_bound=clopper_pearson_lower(hits, count, confidence),
        negatives=len(others),
        alarms=int((others >= threshold).sum()),
        wanting="" if enough else "positives",
        more_positives=None if needed is None else max(needed - count, 0),
    )


def best_cut(
    scores: Floats, positive: Flags, least_specificity: float = LEAST_SPECIFICITY
) -> float:
    """Return the cut with the highest sensitivity plus specificity, in the middle of its gap.

    Among cuts with so much specificity; of equally good ones, the one in the widest gap.
    """
    values = np.unique(scores)
    if len(values) < 2:
        return float(values[-1]) + 1.0
    middles, gaps = (values[:-1] + values[1:]) / 2, np.diff(values)
    found, others = np.sort(scores[positive]), np.sort(scores[~positive])
    sensitivity = 1 - np.searchsorted(found, middles) / len(found)
    specificity = np.searchsorted(others, middles) / len(others)
    allowed = specificity >= least_specificity
    if not allowed.any():
        return float(values[-1]) + 1.0
    merit = np.where(allowed, np.round(sensitivity + specificity, 9), -1.0)
    return float(middles[np.lexsort((gaps, merit))[-1]])
