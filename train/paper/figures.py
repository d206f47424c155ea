"""What a network gets right, beside what one gets right that has learnt nothing."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from train.data.views import Slices
from train.errors import TrainingError
from train.judge.bootstrap import Interval, auroc_interval, draw_counts, mean_interval
from train.judge.metrics import auroc
from train.learn.batches import answer_columns
from train.learn.predicting import Quick, embed
from train.learn.recipe import Recipe
from train.learn.run_folder import OpenedRun

_DRAWS = 500
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one network on the validation patients, with 95 % intervals over patients.

    Attributes
    ----------
    accuracy : Interval
        At a threshold of 0.5; of subtypes over all entries, as fastai's ``accuracy_multi``.
    nothing : float
        Accuracy of always giving the commoner answer, and for subtypes of calling none.
    area : Interval
        AUROC of blood or not; of subtypes the mean over those with both classes, no interval.
    """

    accuracy: Interval
    nothing: float
    area: Interval
    slices: int
    patients: int

    def as_json(self) -> dict[str, Any]:
        """Return them with None for what cannot be given."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def figures_of(run: OpenedRun, validation: Slices, device: str, seed: int) -> Figures:
    """Measure a finished run on slices like those that it learnt from.

    Blood or not is measured on all slices with blood and half as many without, the paper's mix, on
    which a threshold of 0.5 has its meaning; subtypes on slices with blood.
    """
    part = _like_the_paper(validation, run.recipe, seed)
    if not len(part):
        raise TrainingError("There are no validation slices with blood; add patients.")
    logits = embed(run.network, part, run.spec, device=device, how=Quick())[1]
    truth = part.labels[:, answer_columns(run.recipe)].astype(np.float64)
    return figures(logits, truth, pd.factorize(part.table["patient"])[0], seed)


def figures(logits: Floats, truth: Floats, owner: npt.NDArray[np.int64], seed: int = 1) -> Figures:
    """Return the figures of logits and truth (slice, answer), each slice of a patient."""
    patients = int(owner.max()) + 1
    counts = draw_counts(patients, _DRAWS, seed)
    right = np.where(np.isnan(truth), np.nan, (logits > 0) == (truth == 1))
    single = truth.shape[1] == 1
    if single:
        area = auroc_interval(counts, owner, logits[:, 0], truth[:, 0])
    else:
        each = [auroc(z, y) for z, y in zip(logits.T, truth.T, strict=True)]
        known = [one for one in each if not np.isnan(one)]
        area = Interval(
            float(np.mean(known)) if known else float("nan"), float("nan"), float("nan")
        )
    rate = float(np.nanmean(truth))
    return Figures(
        accuracy=mean_interval(counts, owner, np.nanmean(right, axis=1)),
        nothing=max(rate, 1 - rate) if single else 1 - rate,
        area=area,
        slices=len(truth),
        patients=patients,
    )


def _like_the_paper(validation: Slices, recipe: Recipe, seed: int) -> Slices:
    blood, none = validation.labels[:, 0] == 1, np.flatnonzero(validation.labels[:, 0] == 0)
    if recipe.labels == "subtypes":
        return validation.where(blood & ~np.isnan(validation.labels[:, 1:]).all(axis=1))
    drawn = np.random.default_rng(seed).choice(
        none, min(len(none), max(int(blood.sum()) // 2, 1)), replace=False
    )
    chosen = blood.copy()
    chosen[drawn] = True
    return validation.where(chosen)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 5)
    return value
