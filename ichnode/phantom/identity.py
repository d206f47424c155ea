"""Who a simulated study pretends to be about, and the modules that every object shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from ichnode.domain.ids import result_uid

MANUFACTURER = "ichnode phantom"
MODEL_NAME = "simulated CT"
IMPLEMENTATION_CLASS_UID = result_uid("phantom implementation")
_NATIVE = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


@dataclass(frozen=True, slots=True)
class Identity:
    """Patient and study of a simulated examination."""

    patient_name: str
    patient_id: str
    birth_date: str  # DA
    sex: str  # M, F or O
    accession: str
    study_uid: str
    study_date: str  # DA
    study_time: str  # TM
    study_id: str = "1"
    study_description: str = "CT HEAD WITHOUT CONTRAST"
    referring_physician: str = ""
    institution: str = "Simulated Hospital"
    character_set: str = "ISO_IR 192"

    @classmethod
    def simulated(cls, seed: int, *, age_years: float | None = None) -> Identity:
        """Return the identity that belongs to `seed`; its name says that it is simulated."""
        rng = np.random.default_rng((seed, 6))
        day = date(2026, 1, 1) + timedelta(days=int(rng.integers(0, 300)))
        age = float(rng.uniform(20, 92)) if age_years is None else age_years
        born = day - timedelta(days=int(age * 365.25))
        clock = rng.integers([0, 0, 0], [24, 60, 60])
        return cls(
            patient_name=f"SIMULATED^PHANTOM {seed:04d}",
            patient_id=f"SIM{seed:07d}",
            birth_date=f"{born:%Y%m%d}",
            sex=str(rng.choice(["F", "M"])),
            accession=f"A{seed:07d}",
            study_uid=result_uid("phantom study", str(seed)),
            study_date=f"{day:%Y%m%d}",
            study_time="".join(f"{part:02d}" for part in clock),
            study_id=f"{seed % 10_000}",
        )

    def series_uid(self, series_number: int) -> str:
        """Return the UID of one of the study's series."""
        return result_uid("phantom series", self.study_uid, str(series_number))

    def instance_uid(self, series_number: int, instance_number: int) -> str:
        """Return the UID of one instance."""
        return result_uid(
            "phantom instance", self.study_uid, str(series_number), str(instance_number)
        )

    def frame_of_reference_uid(self) -> str:
        """Return the frame of reference that the study's series share."""
        return result_uid("phantom frame of reference", self.study_uid)


def new_object(
    identity: Identity,
    sop_class_uid: str,
    *,
    series_number: int,
    instance_number: int,
    modality: str = "CT",
    description: str = "",
) -> Dataset:
    """Return a dataset with the patient, study, series, equipment and SOP common modules."""
    ds = Dataset()
    ds.SpecificCharacterSet = identity.character_set
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = identity.instance_uid(series_number, instance_number)
    ds.PatientName = identity.patient_name
    ds.PatientID = identity.patient_id
    ds.PatientBirthDate = identity.birth_date
    ds.PatientSex = identity.sex
    ds.PatientAge = f"{_whole_years(identity):03d}Y"
    ds.StudyInstanceUID = identity.study_uid
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = identity.study_date
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = identity.study_time
    ds.AccessionNumber = identity.accession
    ds.ReferringPhysicianName = identity.referring_physician
    ds.StudyID = identity.study_id
    ds.StudyDescription = identity.study_description
    ds.Modality = modality
    ds.SeriesInstanceUID = identity.series_uid(series_number)
    ds.SeriesNumber = series_number
    ds.InstanceNumber = instance_number
    if description:
        ds.SeriesDescription = description
    ds.Manufacturer = MANUFACTURER
    ds.ManufacturerModelName = MODEL_NAME
    ds.InstitutionName = identity.institution
    ds.StationName = "SIMCT1"
    ds.DeviceSerialNumber = "0000"
    ds.SoftwareVersions = "1"
    return ds


def _whole_years(identity: Identity) -> int:
    born, seen = identity.birth_date, identity.study_date
    return max(int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:]), 0)


def save(ds: Dataset, path: Path, transfer_syntax: str = ExplicitVRLittleEndian) -> Path:
    """Write `ds` as a DICOM file, compressing its pixel data where the syntax asks for that.

    Pixel data must be little-endian words when this is called.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    ds.file_meta = meta
    if transfer_syntax not in _NATIVE:
        ds.compress(transfer_syntax, generate_instance_uid=False)
    elif transfer_syntax == ExplicitVRBigEndian and "PixelData" in ds:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    meta.TransferSyntaxUID = transfer_syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path
