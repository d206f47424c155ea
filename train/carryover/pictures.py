"""From one file to the images in it, in whole Hounsfield units and as an axial image is read.

DICOM goes the way of the node. A PNG picture states neither Hounsfield units, nor spacing, nor how
the head lies: those are assumed, see `Picturing`, and what its window cut off is put back as far as
it goes, see `train.data.unclipping`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ichnode.imaging.geometry import canonical, plane_of
from train.data.reading import ReadSlice, read_files
from train.data.unclipping import grey_to_hu
from train.errors import TrainingError, Unusable

FIELD_MM = 250.0
"""Field of view of a usual head CT: 512 pixels of 0.49 mm."""
STEP_MM = 5.0
"""From slice to slice of a series of PNG pictures, where nothing else is said."""
SMALLEST_PX = 32
_LARGEST_PX = 4096
_EQUAL = 2  # greys: colours that differ by less are grey saved as colour
_SIXTEEN_BITS = ("I", "I;16", "I;16B", "I;16L", "I;16N")

Hu = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Picturing:
    """What is assumed of PNG pictures.

    Attributes
    ----------
    hu_range : tuple of float
        What the lowest and the highest grey stand for.
    rotate_degrees : int
        Counter-clockwise, until the face looks up and the patient's right is on the left.
    pixel_mm : float, optional
        By default a field of view of 250 mm. The crop follows the head, so that this matters only
        for slices in which the head is small, and for how much brain a slice is said to hold.
    step_mm : float
        Between the slices of a series.
    """

    hu_range: tuple[float, float] = (0.0, 80.0)
    rotate_degrees: int = 0
    pixel_mm: float | None = None
    step_mm: float = STEP_MM

    def __post_init__(self) -> None:
        low, high = self.hu_range
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise TrainingError("--hu-range is a lower and a higher number of Hounsfield units.")
        if self.rotate_degrees % 90:
            raise TrainingError("--rotate is 0, 90, 180 or 270 degrees.")
        if not all(mm > 0 for mm in (self.step_mm, self.pixel_mm or 1.0)):
            raise TrainingError("Millimetres are positive.")


@dataclass(frozen=True, slots=True)
class AxialImage:
    """One image.

    Attributes
    ----------
    name : str
        "" for the only image of a file, "#2" for the second frame.
    hu : ndarray, int16, (y, x)
    pixel_mm : tuple of float
        Between rows (y) and between columns (x).
    """

    name: str
    hu: Hu = field(repr=False)
    pixel_mm: tuple[float, float]


def is_png(path: Path) -> bool:
    """Say by its name whether a file is a PNG picture."""
    return path.suffix.lower() == ".png"


def read_images(path: Path, assumed: Picturing) -> Iterator[AxialImage | Unusable]:
    """Yield the images of a PNG or DICOM file, or why one of them is of no use.

    Raises
    ------
    Unusable
        When the file as a whole is of no use.
    """
    if is_png(path):
        yield read_png(path, assumed)
        return
    try:
        reading = read_files([path])
    except TrainingError:
        raise Unusable("the file cannot be read") from None
    for number, one in enumerate(reading.slices, 1):
        name = f"#{number}" if len(reading.slices) > 1 else ""
        try:
            yield _axial(name, one, assumed)
        except Unusable as reason:
            yield reason
    for out in reading.left_out:
        yield Unusable(out.reason, out.detail)


def _axial(name: str, one: ReadSlice, assumed: Picturing) -> AxialImage:
    plane = plane_of(one.orientation) if one.orientation else None
    rows_mm, columns_mm = one.spacing_mm or (assumed_pixel_mm(one.hu, assumed),) * 2
    if plane is None:  # as with a picture: as it is stored is how it is read
        return AxialImage(name, one.hu, (rows_mm, columns_mm))
    if not plane.is_axial:
        raise Unusable("not axial")
    if plane.transpose:
        rows_mm, columns_mm = columns_mm, rows_mm
    hu = np.ascontiguousarray(canonical(one.hu, plane))
    return AxialImage(name, hu, (rows_mm, columns_mm))


def read_png(path: Path, assumed: Picturing) -> AxialImage:
    """Read a picture in grey.

    Raises
    ------
    Unusable
        When it cannot be read, is not grey, too small or too large.
    """
    grey, largest = _grey(path)
    if min(grey.shape) < SMALLEST_PX or max(grey.shape) > _LARGEST_PX:
        rows, columns = grey.shape
        raise Unusable("odd size", f"{columns} x {rows} pixels")
    turned = np.ascontiguousarray(np.rot90(grey, assumed.rotate_degrees // 90))
    hu = grey_to_hu(turned, assumed.hu_range, largest=largest)
    return AxialImage("", hu, (assumed_pixel_mm(hu, assumed),) * 2)


def assumed_pixel_mm(hu: Hu, assumed: Picturing) -> float:
    """Return the pixel size of an image (y, x) that states none."""
    return assumed.pixel_mm or FIELD_MM / max(hu.shape)


def _grey(path: Path) -> tuple[npt.NDArray[np.integer], float]:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if getattr(picture, "n_frames", 1) > 1:
                raise Unusable("more than one picture in the file")
            if picture.mode in _SIXTEEN_BITS:
                return np.asarray(picture).astype(np.int32), 65535.0
            if picture.mode == "L":
                return np.asarray(picture).copy(), 255.0
            colour = np.asarray(picture.convert("RGBA")).astype(np.int16)
    except UnidentifiedImageError:
        raise Unusable("undecodable", "no PNG picture") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unusable("undecodable", type(error).__name__) from None
    if np.ptp(colour[:, :, :3], axis=2).max() > _EQUAL:
        raise Unusable("not grey", "the colours differ")
    if colour[:, :, 3].min() < 255:
        raise Unusable("not grey", "parts are transparent")
    return colour[:, :, 1], 255.0
