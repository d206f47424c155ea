"""Where it is worse: by scanner, kernel, thickness, age, sex and source."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.imaging.kernels import sharpness
from train.judge.bootstrap import Draws
from train.judge.figures import auroc_figure, no_figure, rate_figure
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

NOT_STATED = "not stated"
LEAST = 10
"""Patients with, and without, haemorrhage: a group with fewer is counted and not judged."""
_MAKERS = {
    "SIEMENS": "Siemens",
    "GE ": "GE",
    "GENERAL ELECTRIC": "GE",
    "PHILIPS": "Philips",
    "CANON": "Canon/Toshiba",
    "TOSHIBA": "Canon/Toshiba",
    "HITACHI": "Fujifilm/Hitachi",
    "FUJI": "Fujifilm/Hitachi",
    "NEUSOFT": "Neusoft",
    "UIH": "United Imaging",
    "UNITED IMAGING": "United Imaging",
    "SAMSUNG": "Samsung",
    "SIMULATED": "simulated",
}
_THICKNESS_MM = ((1.5, "1.5 mm or less"), (3.0, "1.5 to 3 mm"), (5.5, "3 to 5.5 mm"))
_AGES = ((18, "below 18"), (40, "18 to 39"), (60, "40 to 59"), (80, "60 to 79"))
_SEXES = {"F": "female", "M": "male", "O": "other"}


def group_of(facts: Mapping[str, str | float | bool], dataset: str) -> dict[str, str]:
    """Return the group of a series in each respect.

    Parameters
    ----------
    facts : mapping
        Columns of `train.data.records.Facts`; what is missing is "not stated".

    Returns
    -------
    dict
        ``manufacturer, kernel, thickness, age, sex, dataset``.
    """
    maker, kernel = str(facts.get("manufacturer", "")), str(facts.get("kernel", ""))
    return {
        "manufacturer": manufacturer(maker),
        "kernel": sharpness(kernel, maker) if kernel.strip() else NOT_STATED,
        "thickness": _bin(facts.get("thickness_mm"), _THICKNESS_MM, "more than 5.5 mm", True),
        "age": _bin(facts.get("age_years"), _AGES, "80 and older", False),
        "sex": _SEXES.get(str(facts.get("sex", "")).strip().upper(), NOT_STATED),
        "dataset": dataset,
    }


def manufacturer(stated: str) -> str:
    """Return the maker of a scanner by its usual name; what is unknown is "other"."""
    name = f"{stated.strip().upper()} "
    if not name.strip():
        return NOT_STATED
    return next((usual for start, usual in _MAKERS.items() if name.startswith(start)), "other")


def _bin(
    value: str | float | bool | None,
    edges: tuple[tuple[float, str], ...],
    beyond: str,
    closed: bool,
) -> str:
    """Return the first bin whose upper edge is not passed; `closed` counts the edge itself in."""
    number = float(value) if isinstance(value, int | float) else math.nan
    if math.isnan(number):
        return NOT_STATED
    for edge, name in edges:
        if number < edge or (closed and number == edge):
            return name
    return beyond


def by_group(
    predictions: Predictions, probabilities: Floats, called: Flags, sample: Draws
) -> list[dict[str, Any]]:
    """Return AUROC, sensitivity and specificity of "any" in each group.

    Parameters
    ----------
    probabilities : ndarray, float64, (series,)
        Calibrated, of "any".
    called : ndarray, bool, (series,)
        Whether the series is called urgent.
    sample : Draws
        Of `predictions`.

    Returns
    -------
    list of dict
        ``by, group, series, patients, positives, too_small, auroc, sensitivity, specificity``.
    """
    truth = predictions.series_truth[:, 0]
    groups = [group_of(one.facts, one.dataset) for one in predictions.series]
    rows = []
    for by in groups[0] if groups else ():
        names = np.array([group[by] for group in groups])
        for name in sorted(set(names.tolist()), key=_place):
            members = names == name
            rows.append(
                {"by": by, "group": name}
                | _judged(
                    truth[members],
                    probabilities[members],
                    called[members],
                    sample.of_series(members),
                )
            )
    return rows


def _judged(truth: Floats, p: Floats, called: Flags, sample: Draws) -> dict[str, Any]:
    owner, positive, negative = sample.owner, truth == 1, truth == 0
    counted = [len(np.unique(owner[members])) for members in (positive, negative)]
    row: dict[str, Any] = {
        "series": len(truth),
        "patients": len(np.unique(owner)),
        "positives": int(positive.sum()),
        "negatives": int(negative.sum()),
        "too_small": min(counted) < LEAST,
    }
    few = no_figure(f"fewer than {LEAST} patients")
    rates = {
        "sensitivity": rate_figure(sample.counts, owner, called, positive)
        if counted[0] >= LEAST
        else few,
        "specificity": rate_figure(sample.counts, owner, ~called, negative)
        if counted[1] >= LEAST
        else few,
    }
    area = few if row["too_small"] else auroc_figure(sample.counts, owner, p, truth)
    return row | {"auroc": area} | rates


_ORDERED = (
    *(name for _, name in _THICKNESS_MM),
    "more than 5.5 mm",
    *(name for _, name in _AGES),
    "80 and older",
    "soft",
    "sharp",
)


def _place(name: str) -> tuple[int, int, str]:
    """Sort bins by size, names by letter, what is not stated last."""
    place = _ORDERED.index(name) if name in _ORDERED else 0
    return (name in {NOT_STATED, "other", "unknown"}, place, name)
