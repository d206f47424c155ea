"""The words of training data: a labelled series, where it comes from, under which terms.

Unknown labels are NaN everywhere and are masked in every loss and figure; they are never 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS

UNKNOWN = np.float32("nan")


@dataclass(frozen=True, slots=True)
class Licence:
    """Under which terms a dataset may be used.

    What is trained on a source whose terms are non-commercial is marked so in its bundle.
    """

    name: str  # "RSNA terms", "CC BY-NC-SA 4.0", "Apache-2.0"
    non_commercial: bool
    cite: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the scanner says of a series; "" and NaN where it does not say. No names, no dates.

    Kept for exploration, subgroups and the leakage alarm. Never fed to a network.
    """

    manufacturer: str = ""
    model_name: str = ""
    kernel: str = ""
    thickness_mm: float = float("nan")
    age_years: float = float("nan")
    sex: str = ""
    bits_stored: float = float("nan")
    pixel_representation: float = float("nan")
    intercept_hu: float = float("nan")
    slope: float = float("nan")
    rows: float = float("nan")
    columns: float = float("nan")
    window_center: float = float("nan")
    window_width: float = float("nan")
    repaired: bool = False  # a wrapped rescale intercept was put right, see train.data.repair
    hu_suspect: bool = False  # the tags are those of a wrapped one, and the pixels do not prove it


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A slice that is not used, and why; the rest of its series is."""

    key: str  # what the source calls the slice
    reason: str  # short and constant, to be counted
    detail: str = ""  # figures; never patient data


@dataclass(frozen=True, slots=True, eq=False)
class SourceSeries:
    """One labelled series, read.

    Attributes
    ----------
    dataset : str
        Name of the source: "rsna", "cq500", "simulated", "site".
    patient, study, series : str
        Keys that are the same for the same one. `patient` is a pseudonym, never a name or a number
        of a person, and the split goes by it; the others may be the source's own UIDs.
    hu : ndarray, int16, (z, y, x)
        Hounsfield units, from the feet to the head.
    spacing_mm : tuple of float
        (z, y, x); z is the median step.
    positions_mm : ndarray, float64, (z,)
        Along the slice normal, ascending.
    slice_keys : tuple of str
        What the source calls each slice, for people to find it again.
    slice_labels : ndarray, float32, (z, label)
        1, 0 or NaN in the order of `ichnode.domain.findings.LABELS`.
    series_labels : ndarray, float32, (label,)
        What is known of the series as a whole; NaN where only slices are labelled is filled in
        from them by `series_truth`.
    kinds : ndarray, uint8, (z, y, x), optional
        Voxel truth: 0, or the index of a label in ``LABELS``.
    label_source : str
        "readers", "report", "simulation", "adjudicated"; kept beside every label.
    left_out : tuple of LeftOut
        Slices of the series that are not among these.
    """

    dataset: str
    patient: str
    study: str
    series: str
    hu: npt.NDArray[np.int16] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    positions_mm: npt.NDArray[np.float64] = field(repr=False)
    slice_keys: tuple[str, ...] = field(repr=False)
    slice_labels: npt.NDArray[np.float32] = field(repr=False)
    series_labels: npt.NDArray[np.float32] = field(repr=False)
    facts: Facts = field(default=Facts(), repr=False)
    kinds: npt.NDArray[np.uint8] | None = field(default=None, repr=False)
    label_source: str = ""
    left_out: tuple[LeftOut, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        slices = len(self.hu)
        if self.hu.ndim != 3 or slices == 0:
            raise ValueError("hu is (z, y, x)")
        if self.slice_labels.shape != (slices, len(LABELS)) or self.series_labels.shape != (
            len(LABELS),
        ):
            raise ValueError("labels are (z, label) and (label,)")
        if self.positions_mm.shape != (slices,) or len(self.slice_keys) != slices:
            raise ValueError("every slice has a position and a key")
        if self.kinds is not None and self.kinds.shape != self.hu.shape:
            raise ValueError("kinds has the shape of hu")


HELD_OUT, BLED = "-holdout", "-bled"
"""What the names of datasets say: to measure on alone; real scans with simulated bleeds."""


def is_simulated(dataset: str) -> bool:
    """Say whether the blood of a dataset is simulated, and so every figure on it."""
    return dataset.startswith(("simulated", "randomised")) or BLED in dataset


def is_held_out(dataset: str) -> bool:
    """Say whether a dataset is there to measure on, and nothing may learn from it."""
    return HELD_OUT in dataset


class Source(Protocol):
    """A dataset in its own layout.

    Job ids are cheap to list, unique within the source and stable, so that a build that was
    interrupted goes on where it stopped. `read` is called in processes of a pool: a source must be
    picklable.
    """

    @property
    def name(self) -> str:
        """Short name: "rsna"."""

    @property
    def licence(self) -> Licence:
        """Its terms."""

    def jobs(self) -> Sequence[str]:
        """Return the ids of the series, in a stable order."""

    def read(self, job: str) -> SourceSeries:
        """Read one series.

        Raises
        ------
        Unusable
            When it cannot be used; it is then quarantined with the reason.
        """


def series_truth(series: SourceSeries) -> npt.NDArray[np.float32]:
    """Return what is known of the whole series, filled in from its slices where it is not stated.

    A label is 1 when any slice shows it, 0 when every slice is known not to, NaN otherwise.

    Returns
    -------
    ndarray, float32, (label,)
    """
    truth = series.series_labels.copy()
    for index in np.flatnonzero(np.isnan(truth)):
        column = series.slice_labels[:, index]
        if (column == 1).any():
            truth[index] = 1
        elif not np.isnan(column).any():
            truth[index] = 0
    return truth


def unknown_labels(slices: int) -> npt.NDArray[np.float32]:
    """Return labels (slice, label) of which nothing is known."""
    return np.full((slices, len(LABELS)), UNKNOWN)


def facts_as_row(facts: Facts) -> dict[str, Any]:
    """Return the facts as columns of a table."""
    return {name: getattr(facts, name) for name in Facts.__slots__}


def contradictory(labels: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Say where labels cannot be true: "any" is there exactly when one of the kinds is.

    Parameters
    ----------
    labels : ndarray, float32, (..., label)
        1, 0 or NaN; what is not known contradicts nothing.

    Returns
    -------
    ndarray, bool, (...)
    """
    stated, kinds = labels[..., 0], labels[..., 1:]
    there = (kinds == 1).any(axis=-1) & (stated == 0)
    nowhere = (kinds == 0).all(axis=-1) & (stated == 1)
    found: npt.NDArray[np.bool_] = np.asarray(there | nowhere)
    return found
