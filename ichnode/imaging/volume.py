"""The instances of one series as one volume in Hounsfield units, or the reason why not.

`read_series` is the only way from files to numbers, for the node and for training: tags first, then
geometry, then pixels, so that nothing is decoded that the tags alone refuse.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Header
from ichnode.imaging import header as headers_of
from ichnode.imaging.appearance import judge_pixels
from ichnode.imaging.decoding import decode, pixel_form, read_picture
from ichnode.imaging.elements import Part10
from ichnode.imaging.geometry import canonical, holes, is_plausible, tilt_deg
from ichnode.imaging.hounsfield import to_hounsfield
from ichnode.imaging.kernels import sharpness
from ichnode.imaging.selection import analysable
from ichnode.imaging.stacking import Slice, Stack, choose_stack
from ichnode.imaging.values import integer

LEAST_SLICES = 8
MOST_SLICES = 700
SPACING_MM = (0.4, 10.0)
MOST_MISSING = 0.25  # of the extent
MOST_UNREADABLE = 0.1  # of the slices
_SPACING_TOLERANCE_MM = 0.05
_SAME_GEOMETRY_MM = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class CtVolume:
    """A stack of axial slices in Hounsfield units, with where each lies and what it is.

    Attributes
    ----------
    hu : numpy.ndarray
        Shape (z, y, x), int16, HU. Slices run from the feet to the head; row 0 is anterior and
        column 0 the patient's right, as an axial image is read. Slices may be unequally spaced.
    spacing_mm : tuple of float
        (z, y, x); z is the median step along the slice normal.
    positions_mm : numpy.ndarray
        Shape (z,), float64, strictly growing: positions along the slice normal.
    slice_uids : tuple of str
        SOP Instance UID of each slice, ``uid#frame`` (from 1) for a frame of a multi-frame object.
    gaps : int
        Places where slices are missing.
    missing : float
        Share of the extent that is missing in the gaps, 0 to 1.
    unreadable : int
        Slices that are there and could not be decoded.
    unplaced : int
        Slices that are there and lack a place; at the ends of a head they leave no gap.
    tilt_deg : float
        Angle between the slice normal and the way of the table; the volume is not sheared upright.
    brain_mm, noise_hu : float
        Measured on reading, see `ichnode.imaging.appearance`; 0 and NaN where nothing measured it.
    warnings : tuple of str
        Such as "2 gaps"; without patient data.
    """

    hu: npt.NDArray[np.int16] = field(repr=False)
    spacing_mm: tuple[float, float, float]
    positions_mm: npt.NDArray[np.float64] = field(repr=False)
    slice_uids: tuple[str, ...] = field(repr=False)
    gaps: int = 0
    tilt_deg: float = 0.0
    warnings: tuple[str, ...] = ()
    brain_mm: float = 0.0
    noise_hu: float = float("nan")
    missing: float = 0.0
    unreadable: int = 0
    unplaced: int = 0

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.dtype != np.int16 or 0 in self.hu.shape:
            raise ValueError("hu must be a non-empty int16 array of shape (z, y, x)")
        slices = len(self.hu)
        if self.positions_mm.shape != (slices,) or len(self.slice_uids) != slices:
            raise ValueError("every slice needs a position and a UID")
        if slices > 1 and not (np.diff(self.positions_mm) > 0).all():
            raise ValueError("positions must grow from the feet to the head")
        if not all(np.isfinite(self.spacing_mm)) or min(self.spacing_mm) <= 0:
            raise ValueError("spacing must be positive")
        if len(set(self.slice_uids)) != slices:
            raise ValueError("a slice is there twice")

    @property
    def sop_uids(self) -> tuple[str, ...]:
        """SOP Instance UID of each slice, without frame numbers; of length z."""
        return tuple(uid.partition("#")[0] for uid in self.slice_uids)


def read_series(instances: Sequence[tuple[Header, Path]], *, complete: bool) -> CtVolume:
    """Read the instances of one series as a volume.

    Parameters
    ----------
    instances : sequence of (Header, Path)
        What has arrived of the series, in any order, with absolute paths of the Part 10 files.
    complete : bool
        True when the series is believed to be all there: gaps are then warnings unless they are
        hopeless. False while it may still grow: too few slices, a hole or too little brain refuse
        with ``may_change=True``.

    Raises
    ------
    NotAnalysable
        With the reason and figures; ``may_change`` where later slices could cure it.
    Transient
        When a file cannot be read just now.
    """
    _check_identity([header for header, _ in instances])
    kept = set(map(id, analysable([header for header, _ in instances])))
    single = _without_variants([(h, path) for h, path in instances if id(h) in kept])
    slices, pictures = _slices(single)
    whole = _settled(slices, complete)
    hu, stack = _decoded(whole, pictures)
    spacing_mm, gaps, missing = _check_steps(stack, complete)
    first = stack.slices[0]
    kernel = sharpness(first.header.kernel, first.header.manufacturer)
    seen = judge_pixels(hu, stack.along_mm, spacing_mm[1:], kernel, may_change=not complete)
    said = [f"{gaps} gaps"] if gaps else []
    dropped = len(instances) - len(kept)
    if dropped:
        said.append(f"{dropped} instances of another kind left out")
    placed = [held.position_mm for held in stack.slices if held.position_mm is not None]
    return CtVolume(
        hu=hu,
        spacing_mm=spacing_mm,
        positions_mm=stack.along_mm,
        slice_uids=tuple(held.uid for held in stack.slices),
        gaps=gaps,
        tilt_deg=tilt_deg(placed, stack.plane),
        warnings=(*said, *stack.warnings, *seen.warnings),
        brain_mm=seen.brain_mm,
        noise_hu=seen.noise_hu,
        missing=missing,
        unreadable=len(whole.slices) - len(stack.slices),
        unplaced=whole.unplaced,
    )


def _check_identity(headers: Sequence[Header]) -> None:
    """Refuse a set that mixes patients, studies or series.

    Archives add the Issuer of Patient ID: that it is stated here and not there is no mixture.
    """
    counts = [
        (len({h.patient_id for h in headers}), "patients"),
        (len({h.issuer_of_patient_id for h in headers} - {""}), "issuers of patient IDs"),
        (len({h.study_uid for h in headers}), "studies"),
        (len({h.series_uid for h in headers}), "series"),
    ]
    if mixed := [f"{count} {what}" for count, what in counts if count > 1]:
        raise NotAnalysable(Reason.IDENTITY, ", ".join(mixed))


def check_variants(
    known: Sequence[tuple[Header, Path]], further: Sequence[tuple[Header, Path]]
) -> None:
    """Check that what came under known SOP Instance UIDs are header variants and nothing new.

    Parameters
    ----------
    known, further : sequence of (Header, Path)
        What was read as a volume, and what came since; every SOP Instance UID of `further` is in
        `known`.

    Raises
    ------
    NotAnalysable
        IDENTITY when they name somebody else, CONFLICTING_PIXELS when they show something else.
    Transient
        When a file cannot be read just now.
    """
    _check_identity([header for header, _ in (*known, *further)])
    paths = {header.sop_uid: path for header, path in known}
    for header, path in further:
        if not same_picture(paths[header.sop_uid], path):
            raise NotAnalysable(Reason.CONFLICTING_PIXELS)


def _without_variants(instances: Sequence[tuple[Header, Path]]) -> list[tuple[Header, Path]]:
    """Return one file per SOP Instance UID; header variants of the same picture are one."""
    by_uid: dict[str, list[tuple[Header, Path]]] = defaultdict(list)
    for header, path in instances:
        by_uid[header.sop_uid].append((header, path))
    single = []
    for variants in by_uid.values():
        chosen, *others = sorted(variants, key=lambda pair: pair[1])
        if not all(same_picture(chosen[1], path) for _, path in others):
            raise NotAnalysable(Reason.CONFLICTING_PIXELS)
        single.append(chosen)
    return single


def same_picture(a: Path, b: Path) -> bool:
    """Say whether two files show the same picture at the same place, whatever their headers say.

    True means a header variant (an archive coerces headers and recompresses without loss): no
    alarm. False means other pixels, or that one of them cannot be read: a person must look.
    Compared are Hounsfield units, else stored values, and the geometry of every frame.
    """
    if a == b:
        return True
    try:
        one, other = read_picture(a), read_picture(b)
        if not _same_place(one, other):
            return False
        return np.array_equal(_values(one), _values(other))
    except NotAnalysable:
        return False


def _values(picture: Part10) -> npt.NDArray[np.generic]:
    stored = decode(picture)
    try:
        frames = [to_hounsfield(picture.dataset, image, frame=n) for n, image in enumerate(stored)]
    except NotAnalysable:
        return stored
    return np.stack(frames)


def _same_place(one: Part10, other: Part10) -> bool:
    """Compare frame counts and the geometry of every frame."""
    frames = pixel_form(one.dataset).frames
    if frames != pixel_form(other.dataset).frames:
        return False
    read = (headers_of.position_mm, headers_of.orientation, headers_of.pixel_spacing_mm)
    for frame in range(frames):
        for fact in read:
            mine, yours = fact(one.dataset, frame), fact(other.dataset, frame)
            if (mine is None) != (yours is None):
                return False
            if mine and yours and np.abs(np.subtract(mine, yours)).max() > _SAME_GEOMETRY_MM:
                return False
    return True


def _slices(
    instances: Sequence[tuple[Header, Path]],
) -> tuple[list[Slice], dict[Path, Part10]]:
    """Return every frame as a slice, and the files that had to be read for it."""
    slices: list[Slice] = []
    pictures: dict[Path, Part10] = {}
    for header, path in instances:
        if header.frames == 1:
            slices.append(
                Slice(
                    header,
                    path,
                    0,
                    header.position_mm,
                    header.orientation,
                    header.pixel_spacing_mm,
                    header.slice_thickness_mm,
                    header.acquisition_number,
                )
            )
        else:
            pictures[path] = read_picture(path)
            slices.extend(_frames(header, path, pictures[path]))
    return slices, pictures


def _frames(header: Header, path: Path, picture: Part10) -> list[Slice]:
    """Return the frames of a multi-frame object; the form bounds how many there can be."""
    dataset = picture.dataset
    return [
        Slice(
            header,
            path,
            frame,
            headers_of.position_mm(dataset, frame),
            headers_of.orientation(dataset, frame),
            headers_of.pixel_spacing_mm(dataset, frame),
            headers_of.slice_thickness_mm(dataset, frame),
            integer(headers_of.frame_content(dataset, frame), 0x00209156)
            or header.acquisition_number,
        )
        for frame in range(pixel_form(dataset).frames)
    ]


def _settled(slices: Sequence[Slice], complete: bool) -> Stack:
    """Return the stack to read, refusing what has too few or far too many slices."""
    try:
        stack = choose_stack(slices)
    except NotAnalysable as refusal:
        if refusal.reason is not Reason.MIXED_GEOMETRY or complete:
            raise
        raise NotAnalysable(refusal.reason, refusal.detail, may_change=True) from refusal
    count = len(stack.slices)
    if count < LEAST_SLICES:
        raise NotAnalysable(Reason.TOO_FEW_SLICES, f"{count} slices", may_change=not complete)
    if count > MOST_SLICES:
        raise NotAnalysable(Reason.TOO_MANY_SLICES, f"{count} slices")
    if not complete:
        _check_plausible(stack)
    return stack


def _check_plausible(stack: Stack) -> None:
    """While slices may still come, wait for those that are missing."""
    thicknesses = [held.thickness_mm for held in stack.slices]
    known = [thickness for thickness in thicknesses if thickness is not None]
    thickness_mm = max(known) if len(known) == len(thicknesses) else None
    if not is_plausible(stack.along_mm, thickness_mm):
        missing = len(holes(stack.along_mm, thickness_mm))
        raise NotAnalysable(Reason.PARTIAL_HEAD, f"{missing} holes", may_change=True)


def _decoded(stack: Stack, pictures: dict[Path, Part10]) -> tuple[npt.NDArray[np.int16], Stack]:
    """Decode the stack into one array, canonically displayed, without the few unreadable slices."""
    images: list[npt.NDArray[np.int16]] = []
    readable: list[int] = []
    stored: dict[Path, npt.NDArray[np.generic]] = {}
    for index, held in enumerate(stack.slices):
        try:
            hu = _image(held, pictures, stored)
        except NotAnalysable as refusal:
            if refusal.reason is not Reason.UNREADABLE:
                raise
            continue
        images.append(canonical(hu, stack.plane))
        readable.append(index)
    lost = len(stack.slices) - len(readable)
    if lost > MOST_UNREADABLE * len(stack.slices):
        raise NotAnalysable(Reason.UNREADABLE, f"{lost} of {len(stack.slices)} slices")
    if len({image.shape for image in images}) != 1:
        raise NotAnalysable(Reason.MIXED_GEOMETRY, "images of different size")
    if not lost:
        return np.stack(images), stack
    remaining = replace(
        stack,
        slices=tuple(stack.slices[index] for index in readable),
        along_mm=stack.along_mm[readable],
        warnings=(*stack.warnings, f"{lost} slices unreadable"),
    )
    return np.stack(images), remaining


def _image(
    held: Slice, pictures: dict[Path, Part10], stored: dict[Path, npt.NDArray[np.generic]]
) -> npt.NDArray[np.int16]:
    """Return one slice in HU; a multi-frame file is read and decoded once, for all its frames."""
    if held.path not in pictures:
        picture = read_picture(held.path)
        return to_hounsfield(picture.dataset, decode(picture)[0])
    picture = pictures[held.path]
    if held.path not in stored:
        stored[held.path] = decode(picture)
    return to_hounsfield(picture.dataset, stored[held.path][held.frame], frame=held.frame)


def _check_steps(stack: Stack, complete: bool) -> tuple[tuple[float, float, float], int, float]:
    """Return spacing (z, y, x) in mm, number of gaps and share missing, refusing the hopeless."""
    steps = np.diff(stack.along_mm)
    step_mm = float(np.median(steps))
    least, most = SPACING_MM
    if not least - _SPACING_TOLERANCE_MM <= step_mm <= most + _SPACING_TOLERANCE_MM:
        raise NotAnalysable(Reason.SLICE_SPACING, f"{step_mm:.2f} mm", may_change=not complete)
    gaps = holes(stack.along_mm)
    missing_mm = sum(float(steps[gap]) - step_mm for gap in gaps)
    missing = missing_mm / float(steps.sum())
    if missing > MOST_MISSING:
        detail = f"{len(gaps)} gaps, {missing_mm:.0f} mm missing"
        raise NotAnalysable(Reason.PARTIAL_HEAD, detail, may_change=not complete)
    rows_mm, columns_mm = stack.slices[0].pixel_spacing_mm or (0.0, 0.0)
    if stack.plane.transpose:
        rows_mm, columns_mm = columns_mm, rows_mm
    return (step_mm, rows_mm, columns_mm), len(gaps), missing
