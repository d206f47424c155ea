"""How sure it is: whole patients are drawn again, because their series and slices belong together.

A draw gives each patient a weight: how often it was drawn. Figures that are sums over patients, or
ratios of them, are then products of one matrix; the AUROC needs one pass over the sorted scores.
Intervals are percentiles of the draws.

References
----------
Efron B, Tibshirani R, An introduction to the bootstrap, 1993, chapter 13.
Obuchowski NA, Nonparametric analysis of clustered ROC curve data, Biometrics 1997.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.judge.metrics import auroc, known_of
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Weights = npt.NDArray[np.float32]
Owners = npt.NDArray[np.int64]

DRAWS = 2000
_AT_ONCE = 4_000_000  # weights of observations that are held at a time
_PAIRED_BELOW = 4000  # patients: a matrix of 64 MB
_MANY_EACH = 4  # slices a patient, from which on pairs of patients are quicker


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval; NaN where the data cannot give it."""

    value: float
    low: float
    high: float


def percentiles(value: float, drawn: Floats, confidence: float = 0.95) -> Interval:
    """Return a figure with the percentile interval of its draws; draws that gave none are left."""
    seen = drawn[np.isfinite(drawn)]
    if not len(seen) or not math.isfinite(value):
        return Interval(value, math.nan, math.nan)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(seen, [tail, 100 - tail])
    return Interval(value, float(low), float(high))


@dataclass(frozen=True, slots=True, eq=False)
class Draws:
    """Patients drawn with replacement, many times.

    Attributes
    ----------
    counts : ndarray, float32, (draw, patient)
        How often each patient was drawn.
    owner : ndarray, int64, (series,)
        The patient of each series, as a column of `counts`.
    slices : ndarray, int64, (series,)
        How many slices each series has.
    """

    counts: Weights
    owner: Owners
    slices: Owners

    @classmethod
    def of(cls, predictions: Predictions, draws: int = DRAWS, seed: int = 1) -> Draws:
        """Draw the patients of some predictions; one patient alone is not drawn at all."""
        patients, owner = np.unique(np.asarray(predictions.patients), return_inverse=True)
        slices = np.array([len(one.slice_logits) for one in predictions.series], np.int64)
        times = draws if len(patients) > 1 else 0
        return cls(draw_counts(len(patients), times, seed), owner.astype(np.int64), slices)

    @property
    def slice_owner(self) -> Owners:
        """The patient of each slice, series after series."""
        return np.repeat(self.owner, self.slices)

    def of_series(self, chosen: npt.NDArray[np.bool_]) -> Draws:
        """Return the same draws, looked at through some of the series."""
        return Draws(self.counts, self.owner[chosen], self.slices[chosen])


def draw_counts(patients: int, draws: int, seed: int) -> Weights:
    """Return how often each patient is drawn: float32, (draw, patient), rows sum to `patients`."""
    rng = np.random.default_rng(seed)
    counts = np.empty((draws, patients), np.float32)
    for row in counts:
        row[:] = np.bincount(rng.integers(0, patients, patients), minlength=patients)
    return counts


def patient_weights(patients: Sequence[str], draws: int = DRAWS, seed: int = 1) -> Weights:
    """Return the weight of each series in each draw of whole patients.

    Returns
    -------
    ndarray, float32, (draw, series)
    """
    names, owner = np.unique(np.asarray(patients), return_inverse=True)
    return draw_counts(len(names), draws, seed)[:, owner]


def auroc_draws(scores: Floats, truth: npt.NDArray[np.bool_], weights: Weights) -> Floats:
    """Return the AUROC under each row of weights (draw, observation); NaN where a class is gone."""
    owner = np.arange(len(scores), dtype=np.int64)
    return _auroc_over(weights, owner, np.asarray(scores, np.float64), truth)


def _auroc_over(
    counts: Weights, owner: Owners, scores: Floats, positive: npt.NDArray[np.bool_]
) -> Floats:
    """Return weighted AUROCs: of tied scores, each pair counts half."""
    if not positive.any() or positive.all():
        return np.full(len(counts), np.nan)
    patients = counts.shape[1]
    if patients <= _PAIRED_BELOW and len(scores) > _MANY_EACH * patients:
        return _auroc_by_pairs(counts, owner, scores, positive)
    order = np.argsort(scores, kind="stable")
    scores, positive, owner = scores[order], positive[order], owner[order]
    starts = np.flatnonzero(np.diff(scores, prepend=-np.inf))
    areas = [np.empty(0)]
    for part in _parts(counts, len(scores)):
        drawn = part[:, owner]
        hits = np.add.reduceat(drawn * positive, starts, axis=1)
        others = np.add.reduceat(drawn * ~positive, starts, axis=1)
        below = np.cumsum(others, axis=1, dtype=np.float64) - 0.5 * others
        pairs = hits.sum(axis=1, dtype=np.float64) * others.sum(axis=1, dtype=np.float64)
        won = np.einsum("dg,dg->d", hits.astype(np.float64), below)
        areas.append(np.where(pairs > 0, won / np.where(pairs > 0, pairs, 1), np.nan))
    return np.concatenate(areas)


def _auroc_by_pairs(
    counts: Weights, owner: Owners, scores: Floats, positive: npt.NDArray[np.bool_]
) -> Floats:
    """Return the same from how often each patient's positives score above another's negatives.

    With many slices a patient this is quicker: the draws never see a slice.
    """
    patients = counts.shape[1]
    mine, above = owner[positive], scores[positive]
    won = np.zeros((patients, patients), np.float32)
    for other in range(patients):
        below = np.sort(scores[~positive & (owner == other)])
        if len(below):
            twice = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
            won[:, other] = np.bincount(mine, weights=twice / 2, minlength=patients)
    hits, others = (np.bincount(owner[of], minlength=patients) for of in (positive, ~positive))
    pairs = (counts @ hits) * (counts @ others)
    right = np.einsum("dp,dp->d", counts @ won, counts, dtype=np.float64)
    return np.where(pairs > 0, right / np.where(pairs > 0, pairs, 1), np.nan)


def _parts(counts: Weights, observations: int) -> Iterator[Weights]:
    """Yield some draws at a time, so that memory stays bounded."""
    rows = max(_AT_ONCE // max(observations, 1), 1)
    for first in range(0, len(counts), rows):
        yield counts[first : first + rows]


def per_patient(values: Floats, owner: Owners, patients: int) -> Floats:
    """Return the sum of values by patient; NaN counts as nothing."""
    sums = np.bincount(owner, weights=np.nan_to_num(values), minlength=patients)
    return sums.astype(np.float64)


def ratio_draws(counts: Weights, owner: Owners, above: Floats, below: Floats) -> Floats:
    """Return sum(above) / sum(below) in each draw; NaN where there is nothing below."""
    patients = counts.shape[1]
    sums = np.stack([per_patient(above, owner, patients), per_patient(below, owner, patients)], 1)
    drawn = counts.astype(np.float64) @ sums
    there = drawn[:, 1] > 0
    return np.where(there, drawn[:, 0] / np.where(there, drawn[:, 1], 1), np.nan)


def mean_interval(counts: Weights, owner: Owners, values: Floats) -> Interval:
    """Return the mean of the values that are known, with its interval."""
    known = ~np.isnan(values)
    if not known.any():
        return Interval(math.nan, math.nan, math.nan)
    drawn = ratio_draws(counts, owner, values, known.astype(np.float64))
    return percentiles(float(values[known].mean()), drawn)


def auroc_interval(counts: Weights, owner: Owners, scores: Floats, truth: Floats) -> Interval:
    """Return the AUROC with its interval; truth may be NaN."""
    known = ~np.isnan(np.asarray(truth, np.float64))
    found, positive = known_of(scores, truth)
    drawn = _auroc_over(counts, owner[known], found, positive)
    return percentiles(auroc(scores, truth), drawn)


Statistic = Callable[[Predictions], float]


def interval_of(
    statistic: Statistic, predictions: Predictions, *, draws: int = 500, seed: int = 1
) -> Interval:
    """Return any figure of predictions with its interval; slow, because each draw is made.

    Parameters
    ----------
    statistic : callable
        From `Predictions` to a number; a series may be in a draw several times.
    """
    drawn = [statistic(predictions.part(one)) for one in drawn_series(predictions, draws, seed)]
    return percentiles(statistic(predictions), np.asarray(drawn, np.float64))


def paired_difference(
    statistic: Statistic,
    before: Predictions,
    after: Predictions,
    *,
    draws: int = 500,
    seed: int = 1,
) -> Interval:
    """Return by how much a figure changes from one model to the other, on the same draws.

    Raises
    ------
    ValueError
        When the two did not read the same series in the same order.
    """
    if [s.series for s in before.series] != [s.series for s in after.series]:
        raise ValueError("both models must have read the same series in the same order")
    drawn = [
        statistic(after.part(one)) - statistic(before.part(one))
        for one in drawn_series(before, draws, seed)
    ]
    return percentiles(statistic(after) - statistic(before), np.asarray(drawn, np.float64))


def drawn_series(predictions: Predictions, draws: int, seed: int) -> Iterator[Owners]:
    """Yield the series of each draw of whole patients."""
    sample = Draws.of(predictions, draws, seed)
    for row in sample.counts.astype(np.int64):
        yield np.repeat(np.arange(len(predictions)), row[sample.owner])


def paired_auroc_difference(
    before: Floats, after: Floats, truth: Floats, weights: Weights
) -> Interval:
    """Return by how much the AUROC changes, with its interval.

    Parameters
    ----------
    before, after : ndarray, float64, (observation,)
        Scores of both models.
    weights : ndarray, float32, (draw, observation)
        From `patient_weights`.
    """
    known = ~np.isnan(np.asarray(truth, np.float64))
    positive = np.asarray(truth)[known] == 1
    drawn = auroc_draws(after[known], positive, weights[:, known]) - auroc_draws(
        before[known], positive, weights[:, known]
    )
    return percentiles(auroc(after, truth) - auroc(before, truth), drawn)
