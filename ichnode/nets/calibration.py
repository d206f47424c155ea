"""From logits to what is stated: probabilities, presence, finding. Numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Finding, Presence
from ichnode.nets.manifest import Calibration, ContextSpec, Thresholds

Floats = npt.NDArray[np.float64]

NOT_ASKED = -30.0
"""Logit of a subtype where the hemorrhage model of a pair saw nothing."""
SHARPNESS = 5.0
"""Of the smooth maximum: 0 would be the mean, infinity the maximum."""


@dataclass(frozen=True, slots=True)
class SeriesLogits:
    """What the networks say of a series, not calibrated.

    Attributes
    ----------
    slices : ndarray, float64, (slice, label)
    series : ndarray, float64, (label,)
    areas : ndarray, float64, (slice, label), optional
        Fraction of each image that is blood, of a network that draws masks.
    """

    slices: Floats
    series: Floats
    areas: Floats | None = None


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
    slices: blood goes on from slice to slice, a chance peak does not. ``log_sum_exp`` is a smooth
    maximum, ``log(mean(exp(r z))) / r`` with r = 5: every slice counts, the highest most.

    Parameters
    ----------
    logits : ndarray, float64, (slice, label)
    rule : {"adjacent_mean", "max", "log_sum_exp"}

    References
    ----------
    Pinheiro P, Collobert R, From Image-level to Pixel-level Labeling, CVPR 2015.
    """
    if rule == "log_sum_exp":
        highest = logits.max(axis=0)
        return np.asarray(
            highest + np.log(np.exp(SHARPNESS * (logits - highest)).mean(axis=0)) / SHARPNESS
        )
    if rule == "max" or len(logits) == 1:
        return np.asarray(logits.max(axis=0))
    return np.asarray(((logits[:-1] + logits[1:]) / 2).max(axis=0))


def blended(own: Floats, context: Floats, shares: tuple[float, ...]) -> Floats:
    """Return ``(1 - a) * own + a * context``, for each label (the last axis)."""
    a = np.asarray(shares, np.float64)
    return np.asarray((1 - a) * own + a * context)


def combine(own: Floats, rule: str, context: SeriesLogits, spec: ContextSpec) -> SeriesLogits:
    """Blend what the slices say one by one with what the context network says of the whole.

    Parameters
    ----------
    own : ndarray, float64, (slice, label)
        Logits of the slices, each by itself.
    rule : str
        How a series follows from them; see `series_logits`.
    context : SeriesLogits
        Of the context network.
    spec : ContextSpec
        How far that is believed.
    """
    return SeriesLogits(
        slices=blended(own, context.slices, spec.slice_blend),
        series=blended(series_logits(own, rule), context.series, spec.series_blend),
    )


def read(logits: Floats, calibration: Calibration, series: Floats | None = None) -> SeriesReading:
    """Turn the logits of a series into calibrated probabilities.

    Parameters
    ----------
    logits : ndarray, float64, (slice, label)
    series : ndarray, float64, (label,), optional
        Of the series as a whole, where a context network was asked; by default it follows from
        the slices.
    """
    of_slices = (np.asarray(calibration.slice_temperature), np.asarray(calibration.slice_bias))
    of_series = (np.asarray(calibration.series_temperature), np.asarray(calibration.series_bias))
    whole = series_logits(logits, calibration.series_rule) if series is None else series
    return SeriesReading(
        slices=probability(logits, *of_slices), series=probability(whole, *of_series)
    )


def state(series: Floats, thresholds: Thresholds) -> tuple[Finding, tuple[Presence, ...]]:
    """Say what a series is called and which labels are present.

    Positive when any label reaches its urgent threshold; to be reviewed when "any" reaches the
    review threshold; negative otherwise. A subtype between both thresholds is undetermined, unless
    the series is negative.

    Raises
    ------
    ValueError
        When a probability is NaN: it reaches no threshold, and would be called negative.
    """
    if np.isnan(series).any():
        raise ValueError("a probability is no number")
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
