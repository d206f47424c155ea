"""Drop slices that show next to no brain, and say what that costs.

The paper drops what has less than 20 % of brain pixels, and with it bleeds near the vertex and the
base of the skull; the preset ``careful`` drops only what is blank for the eye. A clean set is for
learning: whoever measures a model measures it on all slices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from train.data.views import Slices
from train.data.window import brain_fraction
from train.errors import TrainingError

__all__ = [
    "LEAST_BRAIN",
    "CleaningReport",
    "Preset",
    "as_preset",
    "brain_fraction",
    "check_usable",
    "clean",
    "dropped",
]

Preset: TypeAlias = Literal["paper", "careful", "none"]
LEAST_BRAIN: Mapping[Preset, float] = {"paper": 0.20, "careful": 0.02, "none": 0.0}
"""The fraction of brain pixels (``img_pct_window``) below which a slice is dropped."""


@dataclass(frozen=True, slots=True)
class CleaningReport:
    """What a filter did.

    Attributes
    ----------
    positives, positives_dropped : dict
        By label: slices that are known to show it, before, and those of them that were dropped.
    """

    preset: Preset
    least_brain: float
    slices: int
    dropped: int
    patients: int
    patients_dropped: int
    positives: dict[str, int]
    positives_dropped: dict[str, int]

    def sentence(self) -> str:
        """Return the report in words."""
        lost = [
            f"{self.positives_dropped[label]} of {self.positives[label]} {label}"
            for label in LABELS
            if self.positives[label]
        ]
        return (
            f"The preset {self.preset} (at least {100 * self.least_brain:g} % brain) drops "
            f"{self.dropped} of {self.slices} slices and {self.patients_dropped} of "
            f"{self.patients} patients; of the positive slices: {', '.join(lost) or 'none known'}."
        )


def as_preset(name: str) -> Preset:
    """Return the preset of this name.

    Raises
    ------
    TrainingError
        When there is none.
    """
    for preset in LEAST_BRAIN:
        if preset == name:
            return preset
    raise TrainingError(f"There is no preset {name}; known are {', '.join(LEAST_BRAIN)}.")


def dropped(slices: Slices, preset: Preset) -> pd.DataFrame:
    """Return the rows of the slices that a preset drops, those that show a bleed first."""
    table = slices.table[slices.table["brain_fraction"] < LEAST_BRAIN[preset]]
    return table.sort_values(["any", "brain_fraction"], ascending=[False, True])


def clean(slices: Slices, preset: Preset) -> tuple[Slices, CleaningReport]:
    """Drop the slices with too little brain.

    Raises
    ------
    TrainingError
        When nothing to learn from is left, see `check_usable`.
    """
    fraction = slices.table["brain_fraction"].to_numpy()
    kept = fraction >= LEAST_BRAIN[preset]
    left = slices.where(kept)
    patients = set(slices.table["patient"])
    report = CleaningReport(
        preset=preset,
        least_brain=LEAST_BRAIN[preset],
        slices=len(slices),
        dropped=int((~kept).sum()),
        patients=len(patients),
        patients_dropped=len(patients - set(left.table["patient"])),
        positives=_positives(slices.labels),
        positives_dropped=_positives(slices.labels[~kept]),
    )
    check_usable(left, after=f"the filter (preset {preset})")
    return left, report


def check_usable(slices: Slices, *, after: str) -> None:
    """Refuse slices that nothing can be learnt from.

    Where no slice is labelled, the labels of the series are looked at instead.

    Parameters
    ----------
    after : str
        What has been done to them, for the sentence: "the filter".

    Raises
    ------
    TrainingError
        When there are no patients, no labels, or slices of one class only.
    """
    if len(slices) == 0:
        raise TrainingError(f"There are no patients left after {after}; choose a milder one.")
    known = slices.labels[:, 0]
    if np.isnan(known).all():
        known = slices.series_labels[:, 0]
    known = known[~np.isnan(known)]
    if not len(known):
        raise TrainingError(
            f"No label is known of what is left after {after}; add data with labels."
        )
    for value, lacking in ((1, "without"), (0, "with")):
        if (known == value).all():
            raise TrainingError(
                f"There is nothing {lacking} a bleed left after {after}: one class is missing, "
                "and nothing can be learnt from the other alone."
            )


def _positives(labels: npt.NDArray[np.float32]) -> dict[str, int]:
    return {label: int((labels[:, index] == 1).sum()) for index, label in enumerate(LABELS)}
