"""How sure the figures of calibration are; see `bootstrap` for how patients are drawn.

References
----------
Kline P, Santos A, A score based approach to wild bootstrap inference, J Econometric Methods 2012.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.judge.bootstrap import Interval, Owners, Weights, per_patient, percentiles
from train.judge.logistic import PRIOR_SD, fit_level, fit_line, log_odds, probability_of
from train.judge.metrics import BINS, bins_of, known_of

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def ece_interval(
    counts: Weights, owner: Owners, probabilities: Floats, truth: Floats, bins: int = BINS
) -> Interval:
    """Return the calibration error with its interval, over the bins of the whole sample.

    Drawing adds chance to chance, so the draws of an error that is never negative lie too high;
    the interval is moved down by their bias and cut at 0.
    """
    p, positive = known_of(probabilities, truth)
    if not len(p):
        return Interval(math.nan, math.nan, math.nan)
    known, patients = ~np.isnan(truth), counts.shape[1]
    bin_of, mine = bins_of(p, bins), owner[known]
    off = np.zeros((patients, int(bin_of.max()) + 1))
    np.add.at(off, (mine, bin_of), p - positive)
    value = float(np.abs(off.sum(axis=0)).sum() / len(p))
    if not len(counts):
        return Interval(value, math.nan, math.nan)
    size = counts @ np.bincount(mine, minlength=patients)
    wide = counts.astype(np.float64)
    drawn = np.abs(wide @ off).sum(axis=1) / np.maximum(size, 1)
    found = percentiles(value, drawn - (float(drawn.mean()) - value))
    return Interval(value, max(found.low, 0.0), found.high)


def line_intervals(
    counts: Weights, owner: Owners, probabilities: Floats, truth: Floats
) -> tuple[Interval, Interval]:
    """Return calibration slope and intercept with intervals; see `metrics.calibration_line`.

    Each draw takes one Newton step from the estimate of the whole sample, which is as good as a
    fit of its own to first order.
    """
    p, positive = known_of(probabilities, truth)
    if not len(p):
        return (Interval(math.nan, math.nan, math.nan),) * 2
    mine, z = owner[~np.isnan(truth)], log_odds(p)
    line, _ = fit_line(z, positive)
    level, _ = fit_level(z, positive)
    design = np.stack([np.ones_like(z), z], axis=1)
    drawn = _Drawn(counts.astype(np.float64), mine, positive)
    slopes = drawn.step(design, probability_of(design @ line), line)
    levels = drawn.step(design[:, :1], probability_of(z + level), np.array([level]))
    return percentiles(float(line[1]), slopes[:, 1]), percentiles(level, levels[:, 0])


@dataclass(frozen=True, slots=True, eq=False)
class _Drawn:
    """What the draws of `line_intervals` have in common."""

    counts: Floats
    owner: Owners
    positive: Flags

    def sums(self, values: Floats) -> Floats:
        """Return the sum of values in each draw."""
        return self.counts @ per_patient(values, self.owner, self.counts.shape[1])

    def step(self, design: Floats, stated: Floats, at: Floats) -> Floats:
        """Return the estimate after one Newton step in each draw, (draw, parameter)."""
        width, strength = design.shape[1], 1 / PRIOR_SD**2
        off, spread = stated - self.positive, np.maximum(stated * (1 - stated), 1e-12)
        slope = np.stack([self.sums(off * design[:, i]) for i in range(width)], axis=1)
        slope += strength * (at - np.array([0.0, 1.0])[:width])
        bend = np.empty((len(self.counts), width, width))
        for i, j in itertools.product(range(width), repeat=2):
            bend[:, i, j] = self.sums(spread * design[:, i] * design[:, j]) + strength * (i == j)
        return np.asarray(at - np.linalg.solve(bend, slope[:, :, None])[:, :, 0])
