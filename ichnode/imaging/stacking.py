"""Choose the one stack of slices that a series is read as, from geometry alone.

A series as sent is a bag: other orientations, other fields of view, repeated and interleaved
acquisitions, time points. One consistent stack is taken out of it or the series is refused; slices
of two acquisitions are never interleaved, because the patient may have moved between them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Header
from ichnode.imaging.geometry import Plane, Vector, along_normal, plane_of

SAME_PLACE_MM = 0.1
_SAME_COSINE = 0.01  # 0.6 degrees
_SAME_SPACING = 0.01  # relative
_TIME_POINTS = 3  # so many images of one place are a perfusion scan
_STACK_FROM = 8  # so many slices may be a stack of their own
_WHOLE = 0.9  # of the extent, that a stack taken out of a bag has to cover
_MOST_PASSES = 3
_LACKING_AT_MOST = 0.1


@dataclass(frozen=True, slots=True)
class Slice:
    """One image to be stacked: a single-frame instance, or one frame of a multi-frame one."""

    header: Header
    path: Path
    frame: int  # from 0
    position_mm: tuple[float, float, float] | None
    orientation: tuple[float, ...] | None
    pixel_spacing_mm: tuple[float, float] | None
    thickness_mm: float | None
    acquisition: int | None

    @property
    def uid(self) -> str:
        """SOP Instance UID, with ``#frame`` (from 1) for a multi-frame object."""
        if self.header.frames == 1:
            return self.header.sop_uid
        return f"{self.header.sop_uid}#{self.frame + 1}"


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of one geometry, from the feet upwards, no two at one place."""

    slices: tuple[Slice, ...]
    plane: Plane
    along_mm: Vector  # (z,), positions along the normal
    warnings: tuple[str, ...]
    unplaced: int = 0  # slices that were sent with them and say of no place where they lie


@dataclass(frozen=True, slots=True)
class _Placed:
    """A slice and where it lies on the common normal."""

    slice: Slice
    mm: float


def choose_stack(slices: Sequence[Slice]) -> Stack:
    """Return the stack to be read.

    Raises
    ------
    NotAnalysable
        NO_GEOMETRY, NOT_AXIAL, MIXED_GEOMETRY or PERFUSION.
    """
    warnings: list[str] = []
    placeable = _placeable(slices, warnings)
    axial = _axial(placeable, warnings)
    groups = _by_geometry(axial)
    chosen = max(groups, key=len)
    plane = chosen[0][1]
    placed = _place([held for held, _ in chosen], plane)
    others = [held for group in groups if group is not chosen for held, _ in group]
    if others:
        _check_strays(placed, _place(others, plane))
        warnings.append(f"{len(others)} slices of another geometry left out")
    single = _one_acquisition(placed)
    if len(single) < len(placed):
        warnings.append(f"{len(placed) - len(single)} repeated slices left out")
    return Stack(
        tuple(item.slice for item in single),
        plane,
        np.array([item.mm for item in single]),
        tuple(warnings),
        unplaced=len(slices) - len(placeable),
    )


def _placeable(slices: Sequence[Slice], warnings: list[str]) -> list[tuple[Slice, Plane]]:
    """Return the slices that have a geometry, with their planes."""
    planes = [
        (held, plane_of(held.orientation))
        for held in slices
        if held.orientation and held.position_mm and held.pixel_spacing_mm
    ]
    known = [(held, plane) for held, plane in planes if plane is not None]
    lacking = len(slices) - len(known)
    if not known or lacking > _LACKING_AT_MOST * len(slices):
        raise NotAnalysable(Reason.NO_GEOMETRY, f"{lacking} of {len(slices)} slices")
    if lacking:
        warnings.append(f"{lacking} slices without geometry left out")
    return known


def _axial(known: Sequence[tuple[Slice, Plane]], warnings: list[str]) -> list[tuple[Slice, Plane]]:
    """Return the slices that are axial; in one order, however they came."""
    axial = [(held, plane) for held, plane in known if plane.is_axial]
    if not axial:
        raise NotAnalysable(Reason.NOT_AXIAL)
    if len(axial) < len(known):
        warnings.append(f"{len(known) - len(axial)} slices that are not axial left out")
    return sorted(axial, key=lambda pair: (pair[0].header.sop_uid, pair[0].frame))


def _by_geometry(slices: Sequence[tuple[Slice, Plane]]) -> list[list[tuple[Slice, Plane]]]:
    """Group slices of one matrix, spacing and orientation."""
    groups: list[list[tuple[Slice, Plane]]] = []
    for held, plane in slices:
        for group in groups:
            if _same_geometry(group[0][0], held):
                group.append((held, plane))
                break
        else:
            groups.append([(held, plane)])
    return groups


def _same_geometry(one: Slice, other: Slice) -> bool:
    if (one.header.rows, one.header.columns) != (other.header.rows, other.header.columns):
        return False
    cosines = zip(one.orientation or (), other.orientation or (), strict=True)
    spacings = zip(one.pixel_spacing_mm or (), other.pixel_spacing_mm or (), strict=True)
    return all(abs(a - b) < _SAME_COSINE for a, b in cosines) and all(
        abs(a / b - 1) < _SAME_SPACING for a, b in spacings
    )


def _place(slices: Sequence[Slice], plane: Plane) -> list[_Placed]:
    """Sort slices along the normal; ties by UID, so that the order of arrival does not matter."""
    along = along_normal([held.position_mm or (0.0, 0.0, 0.0) for held in slices], plane)
    placed = [_Placed(held, float(mm)) for held, mm in zip(slices, along, strict=True)]
    return sorted(placed, key=lambda item: (item.mm, item.slice.header.sop_uid, item.slice.frame))


def _check_strays(chosen: Sequence[_Placed], others: Sequence[_Placed]) -> None:
    """Refuse where the slices left out show what the chosen ones do not."""
    step = _median_step(chosen)
    lowest, highest = chosen[0].mm - step, chosen[-1].mm + step
    outside = [item for item in others if not lowest < item.mm < highest]
    if outside:
        raise NotAnalysable(
            Reason.MIXED_GEOMETRY,
            f"{len(chosen)} slices of one geometry, {len(outside)} beyond them of another",
        )


def _median_step(placed: Sequence[_Placed]) -> float:
    steps = [b.mm - a.mm for a, b in pairwise(placed)]
    apart = [step for step in steps if step > SAME_PLACE_MM]
    return float(np.median(apart)) if apart else SAME_PLACE_MM


def _one_acquisition(placed: Sequence[_Placed]) -> list[_Placed]:
    """Return slices of one acquisition, at most one at each place."""
    if not (_repeats(placed) or _interleaved(placed)):
        return list(placed)
    many_times = _times_seen(placed) >= _TIME_POINTS
    splits = (_by_reconstruction, *(() if many_times else (_by_acquisition, _by_pass)))
    for split in splits:
        groups = split(placed)
        if len(groups) > 1 and not any(_repeats(group) for group in groups):
            joined = _joined(groups)
            if _extent(joined) >= _WHOLE * _extent(placed):
                return joined
    if many_times:
        raise NotAnalysable(Reason.PERFUSION, f"{len(placed)} slices")
    raise NotAnalysable(Reason.MIXED_GEOMETRY, "repeated slices that cannot be told apart")


def _places(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    """Group sorted slices that lie at one place."""
    places: list[list[_Placed]] = []
    for item in placed:
        if places and item.mm - places[-1][0].mm < SAME_PLACE_MM:
            places[-1].append(item)
        else:
            places.append([item])
    return places


def _repeats(placed: Sequence[_Placed]) -> bool:
    return len(_places(placed)) < len(placed)


def _times_seen(placed: Sequence[_Placed]) -> float:
    return float(np.median([len(place) for place in _places(placed)]))


def _interleaved(placed: Sequence[_Placed]) -> bool:
    """Say whether two acquisitions or reconstructions overlap without sharing a place."""
    step = _median_step(placed)
    for split in (_by_reconstruction, _by_acquisition):
        stacks = sorted(
            (group for group in split(placed) if len(group) >= _STACK_FROM),
            key=lambda group: group[0].mm,
        )
        for lower, upper in pairwise(stacks):
            if min(lower[-1].mm, upper[-1].mm) - upper[0].mm > 2 * step:
                return True
    return False


def _split(placed: Sequence[_Placed], key: Callable[[Slice], Hashable]) -> list[list[_Placed]]:
    groups: dict[Hashable, list[_Placed]] = defaultdict(list)
    for item in placed:
        groups[key(item.slice)].append(item)
    return list(groups.values())


def _by_reconstruction(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    return _split(placed, lambda s: (s.header.kernel, s.header.image_type[:3], s.thickness_mm))


def _by_acquisition(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    return _split(placed, lambda s: s.acquisition)


def _by_pass(placed: Sequence[_Placed]) -> list[list[_Placed]]:
    """Split by the order of scanning: a pass ends where a place comes round again."""
    place_of = {id(item): number for number, place in enumerate(_places(placed)) for item in place}
    passes: list[dict[int, _Placed]] = [{}]
    for item in sorted(placed, key=lambda item: _recency(item.slice)):
        if place_of[id(item)] in passes[-1]:
            passes.append({})
        passes[-1][place_of[id(item)]] = item
    return [sorted(group.values(), key=lambda item: item.mm) for group in passes]


def _recency(held: Slice) -> tuple[int, int, str, int]:
    """Sort key of a slice by when it was taken, as far as numbers tell."""
    return (
        held.acquisition if held.acquisition is not None else -1,
        held.header.instance_number if held.header.instance_number is not None else -1,
        held.header.sop_uid,
        held.frame,
    )


def _joined(groups: Sequence[list[_Placed]]) -> list[_Placed]:
    """Return the longest group, the latest among equals, continued where it ends by others.

    A scan that was taken in two goes shares a slice or two at the seam; each place outside the
    longest group may so be filled by one of at most two others, none shorter than three slices.
    """
    ranked = sorted(groups, key=_merit, reverse=True)
    joined = list(ranked[0])
    step = _median_step(joined)
    for group in [g for g in ranked[1:] if len(g) >= _TIME_POINTS][: _MOST_PASSES - 1]:
        below = [item for item in group if item.mm < joined[0].mm - step / 2]
        above = [item for item in group if item.mm > joined[-1].mm + step / 2]
        joined = below + joined + above
    return joined


def _merit(group: Sequence[_Placed]) -> tuple[int, int, tuple[int, int, str, int]]:
    latest = max(_recency(item.slice) for item in group)
    return (round(_extent(group)), len(group), latest)


def _extent(placed: Sequence[_Placed]) -> float:
    return max(item.mm for item in placed) - min(item.mm for item in placed)
