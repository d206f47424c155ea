"""What the node would do with these series: bands, alerts, and what is found and missed by them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import Finding
from ichnode.nets.calibration import state
from ichnode.nets.manifest import Thresholds
from train.judge.bootstrap import Interval, Owners, Weights, percentiles, ratio_draws
from train.judge.figures import Figure, figure, no_figure, rate_figure
from train.judge.sensitivity import PREVALENCES, predictive

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Bands = npt.NDArray[np.str_]

NOTHING_CALLED = "nothing is called"
_PREDICTIVE = ("ppv", "npv", "alerts_per_1000", "false_alerts_per_1000", "missed_per_1000")
BANDS = {Finding.POSITIVE: "urgent", Finding.REVIEW: "review", Finding.NEGATIVE: "routine"}


def bands_of(probabilities: Floats, thresholds: Thresholds) -> Bands:
    """Return the band of each series: "urgent", "review" or "routine", as the node says it."""
    return np.array([BANDS[state(row, thresholds)[0]] for row in probabilities], np.str_)


def triage(counts: Weights, owner: Owners, bands: Bands, truth: Floats) -> dict[str, Any]:
    """Return bands by truth, and sensitivity, specificity and alerts of "urgent" and of both.

    Parameters
    ----------
    counts, owner : ndarray
        See `bootstrap.Draws`.
    bands : ndarray, str, (series,)
    truth : ndarray, float64, (series,)
        Of "any".
    """
    urgent = bands == "urgent"
    return {
        "bands": _by_truth(bands, truth),
        "urgent": _called(counts, owner, urgent, truth),
        "urgent_or_review": _called(counts, owner, urgent | (bands == "review"), truth),
        "at_prevalences": _at_prevalences(counts, owner, urgent, truth),
    }


def _by_truth(bands: Bands, truth: Floats) -> dict[str, dict[str, int]]:
    kinds = {
        "with haemorrhage": truth == 1,
        "without": truth == 0,
        "unknown": np.isnan(truth),
    }
    return {
        kind: {band: int((bands[members] == band).sum()) for band in BANDS.values()}
        for kind, members in kinds.items()
    }


def _called(counts: Weights, owner: Owners, called: Flags, truth: Floats) -> dict[str, Figure]:
    known = ~np.isnan(truth)
    everyone = np.ones(len(truth), np.bool_)
    return {
        "sensitivity": rate_figure(counts, owner, called, truth == 1),
        "specificity": rate_figure(counts, owner, ~called, truth == 0),
        "ppv": rate_figure(counts, owner, truth == 1, called & known),
        "npv": rate_figure(counts, owner, truth == 0, ~called & known),
        "called": rate_figure(counts, owner, called, everyone),
    }


def _at_prevalences(
    counts: Weights, owner: Owners, called: Flags, truth: Floats
) -> list[dict[str, Any]]:
    """Return what "urgent" comes to at usual prevalences, with intervals."""
    positive, negative = truth == 1, truth == 0
    if not positive.any() or not negative.any():
        why = "series with and without haemorrhage are needed"
        return [{"prevalence": p, "ppv": no_figure(why)} for p in PREVALENCES]
    found = rate_figure(counts, owner, called, positive)
    clear = rate_figure(counts, owner, ~called, negative)
    if "exact" in (found.get("method"), clear.get("method")):
        return [_from_bounds(found, clear, prevalence) for prevalence in PREVALENCES]
    drawn = tuple(
        ratio_draws(counts, owner, (right & of).astype(np.float64), of.astype(np.float64))
        for right, of in ((called, positive), (~called, negative))
    )
    return [_from_draws(found, clear, drawn, prevalence) for prevalence in PREVALENCES]


def _from_draws(
    found: Figure, clear: Figure, drawn: tuple[Floats, ...], prevalence: float
) -> dict[str, Any]:
    at = predictive(found["value"], clear["value"], prevalence)
    pairs = zip(*drawn, strict=True)
    each = [predictive(float(a), float(b), prevalence) for a, b in pairs]
    row: dict[str, Any] = {"prevalence": prevalence}
    for name in _PREDICTIVE:
        values = np.array([getattr(one, name) for one in each])
        row[name] = figure(percentiles(getattr(at, name), values), NOTHING_CALLED)
    return row


def _from_bounds(found: Figure, clear: Figure, prevalence: float) -> dict[str, Any]:
    """Take the ends from the ends of both rates: where draws have no width, this has."""
    at = predictive(found["value"], clear["value"], prevalence)
    ends = [
        predictive(found[one], clear[other], prevalence)
        for one in ("low", "high")
        for other in ("low", "high")
    ]
    row: dict[str, Any] = {"prevalence": prevalence}
    for name in _PREDICTIVE:
        reached = [v for end in ends if math.isfinite(v := getattr(end, name))]
        value = getattr(at, name)
        whole = Interval(value, min(reached), max(reached))
        row[name] = figure(whole, NOTHING_CALLED)
        if row[name]["value"] is not None:
            row[name]["method"] = "exact"
    return row
