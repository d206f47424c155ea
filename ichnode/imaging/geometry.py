"""Where slices lie: normals, order, steps, holes, tilt, and how an axial image is displayed.

Pure functions over Image Position and Image Orientation (Patient). The patient axes are those of
DICOM (PS3.3 C.7.6.2.1.1): x to the patient's left, y to the back, z to the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

MOST_TILTED_DEG = 35.0
"""A gantry tilts up to 30 degrees, and a head does not lie straight; a coronal slice is at 90."""

HOLE = 1.5
"""A step this many times as long as its neighbourhood's leaves a slice out."""

_UNIT_TOLERANCE = 0.02
_SAME_STEP = 0.15  # relative: steps this alike belong to one regime
_REGIME = 3  # so many like steps in a row are how this part was meant to be scanned
_JITTER_MM = 0.1

Vector = npt.NDArray[np.float64]
AnyT = TypeVar("AnyT", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Plane:
    """How the slices of a stack stand, and what turns them into the canonical display.

    Canonical is as an axial image is read: row 0 anterior, column 0 at the patient's right. First
    the axes are swapped where `transpose`, then rows and columns are reversed where told.
    """

    normal: tuple[float, float, float]  # unit, towards the head
    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def is_axial(self) -> bool:
        """Whether the slices are near enough to axial to be read as such."""
        return self.normal[2] >= math.cos(math.radians(MOST_TILTED_DEG))


def plane_of(orientation: Sequence[float]) -> Plane | None:
    """Return the plane of an Image Orientation (Patient); None where it is not a plane.

    Parameters
    ----------
    orientation : sequence of 6 floats
        Direction cosines of the rows (along which the column index grows), then of the columns.
    """
    along_row, along_column = orientation[:3], orientation[3:6]
    for cosines in (along_row, along_column):
        if abs(math.hypot(*cosines) - 1) > _UNIT_TOLERANCE:
            return None
    if (
        abs(math.fsum(a * b for a, b in zip(along_row, along_column, strict=True)))
        > _UNIT_TOLERANCE
    ):
        return None
    (a, b, c), (d, e, f) = along_row, along_column
    across = (b * f - c * e, c * d - a * f, a * e - b * d)
    length = math.copysign(math.hypot(*across), across[2])
    transpose = abs(along_row[0]) < abs(along_column[0])
    to_left, to_back = (along_column, along_row) if transpose else (along_row, along_column)
    return Plane(
        normal=(across[0] / length, across[1] / length, across[2] / length),
        transpose=transpose,
        flip_rows=to_back[1] < 0,
        flip_columns=to_left[0] < 0,
    )


def canonical(image: npt.NDArray[np.int16], plane: Plane) -> npt.NDArray[np.int16]:
    """Turn an image (y, x) into the canonical display; a view, never a resampling."""
    turned = image.T if plane.transpose else image
    return turned[:: -1 if plane.flip_rows else 1, :: -1 if plane.flip_columns else 1]


def as_stored(shown: npt.NDArray[AnyT], plane: Plane) -> npt.NDArray[AnyT]:
    """Turn the canonical display (y, x) back into the image as it is stored; a view."""
    turned = shown[:: -1 if plane.flip_rows else 1, :: -1 if plane.flip_columns else 1]
    return turned.T if plane.transpose else turned


def along_normal(positions_mm: Sequence[Sequence[float]], plane: Plane) -> Vector:
    """Return how far along the normal each Image Position lies, in mm, growing to the head."""
    projected = np.asarray(positions_mm, dtype=np.float64).reshape(-1, 3) @ np.array(plane.normal)
    return np.asarray(projected, dtype=np.float64)


def tilt_deg(positions_mm: Sequence[Sequence[float]], plane: Plane) -> float:
    """Return the angle between the normal and the way the table went, in degrees.

    Measured from the first and last position, not taken from Gantry/Detector Tilt (0018,1120),
    which is nominal, has no agreed sign and survives resampling.
    """
    placed = np.asarray(positions_mm, dtype=np.float64).reshape(-1, 3)
    order = np.argsort(along_normal(positions_mm, plane))
    way = placed[order[-1]] - placed[order[0]]
    length = float(np.linalg.norm(way))
    if length == 0:
        return 0.0
    cosine = abs(float(way @ np.array(plane.normal))) / length
    return math.degrees(math.acos(min(1.0, cosine)))


def holes(positions_mm: Sequence[float] | Vector, thickness_mm: float | None = None) -> list[int]:
    """Return after which slices something is missing.

    Unequal spacing is legitimate: sequential scanners take thin slices through the skull base and
    thick ones above. So a step is compared with the regimes beside it, a regime being three or more
    like steps in a row, and not with one median. Where no step repeats, the median serves.

    Parameters
    ----------
    positions_mm : sequence of float
        Positions along the normal, in mm, in any order.
    thickness_mm : float or None
        With the nominal thickness, a step of more than 1.5 thicknesses is a hole even where such
        steps repeat: every other slice may be still to come.

    Returns
    -------
    list of int
        Indices into the sorted positions: the hole is between this slice and the next.
    """
    steps = np.diff(np.sort(np.asarray(positions_mm, dtype=np.float64)))
    if len(steps) == 0:
        return []
    limits = _limits(steps)
    if thickness_mm is not None:
        limits = np.minimum(limits, HOLE * thickness_mm)
    # Rounded to a nanometre, so that a tie does not depend on where the origin lies.
    beyond = np.round(steps, 6) >= np.round(limits + _JITTER_MM, 6)
    return [int(index) for index in np.flatnonzero(beyond)]


def _limits(steps: Vector) -> Vector:
    """Return the longest step that is no hole, for each step."""
    regimes = _regimes(steps)
    if not regimes:
        return np.full(len(steps), HOLE * float(np.median(steps)))
    limits = np.empty(len(steps))
    for index in range(len(steps)):
        inside = [mean for start, stop, mean in regimes if start <= index < stop]
        below = [mean for _, stop, mean in regimes if stop <= index][-1:]
        above = [mean for start, _, mean in regimes if start > index][:1]
        limits[index] = HOLE * max(inside or below + above)
    return limits


def _regimes(steps: Vector) -> list[tuple[int, int, float]]:
    """Return (start, stop, mean step) of every run of three or more like steps."""
    found, start = [], 0
    for index in range(1, len(steps) + 1):
        if index < len(steps) and _alike(steps[start], steps[index]):
            continue
        if index - start >= _REGIME:
            found.append((start, index, float(steps[start:index].mean())))
        start = index
    return found


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= max(_SAME_STEP * max(one, other), 2 * _JITTER_MM)


def is_plausible(positions_mm: Sequence[float] | Vector, thickness_mm: float | None = None) -> bool:
    """Say whether slices at these positions form one stack without a hole.

    True lets a series be looked at before it is complete; False only makes it wait. The order of
    the positions does not matter. Two slices at one place are no stack.
    """
    placed = np.sort(np.asarray(positions_mm, dtype=np.float64))
    if len(placed) < 2 or not np.isfinite(placed).all():
        return False
    if float(np.diff(placed).min()) < _JITTER_MM:
        return False
    return not holes(placed, thickness_mm)
