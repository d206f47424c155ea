"""Figures as JSON: a value with its 95 % interval and how that came about, or why there is none.

::

    {"value": 0.93, "low": 0.88, "high": 0.97, "method": "bootstrap"}
    {"value": 0.93, "low": null, "high": null}        one patient: nothing to draw from
    {"value": null, "why": "no positives"}

Percentiles of draws say nothing where every draw is alike: a model that misses none of 20 would
have an interval of no width. Where there are fewer than five of a kind, the exact interval stands
in, counted by patients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.intervals import clopper_pearson_lower, clopper_pearson_upper
from train.judge.bootstrap import (
    Interval,
    Owners,
    Weights,
    auroc_interval,
    percentiles,
    ratio_draws,
)

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Figure = dict[str, Any]

DIGITS = 5
_FEW = 5
_TAIL = 0.975  # one side of 95 %


def figure(found: Interval, why: str = "not enough data", **more: Any) -> Figure:
    """Return an interval as JSON."""
    if not math.isfinite(found.value):
        return {"value": None, "why": why}
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        return {"value": rounded(found.value), "low": None, "high": None, **more}
    whole = {name: rounded(getattr(found, name)) for name in ("value", "low", "high")}
    return {**whole, "method": "bootstrap", **more}


def no_figure(why: str) -> Figure:
    """Return that there is none."""
    return {"value": None, "why": why}


def rounded(value: float) -> float | None:
    """Return a number with five decimals, None where it is none."""
    return round(float(value), DIGITS) if math.isfinite(value) else None


def auroc_figure(counts: Weights, owner: Owners, scores: Floats, truth: Floats) -> Figure:
    """Return the AUROC; with an exact lower bound where every pair is right.

    Pairs that share no patient are independent, and all of them are right with a chance of
    AUROC to the power of their number.
    """
    why = without_both(truth)
    if why:
        return no_figure(why)
    found = auroc_interval(counts, owner, scores, truth)
    if found.value not in (0.0, 1.0):
        return figure(found)
    pairs = min(len(np.unique(owner[truth == 1])), len(np.unique(owner[truth == 0])))
    edge = (1 - _TAIL) ** (1 / pairs)
    low, high = (edge, 1.0) if found.value else (0.0, 1 - edge)
    return _exact(found.value, low, high)


def rate_figure(counts: Weights, owner: Owners, right: Flags, members: Flags) -> Figure:
    """Return the fraction of the members that are right, with what it is of.

    Parameters
    ----------
    right, members : ndarray, bool, (observation,)
    """
    of, hits = int(members.sum()), int((right & members).sum())
    if of == 0:
        return no_figure("no cases") | {"hits": 0, "of": 0}
    told = {"hits": hits, "of": of}
    if min(hits, of - hits) < _FEW:
        patients = len(np.unique(owner[members]))
        share = hits * patients / of
        low = clopper_pearson_lower(share, patients, _TAIL)
        return _exact(hits / of, low, clopper_pearson_upper(share, patients, _TAIL)) | told
    within, there = (right & members).astype(np.float64), members.astype(np.float64)
    drawn = ratio_draws(counts, owner, within, there)
    return figure(percentiles(hits / of, drawn)) | told


def without_both(truth: Floats) -> str:
    """Say what is missing of positives and negatives; "" where both are there."""
    if np.isnan(truth).all():
        return "unknown: no labels"
    if not (truth == 1).any():
        return "no positives"
    return "" if (truth == 0).any() else "no negatives"


def _exact(value: float, low: float, high: float) -> Figure:
    return {
        "value": rounded(value), "low": rounded(low), "high": rounded(high), "method": "exact",
    }  # fmt: skip
