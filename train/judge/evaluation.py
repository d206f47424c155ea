"""Measure a model on series that nothing was chosen on: one dictionary that is plain JSON.

Per label and level it holds AUROC, average precision, sensitivity and specificity at the operating
point, log loss, Brier, calibration error, slope and intercept; and for the whole the weighted log
loss of RSNA 2019, what the node would do (`triage`), and subgroups; where the voxels of the truth
are known also what is found by the amount of blood (`found_by_amount`), and of a model that
measures it how far off it is (`volume`). Each figure has a 95 % interval from drawing patients
again (`figures` says what a figure looks like). What is not labelled is left out and called
unknown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import Calibration, Thresholds, VolumeSpec
from train.data.records import is_simulated
from train.errors import TrainingError
from train.judge.amounts import found_by_amount, volume_figures
from train.judge.bootstrap import DRAWS, Draws, Interval, Owners, percentiles, ratio_draws
from train.judge.bootstrap import mean_interval as mean_of
from train.judge.calibrating import series_probabilities, slice_probabilities
from train.judge.calibration_intervals import ece_interval, line_intervals
from train.judge.figures import (
    Figure,
    auroc_figure,
    figure,
    no_figure,
    rate_figure,
    rounded,
    without_both,
)
from train.judge.metrics import average_precision, ece_by_chance, losses, weighted_losses
from train.judge.subgroups import by_group
from train.judge.triage import bands_of, triage
from train.predictions import Predictions

FORMAT = 1
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

EXTRA_AXIAL = "extra_axial"
"""Epidural or subdural: readers confuse the two, and both lie between brain and skull."""
_EDH, _SDH = LABELS.index("epidural"), LABELS.index("subdural")


@dataclass(frozen=True, slots=True, eq=False)
class _Level:
    """Slices, or series: what is said and what is true of them."""

    name: str
    p: Floats  # (n, label), calibrated
    truth: Floats  # (n, label)
    owner: Owners
    sample: Draws


def evaluate(
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Thresholds,
    *,
    volume: VolumeSpec | None = None,
    seed: int = 1,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Measure a model; see the module.

    Parameters
    ----------
    predictions : Predictions
        Of series on which nothing was trained, chosen or calibrated.
    volume : VolumeSpec, optional
        How the model's areas become millilitres.
    draws : int
        Of patients, for the intervals.

    Raises
    ------
    TrainingError
        When there is nothing to measure.
    """
    if not len(predictions):
        raise TrainingError("There is no series to measure; the split that was asked for is empty.")
    sample = Draws.of(predictions, draws, seed)
    series = _Level(
        "series",
        series_probabilities(predictions, calibration),
        predictions.series_truth,
        sample.owner,
        sample,
    )
    slices = _Level(
        "slice",
        slice_probabilities(predictions, calibration),
        predictions.slice_truth,
        sample.slice_owner,
        sample,
    )
    bands = bands_of(series.p, thresholds)
    cuts = np.asarray(thresholds.urgent)
    return {
        "format": FORMAT,
        "seed": seed,
        "draws": draws,
        "confidence": 0.95,
        "data": describe(predictions),
        "thresholds": {"urgent": dict(zip(LABELS, thresholds.urgent, strict=True))}
        | {"review": thresholds.review, "how": thresholds.how},
        "calibration": calibration.how,
        "triage": triage(sample.counts, sample.owner, bands, series.truth[:, 0]),
        "labels": {
            label: {level.name: _of_label(level, index, cuts[index]) for level in (series, slices)}
            for index, label in enumerate(LABELS)
        },
        EXTRA_AXIAL: {level.name: _extra_axial(level, cuts) for level in (series, slices)},
        "weighted_log_loss": {level.name: _weighted(level) for level in (series, slices)},
        "any_below_a_subtype": rounded(float((series.p[:, 0] < series.p[:, 1:].max(1)).mean())),
        "subgroups": by_group(predictions, series.p[:, 0], bands == "urgent", sample),
        "found_by_amount": found_by_amount(predictions, series.p, bands, sample),
        "volume": None if volume is None else volume_figures(predictions, volume, sample),
    }


def describe(predictions: Predictions) -> dict[str, Any]:
    """Say what was measured on: counts, sources, prevalence, and whether it is simulated."""
    datasets: dict[str, int] = {}
    for one in predictions.series:
        datasets[one.dataset] = datasets.get(one.dataset, 0) + 1
    simulated = [is_simulated(name) for name in datasets]
    whole = "simulated" if all(simulated) else "partly simulated" if any(simulated) else "scans"
    truth = predictions.series_truth[:, 0]
    return {
        "kind": whole,
        "datasets": dict(sorted(datasets.items())),
        "patients": len(set(predictions.patients)),
        "studies": len({one.study for one in predictions.series}),
        "series": len(predictions),
        "slices": len(predictions.slice_logits),
        "series_with_haemorrhage": int((truth == 1).sum()),
        "series_without": int((truth == 0).sum()),
        "series_unknown": int(np.isnan(truth).sum()),
        "prevalence": {
            "series": _rates(predictions.series_truth),
            "slice": _rates(predictions.slice_truth),
        },
    }


def _rates(truth: Floats) -> dict[str, float | None]:
    known = (~np.isnan(truth)).sum(axis=0)
    there = np.nansum(truth, axis=0)
    return {
        label: rounded(there[k] / known[k]) if known[k] else None for k, label in enumerate(LABELS)
    }


def _of_label(level: _Level, index: int, cut: float) -> dict[str, Any]:
    p, truth = level.p[:, index], level.truth[:, index]
    return _figures(level, p, truth, np.asarray(p >= cut)) | {"threshold": rounded(cut)}


def _extra_axial(level: _Level, cuts: Floats) -> dict[str, Any]:
    """Judge "epidural or subdural": called when either is, as probable as the likelier one."""
    pair = [_EDH, _SDH]
    either = level.truth[:, pair]
    truth = np.where(
        (either == 1).any(axis=1), 1.0, np.where(np.isnan(either).any(axis=1), np.nan, 0.0)
    )
    called = np.asarray((level.p[:, pair] >= cuts[pair]).any(axis=1), np.bool_)
    return _figures(level, level.p[:, pair].max(axis=1), truth, called)


def _figures(level: _Level, p: Floats, truth: Floats, called: Flags) -> dict[str, Any]:
    counts, owner = level.sample.counts, level.owner
    known = ~np.isnan(truth)
    found: dict[str, Any] = {
        "n": int(known.sum()),
        "unknown": int((~known).sum()),
        "positives": int((truth == 1).sum()),
        "auroc": auroc_figure(counts, owner, p, truth),
        "average_precision": rounded(average_precision(p, truth)),
        "sensitivity": rate_figure(counts, owner, called, truth == 1),
        "specificity": rate_figure(counts, owner, ~called, truth == 0),
    }
    return found | _calibration(level, p, truth, known)


def _calibration(level: _Level, p: Floats, truth: Floats, known: Flags) -> dict[str, Any]:
    counts, owner = level.sample.counts, level.owner
    why = "unknown: no labels"
    found: dict[str, Any] = {
        "log_loss": figure(mean_of(counts, owner, losses(p, truth)), why),
        "brier": figure(mean_of(counts, owner, (p - truth) ** 2), why),
        "ece": figure(ece_interval(counts, owner, p, truth), why),
        "ece_by_chance": rounded(ece_by_chance(p[known])),
    }
    lines: tuple[Figure, Figure]
    if missing := without_both(truth):
        lines = (no_figure(missing), no_figure(missing))
    else:
        slope, intercept = line_intervals(counts, owner, p, truth)
        lines = (figure(slope), figure(intercept))
    return found | dict(zip(("calibration_slope", "calibration_intercept"), lines, strict=True))


def _weighted(level: _Level) -> Figure:
    """Return the weighted log loss of RSNA 2019."""
    above, below = weighted_losses(level.p, level.truth)
    if not below.sum():
        return no_figure("unknown: no labels")
    value = float(above.sum() / below.sum())
    found = percentiles(value, ratio_draws(level.sample.counts, level.owner, above, below))
    return figure(found if math.isfinite(found.low) else Interval(value, math.nan, math.nan))
