"""CT Image Storage objects, plane by plane, and the pixel conventions of scanners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from ichnode.phantom.identity import Identity, new_object


@dataclass(frozen=True, slots=True)
class PixelStyle:
    """How a scanner stores Hounsfield units.

    Attributes
    ----------
    signed : bool
        Pixel Representation 1 with 16 bits; otherwise 12 unsigned bits as older scanners send.
    intercept_hu : int
        Rescale Intercept; the slope is 1.
    padding : int, optional
        Stored value outside the reconstruction circle, also written as Pixel Padding Value.
    """

    signed: bool = True
    intercept_hu: int = -1024
    padding: int | None = -2000


@dataclass(frozen=True, slots=True)
class Plane:
    """Where one image lies (PS3.3 C.7.6.2), patient coordinates in mm."""

    position_mm: tuple[float, float, float]
    row_direction: tuple[float, float, float]
    column_direction: tuple[float, float, float]
    spacing_mm: tuple[float, float]  # between rows, between columns
    thickness_mm: float


@dataclass(frozen=True, slots=True)
class Technique:
    """What the scanner says of an acquisition."""

    kernel: str
    image_type: tuple[str, ...] = ("ORIGINAL", "PRIMARY", "AXIAL")
    kvp: int = 120
    current_ma: int = 260
    tilt_deg: float = 0.0
    body_part: str = "HEAD"
    protocol: str = "Head routine"
    window: tuple[int, int] = (40, 80)


def number(value: float) -> str:
    """Return a decimal string of at most 16 characters (PS3.5 6.2, DS)."""
    return f"{value + 0.0:.6f}".rstrip("0").rstrip(".")[:16]


def stored_pixels(
    hu: npt.NDArray[np.int16], style: PixelStyle
) -> npt.NDArray[np.int16] | npt.NDArray[np.uint16]:
    """Return one image's stored values from Hounsfield units, padded outside the circle."""
    values = hu.astype(np.int32) - style.intercept_hu
    low, high = (-32768, 32767) if style.signed else (0, 4095)
    values = np.clip(values, low, high)
    if style.padding is not None:
        n, m = hu.shape
        y, x = np.ogrid[:n, :m]
        outside = np.hypot((y + 0.5 - n / 2) / n, (x + 0.5 - m / 2) / m) > 0.5
        values[outside] = style.padding
    return values.astype("<i2" if style.signed else "<u2")


def ct_image(
    identity: Identity,
    hu: npt.NDArray[np.int16],
    plane: Plane,
    technique: Technique,
    style: PixelStyle,
    *,
    series_number: int,
    instance_number: int,
    description: str,
) -> Dataset:
    """Return one CT image (PS3.3 A.3)."""
    ds = new_object(
        identity,
        CTImageStorage,
        series_number=series_number,
        instance_number=instance_number,
        description=description,
    )
    ds.ImageType = list(technique.image_type)
    ds.AcquisitionNumber = 1
    ds.AcquisitionDate, ds.AcquisitionTime = identity.study_date, identity.study_time
    _acquisition(ds, technique)
    _geometry(ds, identity, plane)
    _pixels(ds, hu, style, technique)
    return ds


def _acquisition(ds: Dataset, technique: Technique) -> None:
    ds.PatientPosition = "HFS"
    ds.BodyPartExamined = technique.body_part
    ds.ProtocolName = technique.protocol
    ds.KVP = technique.kvp
    ds.XRayTubeCurrent = technique.current_ma
    ds.ExposureTime = 1000
    ds.GantryDetectorTilt = number(technique.tilt_deg)
    ds.ConvolutionKernel = technique.kernel
    ds.RotationDirection = "CW"
    ds.FilterType = "HEAD"


def _geometry(ds: Dataset, identity: Identity, plane: Plane) -> None:
    ds.FrameOfReferenceUID = identity.frame_of_reference_uid()
    ds.PositionReferenceIndicator = ""
    ds.ImagePositionPatient = [number(v) for v in plane.position_mm]
    ds.ImageOrientationPatient = [
        number(v) for v in (*plane.row_direction, *plane.column_direction)
    ]
    ds.PixelSpacing = [number(v) for v in plane.spacing_mm]
    ds.SliceThickness = number(plane.thickness_mm)
    ds.SliceLocation = number(plane.position_mm[2])


def _pixels(
    ds: Dataset, hu: npt.NDArray[np.int16], style: PixelStyle, technique: Technique
) -> None:
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.Rows, ds.Columns = hu.shape
    ds.BitsAllocated = 16
    ds.BitsStored = 16 if style.signed else 12
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(style.signed)
    ds.RescaleIntercept, ds.RescaleSlope = str(style.intercept_hu), "1"
    ds.RescaleType = "US" if "LOCALIZER" in technique.image_type else "HU"  # a scout is no CT map
    ds.WindowCenter, ds.WindowWidth = (str(v) for v in technique.window)
    if style.padding is not None:
        ds.add_new(0x00280120, "SS" if style.signed else "US", style.padding)
    ds.add_new(0x7FE00010, "OW", stored_pixels(hu, style).tobytes())
    ds.ReconstructionDiameter = number(float(ds.PixelSpacing[1]) * hu.shape[1])
