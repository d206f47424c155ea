"""The key slices of a positive series with words and outline, as a presentation state.

It holds no pixels: a viewer lays it over the original slices and takes it away again. Brain window,
upright, what the model says as text, and the outline of what it draws, where it draws. A state has
one rescale, one displayed area and one rotation: of the key slices of the labels those are among
its images that are stored like that of "any".

References
----------
DICOM PS3.3 A.33.1 (Grayscale Softcopy Presentation State), C.11.10 and C.11.11 (identification and
relationship), C.10.4 (displayed area), C.10.5 to C.10.7 (annotation, rotation, layers), C.11.1,
C.11.6 and C.11.8 (the grey values); PS3.4 N.2 (all that is not stated here is not applied).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom import Dataset

from ichnode.domain.findings import LabelResult
from ichnode.domain.work import DocumentWork
from ichnode.imaging.contours import Line, outlines
from ichnode.imaging.decoding import read_picture
from ichnode.imaging.geometry import Plane, as_stored, plane_of
from ichnode.imaging.header import orientation, pixel_spacing_mm
from ichnode.imaging.hounsfield import rescale
from ichnode.imaging.masks import unpack
from ichnode.imaging.values import integer
from ichnode.report.annotation import Annotated, annotation_modules
from ichnode.report.encoding import Elements, element, file_bytes, reference_item, sequence
from ichnode.report.evidence import KeySlice, shown_slices
from ichnode.report.heading import (
    NOT_FOR_DIAGNOSIS,
    Model,
    Series,
    document_series_uid,
    heading,
)
from ichnode.report.key_objects import name_of
from ichnode.report.picture import BANNER, LEVEL_HU, WIDTH_HU
from ichnode.report.source import Source
from ichnode.report.structured_report import per_cent
from ichnode.settings import ReportSettings
from ichnode.spool import resolve

DESCRIPTION = f"AI ICH annotation - {NOT_FOR_DIAGNOSIS}"
LABEL = "AI_ICH"


@dataclass(frozen=True, slots=True)
class _Stored:
    """How a slice is stored, as far as a presentation state depends on it."""

    rows: int
    columns: int
    slope: float
    intercept: float
    spacing_mm: tuple[float, float] | None
    turns: tuple[bool, bool, bool]
    """Transpose, reverse rows, reverse columns: to be shown as an axial slice is read."""


@dataclass(frozen=True, slots=True)
class _Slice:
    """One slice and what is written on it."""

    key: KeySlice
    labels: list[LabelResult]
    stored: _Stored
    plane: Plane | None

    @property
    def reference(self) -> Elements:
        """The reference to it, or to its frame."""
        header = self.key.header
        return reference_item(header.sop_class_uid, header.sop_uid, self.key.frame)


def presentation_state(
    work: DocumentWork, settings: ReportSettings, source: Source, spool: Path
) -> bytes:
    """Write the presentation state of one analysis.

    Parameters
    ----------
    work : DocumentWork
        What was found, in which images.
    settings : ReportSettings
        Names and series numbers.
    source : Source
        The header of one of the images.
    spool : Path
        Where the images are.

    Returns
    -------
    bytes
        A Part 10 file in Explicit VR Little Endian; the same work gives the same bytes.

    Raises
    ------
    NotAnalysable
        When the key slice cannot be read any more.
    """
    first, *others = (_slice(spool, key, labels) for key, labels in shown_slices(work))
    slices = [first, *(one for one in others if one.stored == first.stored)]
    model = Model.of(work, settings)
    series = Series(document_series_uid(work), "PR", settings.series_number_gsps, DESCRIPTION)
    elements = heading(work, settings, source, series)
    for tag in (0x00080023, 0x00080033):  # it has dates of its own in their place
        del elements[tag]
    elements |= _identification(source.local(work.analysed_at))
    elements |= {0x00081115: sequence(0x00081115, [_relationship(work, slices)])}
    elements |= _appearance(first.stored)
    elements |= annotation_modules(
        [_annotated(work, model, one, is_first=one is first) for one in slices]
    )
    return file_bytes(work.sop_class_uid, work.sop_uid, elements)


def _slice(spool: Path, key: KeySlice, labels: list[LabelResult]) -> _Slice:
    dataset = read_picture(resolve(spool, key.instance.path)).dataset
    frame = (key.frame or 1) - 1
    plane = _axial_plane(dataset, frame)
    slope, intercept = rescale(dataset, frame)
    stored = _Stored(
        rows=integer(dataset, 0x00280010) or 1,
        columns=integer(dataset, 0x00280011) or 1,
        slope=slope,
        intercept=intercept,
        spacing_mm=pixel_spacing_mm(dataset, frame),
        turns=(
            (plane.transpose, plane.flip_rows, plane.flip_columns)
            if plane is not None
            else (False, False, False)
        ),
    )
    return _Slice(key, labels, stored, plane)


def _axial_plane(dataset: Dataset, frame: int) -> Plane | None:
    directions = orientation(dataset, frame)
    plane = plane_of(directions) if directions is not None else None
    return plane if plane is not None and plane.is_axial else None


def _annotated(work: DocumentWork, model: Model, shown: _Slice, *, is_first: bool) -> Annotated:
    """Return the words about a slice, and the outline on that of "any"."""
    lines = _lines(work, shown) if is_first else []
    labels = sorted(shown.labels, key=per_cent, reverse=True)
    words = [
        BANNER,
        "Preliminary. Per cent: certainty for the series",
        *(f"{name_of(label)} {per_cent(label):.0f} %" for label in labels),
        *(["Line: what the AI model draws"] if lines else []),
        f"{model.name} {model.version}",
    ]
    return Annotated(shown.reference, words, lines)


def _lines(work: DocumentWork, shown: _Slice) -> list[Line]:
    """Return the outline of what is drawn on the key slice of "any", as that is stored."""
    held = work.result.key_mask
    if held is None or held.slice_uid != work.result.of("any").key_sop_uid or shown.plane is None:
        return []
    try:
        mask = as_stored(unpack(held), shown.plane)
    except ValueError:
        return []  # the words alone are what it is for
    if mask.shape != (shown.stored.rows, shown.stored.columns):
        return []
    return outlines(mask)


def _identification(local: datetime) -> dict[int, bytes]:
    """Return what the state is called, and when: when the analysis started, as all of ours."""
    return {
        0x00700080: element(0x00700080, "CS", LABEL),
        0x00700081: element(0x00700081, "LO", DESCRIPTION),
        0x00700082: element(0x00700082, "DA", local.strftime("%Y%m%d")),
        0x00700083: element(0x00700083, "TM", local.strftime("%H%M%S")),
        0x00700084: element(0x00700084, "PN", ""),  # no person made it
    }


def _relationship(work: DocumentWork, slices: Iterable[_Slice]) -> Elements:
    return {
        0x00081140: sequence(0x00081140, [one.reference for one in slices]),
        0x0020000E: element(0x0020000E, "UI", work.series_uid),
    }


def _appearance(stored: _Stored) -> dict[int, bytes]:
    """Return grey values, rotation and displayed area: brain window, upright, all of it."""
    window = {
        0x00281050: element(0x00281050, "DS", str(LEVEL_HU)),
        0x00281051: element(0x00281051, "DS", str(WIDTH_HU)),
        0x00281055: element(0x00281055, "LO", "BRAIN"),
    }
    elements = {
        0x00281052: element(0x00281052, "DS", f"{stored.intercept:.10g}"),
        0x00281053: element(0x00281053, "DS", f"{stored.slope:.10g}"),
        0x00281054: element(0x00281054, "LO", "HU"),
        0x00283110: sequence(0x00283110, [window]),
        0x0070005A: sequence(0x0070005A, [_displayed_area(stored)]),
        0x20500020: element(0x20500020, "CS", "IDENTITY"),  # also for MONOCHROME1: blood is bright
    }
    if any(stored.turns):
        degrees, is_mirrored = rotation(*stored.turns)
        elements[0x00700041] = element(0x00700041, "CS", "Y" if is_mirrored else "N")
        elements[0x00700042] = element(0x00700042, "US", degrees)
    return elements


def _displayed_area(stored: _Stored) -> Elements:
    """Return the whole slice: the pixels that are seen in its upper left and lower right corner."""
    transpose, rows_turned, columns_turned = stored.turns
    from_right, from_below = (
        (rows_turned, columns_turned) if transpose else (columns_turned, rows_turned)
    )
    x = (stored.columns, 1) if from_right else (1, stored.columns)
    y = (stored.rows, 1) if from_below else (1, stored.rows)
    area = {
        0x00700052: element(0x00700052, "SL", struct.pack("<2l", x[0], y[0])),
        0x00700053: element(0x00700053, "SL", struct.pack("<2l", x[1], y[1])),
        0x00700100: element(0x00700100, "CS", "SCALE TO FIT"),
    }
    if stored.spacing_mm is None:
        return {**area, 0x00700102: element(0x00700102, "IS", "1\\1")}
    spacing = "\\".join(f"{one:.10g}" for one in stored.spacing_mm)
    return {**area, 0x00700101: element(0x00700101, "DS", spacing)}


def rotation(transpose: bool, flip_rows: bool, flip_columns: bool) -> tuple[int, bool]:
    """Return the turn that brings a stored image into the canonical display.

    Returns
    -------
    tuple of (int, bool)
        Degrees clockwise, and whether left and right are exchanged after that (PS3.3 C.10.6).
    """
    is_mirrored = transpose != (flip_rows != flip_columns)
    return 180 * flip_rows + 90 * transpose, is_mirrored
