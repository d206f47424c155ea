"""What a scanner sends, in the few facts that the node decides by."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

THIN_BELOW_MM = 3.0
SET_ASIDE = 0xFFFF
"""No status of DICOM: the instance was acknowledged, and the worklist would not record it."""


@dataclass(frozen=True, slots=True)
class Header:
    """The facts of one instance that the worklist keeps; read once, without decoding pixels.

    Text is as decoded from the data set's own character set. Fields that the instance lacks are
    empty or None: absence is a fact too. The patient fields are PHI and must never be logged.
    """

    sop_uid: str
    sop_class_uid: str
    series_uid: str
    study_uid: str
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""  # DA, as sent
    patient_sex: str = ""
    patient_age: str = ""  # AS, as sent, e.g. "064Y"
    accession_number: str = ""
    study_date: str = ""  # DA, local time of the modality, as sent
    study_time: str = ""  # TM, likewise
    study_description: str = ""
    modality: str = ""
    series_number: int | None = None
    series_description: str = ""
    body_part: str = ""
    protocol_name: str = ""
    manufacturer: str = ""
    model_name: str = ""
    station_name: str = ""
    kernel: str = ""  # values joined by a backslash
    contrast_agent: str = ""
    image_type: tuple[str, ...] = ()
    instance_number: int | None = None
    acquisition_number: int | None = None
    rows: int | None = None
    columns: int | None = None
    frames: int = 1
    slice_thickness_mm: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None  # between rows (y), between columns (x)
    orientation: tuple[float, ...] | None = None  # Image Orientation (Patient): row then column
    position_mm: tuple[float, float, float] | None = None  # Image Position (Patient)
    expected_count: int | None = None  # (0020,1209) where stated, else None
    requested_priority: str = ""  # (0040,1003) where stated: STAT, HIGH, ROUTINE, MEDIUM, LOW

    @property
    def patient_key(self) -> str:
        """A digest of issuer and patient ID: equal for the same patient, and not readable."""
        identity = f"{self.issuer_of_patient_id}|{self.patient_id}"
        return hashlib.sha256(identity.encode()).hexdigest()

    @property
    def is_thin(self) -> bool:
        """Whether the slice is thinner than 3 mm (then more of them are to be expected)."""
        return self.slice_thickness_mm is not None and self.slice_thickness_mm < THIN_BELOW_MM


@dataclass(frozen=True, slots=True)
class Arrival:
    """One instance that is on stable storage and acknowledged, for the worklist to record."""

    header: Header
    transfer_syntax_uid: str
    sha256: str  # over the Part 10 file, hexadecimal
    path: str  # relative to the spool, POSIX
    size_bytes: int
    received_at: datetime  # by the receiver's clock; the database stamps its own
    association_id: str
    calling_ae: str
    called_ae: str
    peer_address: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that came to the door and was not kept; shown to a person afterwards."""

    at: datetime
    calling_ae: str
    peer_address: str
    status: int  # C-STORE status sent, SET_ASIDE, or 0 for a refused association
    sentence: str  # without patient data
    sop_class_uid: str = ""


@dataclass(frozen=True, slots=True)
class InstanceRef:
    """One instance of a frozen set: where its bytes are and what its header says."""

    sha256: str
    path: str  # relative to the spool, POSIX
    transfer_syntax_uid: str
    header: Header = field(repr=False)


def set_digest(instances: Iterable[tuple[str, str]]) -> str:
    """Return the digest of a set of (SOP Instance UID, sha256) pairs, whatever their order."""
    lines = sorted(f"{sop_uid} {sha256}" for sop_uid, sha256 in instances)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
