"""From the prevalence that was seen to the prevalence of a site: what moves the biases.

Only the prevalence may differ: heads with blood must look like heads with blood, here and there.
A label's log odds then change by one constant. Subtypes, and slices, keep their share of "any".

References
----------
Saerens M, Latinne P, Decaestecker C, Adjusting the outputs of a classifier to new a priori
probabilities, Neural Computation 2002.
Elkan C, The foundations of cost-sensitive learning, IJCAI 2001.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import numpy.typing as npt

from ichnode.nets.manifest import Calibration
from train.errors import TrainingError
from train.judge.logistic import log_odds, probability_of
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]

LEAST_UNLABELLED = 100
_STEPS = 1000
_CLOSE = 1e-7
_RAREST = 0.001


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """Fractions of positives in the calibration data, per label; NaN where nothing is known."""

    series: Floats
    slices: Floats


def seen_in(predictions: Predictions) -> Seen:
    """Return how often each label was seen."""
    return Seen(_rates(predictions.series_truth), _rates(predictions.slice_truth))


def _rates(truth: Floats) -> Floats:
    known = (~np.isnan(truth)).sum(axis=0)
    return np.where(known > 0, np.nansum(truth, axis=0) / np.maximum(known, 1), np.nan)


def shift(before: float, after: float) -> float:
    """Return by how much log odds change when the prevalence does."""
    return math.log(after / (1 - after)) - math.log(before / (1 - before))


def for_prevalence(calibration: Calibration, seen: Seen, prevalence: float) -> Calibration:
    """Return a calibration whose probabilities refer to another prevalence of "any" in series.

    Parameters
    ----------
    seen : Seen
        Of the data that `calibration` was fitted on.
    prevalence : float
        Fraction of the site's series with any haemorrhage.

    Raises
    ------
    TrainingError
        When it is no fraction between 0 and 1, or the data have one class only.
    """
    before = float(seen.series[0])
    if not 0 < prevalence < 1:
        raise TrainingError("A prevalence is a fraction between 0 and 1, such as 0.1.")
    if not 0 < before < 1:
        raise TrainingError(
            "The prevalence can only be changed where series with and without haemorrhage are seen."
        )
    ratio = prevalence / before
    return dataclasses.replace(
        calibration,
        series_bias=_moved(calibration.series_bias, seen.series, ratio),
        slice_bias=_moved(calibration.slice_bias, seen.slices, ratio),
    )


def _moved(bias: tuple[float, ...], seen: Floats, ratio: float) -> tuple[float, ...]:
    """Add each label's shift; a label that was never seen moves as "any" does."""
    shifts: list[float] = []
    for rate in seen:
        there = 0 < rate < 1 and 0 < rate * ratio < 1
        whole = shifts[0] if shifts else math.log(ratio)
        shifts.append(shift(float(rate), float(rate * ratio)) if there else whole)
    return tuple(round(b + s, 5) for b, s in zip(bias, shifts, strict=True))


def before_sampling(seen: float, kept_negatives: float) -> float:
    """Return the prevalence before only a fraction of the negatives was kept.

    Raises
    ------
    TrainingError
        When the fraction is none.
    """
    if not 0 < kept_negatives <= 1:
        raise TrainingError("The fraction of negatives that were kept lies above 0, at most 1.")
    return seen * kept_negatives / (seen * kept_negatives + 1 - seen)


def estimate_prevalence(probabilities: Floats, seen: float) -> float:
    """Estimate the prevalence of unlabelled series by expectation maximisation (Saerens).

    The prevalence is that which the probabilities, corrected for it, have on the mean.

    Parameters
    ----------
    probabilities : ndarray, float64, (series,)
        Of "any", calibrated for the prevalence `seen`.

    Returns
    -------
    float
        0.001 to 0.999.

    Raises
    ------
    TrainingError
        When there are too few series to say.
    """
    if len(probabilities) < LEAST_UNLABELLED:
        raise TrainingError(
            f"A prevalence is estimated from {LEAST_UNLABELLED} series at least; there are "
            f"{len(probabilities)}: state the prevalence instead."
        )
    odds, found = log_odds(probabilities), seen
    for _ in range(_STEPS):
        last, found = found, float(probability_of(odds + shift(seen, found)).mean())
        found = min(max(found, _RAREST), 1 - _RAREST)
        if abs(found - last) < _CLOSE:
            break
    return found
