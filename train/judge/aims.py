"""What thresholds are chosen for, and how the choice is told in ``bundle.json``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from train.judge.conformal import Band
from train.judge.sensitivity import OperatingPoint
from train.predictions import Predictions

LOCAL, NOT_LOCAL = "Locally calibrated", "not locally calibrated"
_SMALLEST, _STEPS = 1e-6, 1e8


@dataclass(frozen=True, slots=True)
class Aims:
    """What thresholds are chosen for.

    Attributes
    ----------
    target_sensitivity, confidence : float
        The one-sided lower bound of the sensitivity of "urgent" must reach the target.
    least_specificity : float
        Below this an operating point is no triage, and the target is given up.
    ppv_goal, npv_goal : float
        Of the urgent band, and of the routine band.
    delta : float
        The chance that a band breaks its promise.
    least_urgent, least_routine : int
        Bands with fewer series are not tried.
    urgent_by : {"sensitivity", "precision"}
        Where both goals cannot be met: keep the sensitivity of "urgent", or keep its predictive
        value and leave the sensitivity to urgent and review together.
    """

    target_sensitivity: float = 0.9
    confidence: float = 0.95
    least_specificity: float = 0.5
    ppv_goal: float = 0.8
    npv_goal: float = 0.98
    delta: float = 0.05
    least_urgent: int = 50
    least_routine: int = 500
    urgent_by: Literal["sensitivity", "precision"] = "sensitivity"


USUAL = Aims()


def as_probability(log_odds_: float) -> float:
    """Return a threshold as a probability, rounded down so that it calls no less."""
    p = 0.5 * (1 + math.tanh(log_odds_ / 2))
    cut = math.floor(p * _STEPS) / _STEPS
    return min(max(cut, _SMALLEST), 1 - _SMALLEST)


def how_chosen(
    predictions: Predictions,
    aims: Aims,
    point: OperatingPoint,
    bands: tuple[Band, Band],
    urgent: float,
    local: bool,
) -> str:
    """Say how the thresholds were chosen and what they promise."""
    sources = ", ".join(sorted({one.dataset for one in predictions.series}))
    sentences = [
        f"Chosen on {len(predictions)} series of {len(set(predictions.patients))} patients "
        f"({sources}).",
        *_how_urgent(point, aims),
        _how_band("Urgent", "positive", bands[0], aims, urgent),
        _how_band("Routine", "negative", bands[1], aims, urgent),
        "A subtype is present at its best cut with a specificity of 0.98 or more, from one half "
        "upwards and above what would raise alarms by itself.",
    ]
    if local and not (bands[0].why_not or bands[1].why_not):
        sentences.append(
            f"{LOCAL}: it holds for series drawn like these (the same site, scanners, "
            "patients and prevalence)."
        )
    else:
        sentences.append(f"{NOT_LOCAL.capitalize()}: the bands are a guess for any other place.")
    return " ".join(sentences)


def _how_urgent(point: OperatingPoint, aims: Aims) -> list[str]:
    seen = (
        f"{point.hits} of {point.positives} patients with haemorrhage are found (one series each), "
        f"lower bound {point.lower_bound:.3f} (Clopper-Pearson, one-sided "
        f"{aims.confidence:.0%}), specificity {point.specificity:.3f}."
    )
    if point.promised:
        return [
            "Urgent: the largest threshold whose sensitivity is known to reach "
            f"{aims.target_sensitivity:g}, lowered as far as no further series without "
            "haemorrhage is called:",
            seen,
        ]
    more = "no number of cases would do at this sensitivity"
    if point.more_positives is not None:
        more = f"about {point.more_positives} more patients with haemorrhage would do"
    missing = {
        "positives": f"there are too few positives ({more})",
        "specificity": "every threshold that would do calls more than "
        f"{1 - aims.least_specificity:.0%} of the series without haemorrhage",
    }[point.wanting]
    return [
        f"A sensitivity of {aims.target_sensitivity:g} is not promised, because {missing}. Urgent "
        "is the cut with the highest sensitivity plus specificity among those with a specificity "
        "of at least 0.98:",
        seen,
    ]


def _how_band(name: str, kind: str, band: Band, aims: Aims, urgent: float) -> str:
    promise = f"a {kind} predictive value of {band.goal:g} (delta {aims.delta:g})"
    if band.log_odds is None:
        return f"{name} band: {promise} is not shown: {band.why_not}."
    if name == "Urgent" and band.log_odds > urgent:
        return (
            f"Urgent band: {promise} holds only from {as_probability(band.log_odds):.3f} upwards, "
            "which would miss the target of sensitivity; it is given up."
        )
    return f"{name} band: {promise} is shown on {band.count} patients, {band.wrong} wrong."
