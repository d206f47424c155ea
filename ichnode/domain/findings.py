"""What the models say, and what the node makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Label = Literal[
    "any", "epidural", "intraparenchymal", "intraventricular", "subarachnoid", "subdural"
]

LABELS: tuple[Label, ...] = (
    "any",
    "epidural",
    "intraparenchymal",
    "intraventricular",
    "subarachnoid",
    "subdural",
)
"""The order of labels everywhere: arrays, bundles, tables and reports."""


class Presence(Enum):
    """What is stated of one label (DICOM CID 240)."""

    PRESENT = "present"
    ABSENT = "absent"
    UNDETERMINED = "undetermined"


class Finding(Enum):
    """What an analysis says of a series."""

    POSITIVE = "positive"
    REVIEW = "review"
    NEGATIVE = "negative"


@dataclass(frozen=True, slots=True)
class LabelResult:
    """One label of one series."""

    label: Label
    probability: float  # calibrated, 0 to 1
    presence: Presence
    key_sop_uid: str  # the slice with the highest probability
    volume_ml: float | None = None  # an estimate, where the model states one of what is present


@dataclass(frozen=True, slots=True)
class BloodMask:
    """Where a model draws blood on one slice; `ichnode.imaging.masks` packs and unpacks it.

    Attributes
    ----------
    slice_uid : str
        As in `AnalysisResult.slice_probabilities`.
    rows, columns : int
        Of the slice in the canonical display: front at the top, patient's right on the left.
    packed : str
        One bit a pixel, row by row, compressed, in base64.
    """

    slice_uid: str
    rows: int
    columns: int
    packed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How much speaks for blood where on one slice; packed and unpacked as `BloodMask` is.

    Attributes
    ----------
    slice_uid : str
        As in `AnalysisResult.slice_probabilities`.
    rows, columns : int
        Of the slice in the canonical display, as of a `BloodMask`.
    top, left, height, width : int
        The part of the slice that it covers, in pixels; it may reach beyond the slice.
    places : int
        That this part has on either side.
    packed : str
        One byte a place, row by row, 255 for certainty; compressed, in base64.
    """

    slice_uid: str
    rows: int
    columns: int
    top: int
    left: int
    height: int
    width: int
    places: int
    packed: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class AnalysisResult:
    """What one model says of one frozen set of instances.

    Attributes
    ----------
    finding : Finding
        The series-level statement.
    labels : tuple of LabelResult
        One per label, in the order of `LABELS`.
    slice_probabilities : tuple of (str, tuple of float)
        SOP Instance UID (for an Enhanced multi-frame object ``uid#frame``, frame from 1) and the
        probabilities of the six labels, in anatomical order from the feet upwards.
    warnings : tuple of str
        Such as "2 gaps"; without patient data.
    key_mask : BloodMask or None
        What is drawn on the key slice of "any", where the model draws and states volumes.
    key_heat : HeatMap or None
        How much speaks for blood where on that slice, of a positive.
    volume_how : str
        How the volumes came about and how far off they were, in the bundle's words; "" without any.
    """

    model_uid: str
    model_name: str
    model_version: str
    finding: Finding
    labels: tuple[LabelResult, ...]
    slice_probabilities: tuple[tuple[str, tuple[float, ...]], ...] = field(repr=False)
    series_score: float  # how well suited the series is, see imaging.selection; higher is better
    operating_point: tuple[tuple[str, float], ...] = ()  # (label, threshold), and ("review", ...)
    warnings: tuple[str, ...] = ()
    device: str = "cpu"
    seconds: float = 0.0  # from the first decoded byte to the result
    key_mask: BloodMask | None = None
    volume_how: str = ""
    key_heat: HeatMap | None = None

    def of(self, label: Label) -> LabelResult:
        """Return the result of one label."""
        return self.labels[LABELS.index(label)]
