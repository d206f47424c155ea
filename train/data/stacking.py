"""Put slices in order: from the feet to the head, as an axial image is read.

The node's own choice of a stack comes first (`ichnode.imaging.stacking`). Where that refuses a
mixture, training takes the most of it that fits together and says what was left out: labels of
slices are right wherever the slice lies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.geometry import Plane, along_normal, canonical, plane_of
from ichnode.imaging.stacking import SAME_PLACE_MM, choose_stack
from train.data.images import ReadSlice
from train.errors import Unusable

UNKNOWN_STEP_MM = 5.0  # of a single slice that does not state its thickness


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """Slices in order.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
        Hounsfield units, from the feet to the head; row 0 anterior, column 0 the patient's right.
    spacing_mm : tuple of float
        (z, y, x); z is the median step.
    positions_mm : ndarray, float64, (z,)
        Along the slice normal, ascending.
    order : tuple of int
        Which of the given slices each one is; those that are not named were left out.
    warnings : tuple of str
        Such as "2 repeated slices left out"; without patient data.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    positions_mm: npt.NDArray[np.float64] = field(repr=False)
    order: tuple[int, ...] = field(repr=False)
    warnings: tuple[str, ...] = ()


def stack(slices: Sequence[ReadSlice]) -> Stacked:
    """Order slices by where they lie, and turn them to the canonical display.

    Raises
    ------
    Unusable
        When none is left, they state no geometry, are not axial, or show the same places over and
        over (a perfusion scan).
    """
    if not slices:
        raise Unusable("no usable slice")
    try:
        order, plane, warnings = _as_a_node(slices)
    except NotAnalysable as refusal:
        if refusal.reason is not Reason.MIXED_GEOMETRY:
            raise Unusable(refusal.reason.code.replace("_", " "), refusal.detail) from refusal
        order, plane, warnings = _most_that_fits(slices)
    placed = [slices[index] for index in order]
    positions_mm = along_normal([one.position_mm or (0.0, 0.0, 0.0) for one in placed], plane)
    rows_mm, columns_mm = placed[0].spacing_mm or (1.0, 1.0)
    if plane.transpose:
        rows_mm, columns_mm = columns_mm, rows_mm
    return Stacked(
        hu=np.stack([canonical(one.hu, plane) for one in placed]),
        spacing_mm=(_step_mm(placed, positions_mm), rows_mm, columns_mm),
        positions_mm=positions_mm,
        order=order,
        warnings=warnings,
    )


def _as_a_node(slices: Sequence[ReadSlice]) -> tuple[tuple[int, ...], Plane, tuple[str, ...]]:
    number_of = {id(one.place): index for index, one in enumerate(slices)}
    chosen = choose_stack([one.place for one in slices])
    return tuple(number_of[id(one)] for one in chosen.slices), chosen.plane, chosen.warnings


def _most_that_fits(slices: Sequence[ReadSlice]) -> tuple[tuple[int, ...], Plane, tuple[str, ...]]:
    """Return the largest group of one geometry, the latest slice at each place."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    planes: dict[tuple[object, ...], Plane] = {}
    for index, one in enumerate(slices):
        plane = plane_of(one.orientation) if one.orientation else None
        if plane is None or not plane.is_axial or not one.position_mm or not one.spacing_mm:
            continue
        kind = (one.hu.shape, _rounded(one.orientation or ()), _rounded(one.spacing_mm))
        groups[kind].append(index)
        planes.setdefault(kind, plane)
    most = max(groups, key=lambda kind: (len(groups[kind]), str(kind)))
    single = _one_at_each_place(slices, groups[most], planes[most])
    left_out = len(slices) - len(single)
    return single, planes[most], (f"{left_out} slices left out that do not fit the others",)


def _rounded(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(value, 2) for value in values)


def _one_at_each_place(
    slices: Sequence[ReadSlice], group: Sequence[int], plane: Plane
) -> tuple[int, ...]:
    along = along_normal([slices[index].position_mm or (0.0, 0.0, 0.0) for index in group], plane)
    latest: list[tuple[float, int]] = []
    for mm, index in sorted(
        zip(along.tolist(), group, strict=True), key=lambda pair: (pair[0], _age(slices[pair[1]]))
    ):
        if latest and mm - latest[-1][0] < SAME_PLACE_MM:
            if _age(slices[index]) > _age(slices[latest[-1][1]]):
                latest[-1] = (latest[-1][0], index)
        else:
            latest.append((mm, index))
    return tuple(index for _, index in latest)


def _age(one: ReadSlice) -> tuple[int, int, str]:
    """Sort key of a slice by when it was taken, as far as numbers tell."""
    acquisition, instance = one.place.acquisition, one.instance_number
    return (
        -1 if acquisition is None else acquisition,
        -1 if instance is None else instance,
        one.sop_uid,
    )


def _step_mm(placed: Sequence[ReadSlice], positions_mm: npt.NDArray[np.float64]) -> float:
    if len(placed) > 1:
        return float(np.median(np.diff(positions_mm)))
    return placed[0].place.thickness_mm or UNKNOWN_STEP_MM
