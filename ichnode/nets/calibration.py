"""From logits to what is stated: probabilities, presence, finding. Numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.nets.manifest import Calibration, Thresholds

Floats = npt.NDArray[np.float64]

NOT_ASKED = -30.0
"""Logit of a subtype where the hemorrhage model of a pair saw nothing."""


@dataclass(frozen=True, slots=True)
class SeriesReading:
    """What the numbers say of a series.

    Attributes
    ----------
    slices : ndarray, float64, (slice, label)
        Calibrated probability of each slice.
    series : ndarray, float64, (label,)
        Calibrated probability of the series.
    """

    slices: Floats
    series: Floats


def probability(logits: Floats, temperature: Floats, bias: Floats) -> Floats:
    """Return ``sigmoid(logits / temperature + bias)`` without overflow."""
    scaled = logits / temperature + bias
    return np.asarray(0.5 * (1 + np.tanh(scaled / 2)))


def series_logits(logits: Floats, rule: str) -> Floats:
    """Return one logit per label for a series of slices in anatomical order.

    ``max`` takes the highest slice. ``adjacent_mean`` takes the highest mean of two adjacent
    slices: blood goes on from slice to slice, a chance peak does not.

    Parameters
    ----------
    logits : ndarray, float64, (slice, label)
    rule : {"adjacent_mean", "max"}
    """
    if rule == "max" or len(logits) == 1:
        return np.asarray(logits.max(axis=0))
    return np.asarray(((logits[:-1] + logits[1:]) / 2).max(axis=0))


def read(logits: Floats, calibration: Calibration) -> SeriesReading:
    """Turn the logits (slice, label) of a series into calibrated probabilities."""
    of_slices = (np.asarray(calibration.slice_temperature), np.asarray(calibration.slice_bias))
    of_series = (np.asarray(calibration.series_temperature), np.asarray(calibration.series_bias))
    whole = series_logits(logits, calibration.series_rule)
    return SeriesReading(
        slices=probability(logits, *of_slices), series=probability(whole, *of_series)
    )


def state(series: Floats, thresholds: Thresholds) -> tuple[Finding, tuple[Presence, ...]]:
    """Say what a series is called and which labels are present.

    Positive when any label reaches its urgent threshold; to be reviewed when "any" reaches the
    review threshold; negative otherwise. A subtype between both thresholds is undetermined, unless
    the series is negative.
    """
    reached = [bool(p >= t) for p, t in zip(series, thresholds.urgent, strict=True)]
    if any(reached):
        finding, whole = Finding.POSITIVE, Presence.PRESENT
    elif series[0] >= thresholds.review:
        finding, whole = Finding.REVIEW, Presence.UNDETERMINED
    else:
        finding, whole = Finding.NEGATIVE, Presence.ABSENT
    kinds = []
    for index in range(1, len(LABELS)):
        doubtful = finding is not Finding.NEGATIVE and series[index] >= thresholds.review
        between = Presence.UNDETERMINED if doubtful else Presence.ABSENT
        kinds.append(Presence.PRESENT if reached[index] else between)
    return finding, (whole, *kinds)
