"""How much blood: the factor from areas to millilitres, and how far off the estimates are.

The sum of a mask's area over the slices grows with the volume, and a factor is left: masks are
drawn a little too large or too small. It is the median ratio of truth to sum, for each label.
Whether the estimates are good enough to be shown is asked of series that the factor was not chosen
on.

References
----------
Bland JM, Altman DG, Statistical methods for assessing agreement, Lancet 1986.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS, Label
from ichnode.nets.manifest import VolumeSpec
from ichnode.nets.volume import scaled_volumes_ml
from train.data.records import is_simulated
from train.errors import TrainingError
from train.judge.temperature import fold_by_patient
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

CLASSES_ML: tuple[tuple[float, float, str], ...] = (
    (0.0, 0.1, "below 0.1 ml"),
    (0.1, 1.0, "0.1 to 1 ml"),
    (1.0, 5.0, "1 to 5 ml"),
    (5.0, 30.0, "5 to 30 ml"),
    (30.0, float("inf"), "more than 30 ml"),
)
"""True volumes: above the first, up to and with the second."""
LEAST_ML = 0.1
"""Of blood, for a series to count for a factor: below it the ratio says nothing."""
RELATIVE_FROM_ML, SHOWN_FROM_ML = 1.0, 5.0
MOST_RELATIVE_ERROR = 0.3
"""Median, of the series of more than `SHOWN_FROM_ML`: with more a volume is not shown."""
FEWEST = 20
"""Such series, for a label to be shown, and series with a label, for a factor of its own."""
_CONTOUR = 0.5


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """How far estimates are off; NaN where there is no series to tell by."""

    series: int
    mean_absolute_error_ml: float
    bias_ml: float  # mean of estimate less truth
    limits_ml: tuple[float, float]  # 95 % limits of agreement
    median_relative_error: float  # of those of more than `RELATIVE_FROM_ML`
    relative_of: int  # how many those are


def errors(estimate: Floats, truth: Floats) -> Errors:
    """Compare estimates with the truth, (series,) in ml, where both are known and blood is."""
    there = np.isfinite(estimate) & (truth > 0)
    off, true = (estimate - truth)[there], truth[there]
    large = true > RELATIVE_FROM_ML
    bias, spread = _or_nan(np.mean, off), 1.96 * _or_nan(_deviation, off)
    return Errors(
        series=int(there.sum()),
        mean_absolute_error_ml=_or_nan(np.mean, np.abs(off)),
        bias_ml=bias,
        limits_ml=(bias - spread, bias + spread),
        median_relative_error=_or_nan(np.median, np.abs(off[large]) / true[large]),
        relative_of=int(large.sum()),
    )


def _deviation(values: Floats) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")


def _or_nan(of: Any, values: Floats) -> float:
    return float(of(values)) if len(values) else float("nan")


def volume_class(true_ml: float) -> str:
    """Return the class of a true volume; "" where there is no blood or it is not known."""
    return next((name for low, high, name in CLASSES_ML if low < true_ml <= high), "")


def choose_volume(
    predictions: Predictions, *, shown: bool | None = None, seed: int = 1
) -> VolumeSpec | None:
    """Choose the factors, say how far off the estimates are, and which may be shown.

    A label is shown where the median relative error of its series of more than 5 ml is at most
    30 %, of at least 20 of them; a kind only beside "any".

    Parameters
    ----------
    predictions : Predictions
        Of the calibration split.
    shown : bool, optional
        Show "any" whatever the error, or nothing.

    Returns
    -------
    VolumeSpec or None
        None where the network draws no masks or the truth has none.

    Raises
    ------
    TrainingError
        When it is to be shown and there is nothing to choose it by.
    """
    raw, true = predictions.raw_ml, predictions.true_ml
    usable = _usable(raw, true)[:, 0] & (true[:, 0] > RELATIVE_FROM_ML)
    patients = len(set(np.asarray(predictions.patients)[usable]))
    if patients < FEWEST:
        if shown:
            raise TrainingError(
                f"A volume needs a network that draws masks, and {FEWEST} patients with more than "
                f"{RELATIVE_FROM_ML:g} ml of blood whose voxels are known; there are {patients}. A "
                "cache that was made before volumes were kept has to be made again."
            )
        return None
    checked = _cross_checked(predictions, seed)
    found = errors(checked[:, 0], true[:, 0])
    good = tuple(label for k, label in enumerate(LABELS) if _good_enough(checked[:, k], true[:, k]))
    return VolumeSpec(
        scale=tuple(round(float(s), 5) for s in _scales(raw, true)),
        contour=_CONTOUR,
        series=found.series,
        mean_absolute_error_ml=round(found.mean_absolute_error_ml, 3),
        median_relative_error=round(found.median_relative_error, 4),
        limits_ml=(round(found.limits_ml[0], 3), round(found.limits_ml[1], 3)),
        shown=_to_show(good, shown),
        how=_how(predictions, checked[:, 0], true[:, 0]),
    )


def _usable(raw: Floats, true: Floats) -> Flags:
    return np.asarray(np.isfinite(raw) & (raw > 0) & (true > LEAST_ML))


def _scales(raw: Floats, true: Floats) -> Floats:
    """Return the median ratio of truth to sum for each label; that of "any" where few show it."""
    usable = _usable(raw, true)
    ratios = [true[some, k] / raw[some, k] for k, some in enumerate(usable.T)]
    whole = np.median(ratios[0])
    return np.array([np.median(r) if len(r) >= FEWEST else whole for r in ratios])


def _cross_checked(predictions: Predictions, seed: int) -> Floats:
    """Return estimates (series, label) with factors from other patients than their own."""
    _, owner = np.unique(np.asarray(predictions.patients), return_inverse=True)
    fold = fold_by_patient(owner.astype(np.int64), seed)
    raw, true = predictions.raw_ml, predictions.true_ml
    estimates = np.empty_like(raw)
    for index in np.unique(fold):
        out = fold == index
        estimates[out] = scaled_volumes_ml(raw[out], _scales(raw[~out], true[~out]))
    return estimates


def _good_enough(estimate: Floats, truth: Floats) -> bool:
    large = np.isfinite(estimate) & (truth > SHOWN_FROM_ML)
    if large.sum() < FEWEST:
        return False
    off = np.abs(estimate[large] - truth[large]) / truth[large]
    return bool(np.median(off) <= MOST_RELATIVE_ERROR)


def _to_show(good: tuple[Label, ...], asked: bool | None) -> tuple[Label, ...]:
    if asked is False or (asked is None and LABELS[0] not in good):
        return ()
    return (LABELS[0], *(label for label in good if label != LABELS[0]))


def _how(predictions: Predictions, estimate: Floats, truth: Floats) -> str:
    """Say how it is made and how far off it is; what is shown may be switched off later."""
    large = truth > SHOWN_FROM_ML
    off = errors(estimate[large], truth[large]).median_relative_error
    figure = f"{off:.0%} of {int(large.sum())} series" if large.any() else "not known"
    return (
        "Sum over the slices of the area that the network's masks cover times the slice's extent, "
        "scaled by the median ratio to the truth. Median relative error above "
        f"{SHOWN_FROM_ML:g} ml: {figure}, measured on {_measured_on(predictions)} for calibration."
    )


def _measured_on(predictions: Predictions) -> str:
    simulated = [
        is_simulated(one.dataset)
        for one in predictions.series
        if np.isfinite(one.raw_ml[0]) and np.isfinite(one.true_ml[0])
    ]
    if all(simulated):
        return "simulated heads"
    return "scans and simulated heads" if any(simulated) else "scans with voxel truth"
