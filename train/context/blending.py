"""How far the sequence stage is believed: chosen for each label on the selection split.

What it adds is clear for slices and less so for series, and a rare kind of bleed may lose by it. So
each label has shares of its own, and none is an answer: a model blended so is not worse than the
slice network on the series that chose the shares.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from ichnode.nets.calibration import blended
from ichnode.nets.manifest import ContextSpec
from train.judge.metrics import auroc
from train.predictions import Predictions

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
FEWEST = 10
"""Positives, and negatives, without which nothing is chosen and the slice network decides alone."""
_WORTH = 0.0005  # of AUROC; what gains less is chance, and the smaller share is taken
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blend:
    """The shares that were chosen, and from what.

    Attributes
    ----------
    spec : ContextSpec
        As the bundle states it.
    slice_areas, series_areas : tuple of tuples of float
        (share, label): the AUROC with each of `SHARES`; NaN where a class is missing.
    """

    spec: ContextSpec
    slice_areas: tuple[tuple[float, ...], ...]
    series_areas: tuple[tuple[float, ...], ...]


def choose_blend(own: Predictions, context: Predictions) -> Blend:
    """Choose for each label, for slices and for series, the share with the highest AUROC.

    Parameters
    ----------
    own, context : Predictions
        What the slice network and the context network say of the same series, which neither has
        learnt from.
    """
    slices = _areas(own.slice_logits, context.slice_logits, own.slice_truth)
    series = _areas(own.series_logits, context.series_logits, own.series_truth)
    return Blend(
        spec=ContextSpec(
            slice_blend=_best(slices, own.slice_truth),
            series_blend=_best(series, own.series_truth),
        ),
        slice_areas=tuple(map(tuple, slices.tolist())),
        series_areas=tuple(map(tuple, series.tolist())),
    )


def blend(own: Predictions, context: Predictions, spec: ContextSpec) -> Predictions:
    """Return what a bundle of both says, as `ichnode.nets.calibration.combine` does in serving."""
    return Predictions(
        tuple(
            replace(
                one,
                slice_logits=blended(one.slice_logits, other.slice_logits, spec.slice_blend),
                series_logits=blended(one.series_logits, other.series_logits, spec.series_blend),
            )
            for one, other in zip(own.series, context.series, strict=True)
        )
    )


def _areas(own: Floats, context: Floats, truth: Floats) -> Floats:
    """Return the AUROC with each share: (share, label)."""
    found = [blended(own, context, (share,) * len(LABELS)) for share in SHARES]
    return np.array(
        [[auroc(said[:, k], truth[:, k]) for k in range(len(LABELS))] for said in found]
    )


def _best(areas: Floats, truth: Floats) -> tuple[float, ...]:
    """Return the share of each label: the smallest that is as good as the best."""
    chosen = []
    for column, stated in zip(areas.T, truth.T, strict=True):
        if min((stated == 1).sum(), (stated == 0).sum()) < FEWEST:
            chosen.append(SHARES[0])
        else:
            chosen.append(SHARES[int(np.argmax(column >= column.max() - _WORTH))])
    return tuple(chosen)
