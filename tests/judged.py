"""Made-up predictions whose quality is known, for tests of what judges them."""

from __future__ import annotations

import dataclasses

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import Calibration, Thresholds
from train.predictions import Predictions, SeriesPrediction

KINDS = len(LABELS) - 1
AS_IT_IS = Calibration(
    (1.0,) * 6, (0.0,) * 6, (1.0,) * 6, (0.0,) * 6, "adjacent_mean", "not at all"
)
HALF = Thresholds((0.5,) * 6, 0.2, "by hand")


def log_odds(p: float) -> float:
    """The log odds of a probability."""
    return float(np.log(p / (1 - p)))


def made_up(
    count: int,
    *,
    gap: float = 2.5,
    prevalence: float = 0.4,
    per_patient: int = 1,
    slices: int = 8,
    boldness: float = 1.0,
    offset: float = 0.0,
    seed: int = 1,
    dataset: str = "made_up",
    first: int = 0,
) -> Predictions:
    """Return series whose logits are true log odds, times `boldness`, plus `offset`.

    Scores of positives and negatives are normal and `gap` standard deviations apart, so the AUROC
    is Phi(gap / sqrt 2). Every fourth patient, at least, has each kind of bleed.
    """
    rng = np.random.default_rng(seed)
    return Predictions(
        tuple(
            _series(rng, first + i, gap, prevalence, per_patient, slices, boldness, offset, dataset)
            for i in range(count)
        )
    )


def _series(rng, index, gap, prevalence, per_patient, slices, boldness, offset, dataset):
    whole = np.zeros(len(LABELS))
    if rng.random() < prevalence:
        whole[1 + rng.choice(KINDS, 1 + int(rng.random() < 0.25), replace=False)] = 1
        whole[0] = 1
    of_slices = np.zeros((slices, len(LABELS)))
    first = int(rng.integers(0, slices - 2))
    of_slices[first : first + 3] = whole
    usual = np.array([prevalence, *(prevalence / 4,) * KINDS])

    def logits(truth, rate):
        score = rng.normal(np.where(truth == 1, gap / 2, -gap / 2), 1.0)
        return boldness * (gap * score + np.log(rate / (1 - rate))) + offset

    return SeriesPrediction(
        dataset=dataset,
        patient=f"p{index // per_patient}",
        study=f"st{index}",
        series=f"se{index}",
        slice_keys=tuple(f"{index}.{k}" for k in range(slices)),
        slice_logits=logits(of_slices, usual * 3 / slices),
        series_logits=logits(whole, usual),
        slice_truth=of_slices,
        series_truth=whole,
        facts={
            "manufacturer": ("SIEMENS", "GE MEDICAL SYSTEMS")[index % 2],
            "kernel": ("H31s", "STANDARD")[index % 2],
            "thickness_mm": (5.0, 1.0)[index % 3 == 0],
            "age_years": float(20 + index % 70),
            "sex": "FM"[index % 2],
        },
    )


def with_truth(predictions: Predictions, change) -> Predictions:
    """The same series, with `change(series_truth, slice_truth, rng)` for their labels."""
    rng = np.random.default_rng(5)
    changed = []
    for one in predictions.series:
        whole, each = change(one.series_truth.copy(), one.slice_truth.copy(), rng)
        changed.append(dataclasses.replace(one, series_truth=whole, slice_truth=each))
    return Predictions(tuple(changed))
