"""Why a series was not analysed: a closed list, each with the sentence that people are shown.

Silence never looks like a negative, so every series that gets no result gets one of these.
The clauses and the evidence behind each gate are in ``ichnode/imaging/selection.py``.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """A reason not to analyse, as (code kept in the database, sentence shown)."""

    NOT_CT = ("not_ct", "This is not a CT image series.")
    OWN_DOCUMENT = ("own_document", "This is a document that ichnode itself made.")
    DOSE_REPORT = ("dose_report", "This is a dose report or an exam summary.")
    SECONDARY_CAPTURE = ("secondary_capture", "This is a secondary capture, not an acquisition.")
    LOCALIZER = ("localizer", "This is a localizer.")
    DERIVED = ("derived", "This is a reformatted or derived series.")
    NOT_AXIAL = ("not_axial", "The slices are not axial.")
    NOT_HEAD = ("not_head", "This does not show a head.")
    PARTIAL_HEAD = ("partial_head", "Too little of the brain is covered.")
    SHARP_KERNEL = ("sharp_kernel", "This was reconstructed with a sharp (bone) kernel.")
    CONTRAST = ("contrast", "Contrast medium was given, or is likely.")
    PERFUSION = ("perfusion", "This is a perfusion or other repeated acquisition.")
    SPECTRAL = ("spectral", "This is a material or low-energy image of a spectral scan.")
    TOO_FEW_SLICES = ("too_few_slices", "There are too few slices.")
    TOO_MANY_SLICES = ("too_many_slices", "There are more slices than a head CT has.")
    SLICE_SPACING = ("slice_spacing", "The slices are too thin or too far apart.")
    MIXED_GEOMETRY = ("mixed_geometry", "The slices do not form one stack.")
    NO_GEOMETRY = ("no_geometry", "Position or orientation of the slices is missing.")
    NOT_HOUNSFIELD = ("not_hounsfield", "The pixel values are not in Hounsfield units.")
    IMPLAUSIBLE_HOUNSFIELD = ("implausible_hounsfield", "The Hounsfield units are not plausible.")
    UNREADABLE = ("unreadable", "The pixel data cannot be decoded.")
    IDENTITY = ("identity", "The series mixes identities of patients or studies.")
    CONFLICTING_PIXELS = (
        "conflicting_pixels",
        "Different images came under one SOP Instance UID; a person must look.",
    )
    OUT_OF_SCOPE_AGE = ("out_of_scope_age", "The patient is younger than the model is meant for.")

    @property
    def code(self) -> str:
        """The stable code, as kept in the database and metrics."""
        return self.value[0]

    @property
    def sentence(self) -> str:
        """The sentence that people are shown."""
        return self.value[1]

    @classmethod
    def from_code(cls, code: str) -> Reason:
        """Return the reason with this code.

        Raises
        ------
        KeyError
            When no reason has that code.
        """
        return _BY_CODE[code]


_BY_CODE = {reason.code: reason for reason in Reason}
