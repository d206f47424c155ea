"""Small simulated CT scans for the tests of `ichnode.imaging`: numpy shapes written as DICOM.

Coarse on purpose (128 pixels of 2 mm): enough anatomy for the gates, small enough to be quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from ichnode.domain.series import Header
from ichnode.imaging.header import read_header

SIDE = 128
PIXEL_MM = 2.0
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
STUDY_UID = "1.2.826.0.1.3680043.10.9999.1"
SERIES_UID = STUDY_UID + ".1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

Hu = npt.NDArray[np.int16]


def head(positions_mm: Sequence[float], *, noise_hu: float = 3.0, seed: int = 7) -> Hu:
    """A simulated head, 160 mm tall from position 0: scalp, skull, brain, ventricles, air."""
    z = np.asarray(positions_mm, dtype=float)[:, None, None] - 50.0
    axis = (np.arange(SIDE) - (SIDE - 1) / 2) * PIXEL_MM
    y, x = axis[None, :, None], axis[None, None, :]

    def within(ay: float, ax: float, az: float) -> npt.NDArray[np.bool_]:
        return (y / ay) ** 2 + (x / ax) ** 2 + (z / az) ** 2 <= 1

    hu = np.full(np.broadcast_shapes(z.shape, y.shape, x.shape), -1000.0)
    for (ay, ax, az), value in (
        ((100, 80, 112), 30.0),  # scalp
        ((94, 74, 106), 900.0),  # skull
        ((86, 66, 98), 34.0),  # brain
        ((30, 14, 30), 8.0),  # ventricles
    ):
        hu[within(ay, ax, az)] = value
    hu += np.random.default_rng(seed).normal(0, noise_hu, hu.shape)
    return np.asarray(np.clip(np.rint(hu), -1024, 3071), dtype=np.int16)


def positions(count: int = 28, step_mm: float = 5.0) -> list[float]:
    """Positions of an ordinary thick series, from the feet upwards."""
    return [step_mm * index for index in range(count)]


def ct_image(hu: Hu, z_mm: float, number: int, tags: Mapping[str, Any] | None = None) -> Dataset:
    """One CT image with what a scanner writes; `tags` change or (None) remove attributes."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = CT_IMAGE
    ds.SOPInstanceUID = f"{SERIES_UID}.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = STUDY_UID, SERIES_UID
    ds.PatientID, ds.PatientName, ds.PatientAge = "SIM-1", "Simulated^Head", "064Y"
    ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Manufacturer, ds.ConvolutionKernel = "SIEMENS", "H37s"
    ds.SeriesDescription = "Head plain"
    ds.InstanceNumber, ds.AcquisitionNumber = number, 1
    ds.SliceThickness = "5"
    ds.PixelSpacing = [PIXEL_MM, PIXEL_MM]
    ds.ImageOrientationPatient = list(AXIAL)
    ds.ImagePositionPatient = [-127.0, -127.0, round(float(z_mm), 4)]
    stored_as(ds, hu)
    for keyword, value in (tags or {}).items():
        if value is None:
            delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


def stored_as(
    ds: Dataset,
    hu: npt.NDArray[Any],
    *,
    intercept: float = -1024,
    slope: float = 1,
    signed: bool = False,
    bits: int = 16,
) -> None:
    """Put HU into a data set as stored values of the given form."""
    stored = np.rint((np.asarray(hu, dtype=float) - intercept) / slope).astype(np.int32)
    container = stored & ((1 << bits) - 1)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape[-2:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    ds.RescaleIntercept, ds.RescaleSlope = f"{intercept:g}", f"{slope:g}"
    ds.add_new(0x7FE00010, "OW", container.astype("<u2").tobytes())


def save(ds: Dataset, path: Path) -> tuple[Header, Path]:
    """Write a data set as a Part 10 file; return what `read_series` takes."""
    ds.save_as(path, enforce_file_format=True)
    return read_header(path), path


def write_series(
    folder: Path,
    hu: Hu,
    positions_mm: Sequence[float],
    tags: Mapping[str, Any] | None = None,
    first_number: int = 1,
) -> list[tuple[Header, Path]]:
    """Write a stack as single-frame CT images."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        save(ct_image(image, z_mm, number, tags), folder / f"{number:04}.dcm")
        for number, (image, z_mm) in enumerate(
            zip(hu, positions_mm, strict=True), start=first_number
        )
    ]


def enhanced_ct(hu: Hu, positions_mm: Sequence[float], intercepts: Sequence[float]) -> Dataset:
    """One Enhanced CT object: shared orientation and spacing, rescale and position per frame."""
    ds = ct_image(hu[0], 0.0, 1, {"SOPClassUID": ENHANCED_CT})
    for keyword in ("RescaleIntercept", "RescaleSlope", "ImagePositionPatient", "PixelSpacing",
                    "ImageOrientationPatient", "SliceThickness"):  # fmt: skip
        delattr(ds, keyword)
    ds.NumberOfFrames = len(hu)
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [PIXEL_MM, PIXEL_MM], "5"
    plane.ImageOrientationPatient = list(AXIAL)
    shared = Dataset()
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [plane]
    ds.SharedFunctionalGroupsSequence = [shared]
    groups, pixels = [], []
    for image, z_mm, intercept in zip(hu, positions_mm, intercepts, strict=True):
        place, rescale, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [-127.0, -127.0, float(z_mm)]
        rescale.RescaleIntercept, rescale.RescaleSlope = f"{intercept:g}", "1"
        rescale.RescaleType = "HU"
        group.PlanePositionSequence, group.PixelValueTransformationSequence = [place], [rescale]
        groups.append(group)
        pixels.append((image.astype(np.int32) - int(intercept)).astype("<u2"))
    ds.PerFrameFunctionalGroupsSequence = groups
    ds.add_new(0x7FE00010, "OW", b"".join(frame.tobytes() for frame in pixels))
    return ds
