"""Volumes in NIfTI: turned to the canonical display by their affine, with masks turned alike.

The coordinates of NIfTI grow to the right, to the front and to the head, those of DICOM to the left
and to the back. A file that states no orientation is refused: nothing says which way up the head
is, and a network that learnt from heads upside down would not be told by its losses.

References
----------
NIfTI-1 data format, section "Orientation and location in space"; nibabel.orientations.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    io_orientation,
    ornt_transform,
)

from ichnode.imaging.geometry import MOST_TILTED_DEG
from ichnode.imaging.hounsfield import AIR_HU, HIGHEST_HU
from train.errors import TrainingError, Unusable

_CANONICAL = axcodes2ornt(("L", "P", "S"))  # columns to the left, rows to the back, slices upwards
_SLICE_AXIS = 2
_AIR_BELOW_HU = -500  # every head CT shows air and bone
_BONE_ABOVE_HU = 300


@dataclass(frozen=True, slots=True, eq=False)
class NiftiVolume:
    """A volume from a NIfTI file.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
        Hounsfield units, from the feet to the head; row 0 anterior, column 0 the patient's right.
    spacing_mm : tuple of float
        (z, y, x); z along the slice normal.
    positions_mm : ndarray, float64, (z,)
        Along the slice normal, ascending from 0.
    file_slices : ndarray, int64, (z,)
        The index of each slice along the last axis of the file, from 0.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    positions_mm: npt.NDArray[np.float64] = field(repr=False)
    file_slices: npt.NDArray[np.int64] = field(repr=False)
    turn: npt.NDArray[np.float64] = field(repr=False)

    def mask(self, path: Path) -> npt.NDArray[np.int64]:
        """Read a mask that was drawn on the same file, slice by slice and pixel by pixel.

        Its own orientation is not asked: tools that draw masks often write none.

        Returns
        -------
        ndarray, int64, (z, y, x)

        Raises
        ------
        Unusable
            When it has another shape or cannot be read.
        """
        drawn = _turned(_values(_opened(path)), self.turn)
        if drawn.shape != self.hu.shape:
            raise Unusable("mask does not fit", f"{drawn.shape} on {self.hu.shape}")
        whole: npt.NDArray[np.int64] = np.rint(np.nan_to_num(drawn)).astype(np.int64)
        return whole


def read_nifti(path: Path) -> NiftiVolume:
    """Read a head CT in Hounsfield units.

    Raises
    ------
    Unusable
        When the file is damaged, states no orientation, is not axial, or its values are no
        Hounsfield units.
    """
    image = _opened(path)
    if not (int(image.header["qform_code"]) or int(image.header["sform_code"])):
        raise Unusable("no geometry", "neither qform nor sform")
    turn = ornt_transform(io_orientation(image.affine), _CANONICAL)
    across_mm, down_mm, along_mm = _spacing_mm(image.affine, turn)
    hu = _hounsfield(_turned(_values(image), turn))
    slices = np.arange(len(hu))
    return NiftiVolume(
        hu=hu,
        spacing_mm=(along_mm, down_mm, across_mm),
        positions_mm=along_mm * slices.astype(np.float64),
        file_slices=slices if turn[_SLICE_AXIS, 1] > 0 else slices[::-1],
        turn=turn,
    )


def _opened(path: Path) -> Any:
    try:
        return nibabel.load(path)
    except PermissionError as error:
        raise TrainingError(f"A file in {path.parent} cannot be read.") from error
    except (ImageFileError, OSError, ValueError, EOFError, zlib.error) as error:
        raise Unusable("undecodable", type(error).__name__) from error


def _values(image: Any) -> npt.NDArray[Any]:
    """Return the values (file's own axes) of a volume."""
    try:
        values: npt.NDArray[Any] = np.asarray(image.dataobj)
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise Unusable("undecodable", type(error).__name__) from error
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 3 or values.size == 0:
        raise Unusable("no volume", f"{values.ndim} axes")
    return values


def _spacing_mm(
    affine: npt.NDArray[np.float64], turn: npt.NDArray[np.float64]
) -> tuple[float, float, float]:
    """Return the spacing (x, y, z) once turned; z along the normal, which a tilt makes less.

    Raises
    ------
    Unusable
        When the last axis of the file does not run along the body.
    """
    columns = affine[:3, :3]
    normal = np.cross(columns[:, 0], columns[:, 1])
    length = float(np.linalg.norm(normal))
    if turn[_SLICE_AXIS, 0] != _SLICE_AXIS or not math.isfinite(length) or length == 0:
        raise Unusable("not axial", "the last axis does not run along the body")
    normal = normal / length
    if abs(float(normal[2])) < math.cos(math.radians(MOST_TILTED_DEG)):
        raise Unusable("not axial", f"normal {normal[2]:.2f} along the body")
    sizes = np.empty(3)
    sizes[turn[:, 0].astype(int)] = np.linalg.norm(columns, axis=0)
    along = abs(float(columns[:, 2] @ normal))
    if not (np.isfinite(sizes).all() and sizes.min() > 0 and along > 0):
        raise Unusable("no geometry", "voxels without a size")
    return float(sizes[0]), float(sizes[1]), along


def _turned(values: npt.NDArray[Any], turn: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """Return values of the file's axes as (z, y, x) in the canonical display."""
    return np.asarray(apply_orientation(values, turn)).transpose(2, 1, 0)


def _hounsfield(values: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    filled = np.nan_to_num(values.astype(np.float32), nan=AIR_HU, posinf=HIGHEST_HU, neginf=AIR_HU)
    low, high = float(filled.min()), float(filled.max())
    if low > _AIR_BELOW_HU or high < _BONE_ABOVE_HU:
        raise Unusable("not hounsfield", f"values from {low:.0f} to {high:.0f}")
    return np.clip(np.rint(filled), AIR_HU, HIGHEST_HU).astype(np.int16)
