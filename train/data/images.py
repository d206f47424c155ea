"""From a file to the images in it, in Hounsfield units, by way of `ichnode.imaging` alone.

Identifiers may be anything, images may have any size and spacing. What can be seen in a file
decides whether it is used, never a list of known bad ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from ichnode.domain.errors import NotAnalysable, Transient
from ichnode.domain.reasons import Reason
from ichnode.domain.series import Header
from ichnode.imaging import header as headers_of
from ichnode.imaging.decoding import PixelForm, decode, pixel_form, read_picture
from ichnode.imaging.hounsfield import rescale, stored_values, to_hounsfield
from ichnode.imaging.selection import age_years
from ichnode.imaging.stacking import Slice
from ichnode.imaging.values import number
from train.data.records import Facts
from train.data.repair import tags_match
from train.errors import TrainingError, Unusable

LEAST_DEVIATION_HU = 1.0  # below it an image shows nothing
LEAST_VALUES = 3

_WINDOW_CENTER, _WINDOW_WIDTH = 0x00281050, 0x00281051
_TAGS = headers_of.HEADER_TAGS | {_WINDOW_CENTER, _WINDOW_WIDTH}

Hu = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
class ReadSlice:
    """One slice: an image, or one frame of a multi-frame object.

    Attributes
    ----------
    hu : ndarray, int16, (y, x)
        Hounsfield units, as stored and not turned; `train.data.stacking.stack` turns it to the
        canonical display.
    place : Slice
        The header, and where the slice lies.
    facts : Facts
    raw : ndarray, (y, x), or None
        The stored values, where the tags are those of a wrapped encoding and nothing was decided.
    """

    hu: Hu = field(repr=False)
    place: Slice = field(repr=False)
    facts: Facts = field(repr=False)
    raw: npt.NDArray[np.integer] | None = field(default=None, repr=False)

    @property
    def header(self) -> Header:
        """All that the header says; personal data, to be kept in this process."""
        return self.place.header

    @property
    def position_mm(self) -> tuple[float, float, float] | None:
        """Image Position (Patient)."""
        return self.place.position_mm

    @property
    def orientation(self) -> tuple[float, ...] | None:
        """Image Orientation (Patient): row, then column."""
        return self.place.orientation

    @property
    def spacing_mm(self) -> tuple[float, float] | None:
        """Between rows (y) and between columns (x)."""
        return self.place.pixel_spacing_mm

    @property
    def sop_uid(self) -> str:
        """SOP Instance UID, with ``#frame`` (from 1) for a frame of a multi-frame object."""
        return self.place.uid

    @property
    def series_uid(self) -> str:
        """Series Instance UID."""
        return self.header.series_uid

    @property
    def study_uid(self) -> str:
        """Study Instance UID."""
        return self.header.study_uid

    @property
    def patient_id(self) -> str:
        """Patient ID; never to be written anywhere, see `pseudonym`."""
        return self.header.patient_id

    @property
    def issuer(self) -> str:
        """Issuer of Patient ID."""
        return self.header.issuer_of_patient_id

    @property
    def instance_number(self) -> int | None:
        """Instance Number; says nothing of the order along the body."""
        return self.header.instance_number


def images_of(path: Path) -> Iterator[tuple[str, ReadSlice | Unusable]]:
    """Yield the images of a file by UID, or why the whole file or one of them is of no use."""
    try:
        picture = read_picture(path, _TAGS)
        header = headers_of.unchecked_header(picture.dataset)
        form = pixel_form(picture.dataset)
        stored = decode(picture)
    except NotAnalysable as refusal:
        yield path.name, _unusable(refusal)
        return
    except Transient as failure:
        raise TrainingError(f"{failure} Try again when {path.parent} can be read.") from failure
    for frame, values in enumerate(stored):
        place = place_of(header, path, picture.dataset, frame)
        try:
            yield place.uid, _slice(picture.dataset, values, form, place)
        except Unusable as reason:
            yield place.uid, reason


def place_of(header: Header, path: Path, dataset: Dataset, frame: int) -> Slice:
    """Return where one frame (from 0) lies."""
    return Slice(
        header=header,
        path=path,
        frame=frame,
        position_mm=headers_of.position_mm(dataset, frame),
        orientation=headers_of.orientation(dataset, frame),
        pixel_spacing_mm=headers_of.pixel_spacing_mm(dataset, frame),
        thickness_mm=headers_of.slice_thickness_mm(dataset, frame),
        acquisition=header.acquisition_number,
    )


def _slice(
    dataset: Dataset, values: npt.NDArray[np.generic], form: PixelForm, place: Slice
) -> ReadSlice:
    try:
        hu = to_hounsfield(dataset, values, frame=place.frame)
        slope, intercept_hu = rescale(dataset, place.frame)
    except NotAnalysable as refusal:
        raise _unusable(refusal) from refusal
    deviation = float(hu.std())
    if deviation < LEAST_DEVIATION_HU:
        raise Unusable("blank image", f"standard deviation {deviation:.2f} HU")
    if len(distinct := np.unique(hu)) < LEAST_VALUES:
        raise Unusable("blank image", f"{len(distinct)} values")
    doubtful = tags_match(form.bits_stored, int(form.signed), intercept_hu)
    return ReadSlice(
        hu=hu,
        place=place,
        facts=_facts(dataset, form, place, (slope, intercept_hu)),
        raw=stored_values(values, form) if doubtful else None,
    )


def _facts(
    dataset: Dataset, form: PixelForm, place: Slice, slope_intercept: tuple[float, float]
) -> Facts:
    header, unknown = place.header, float("nan")
    center, width = number(dataset, _WINDOW_CENTER), number(dataset, _WINDOW_WIDTH)
    age = age_years(header)
    return Facts(
        manufacturer=header.manufacturer,
        model_name=header.model_name,
        kernel=header.kernel,
        thickness_mm=unknown if place.thickness_mm is None else place.thickness_mm,
        age_years=unknown if age is None else round(age, 1),
        sex=header.patient_sex,
        bits_stored=form.bits_stored,
        pixel_representation=int(form.signed),
        intercept_hu=slope_intercept[1],
        slope=slope_intercept[0],
        rows=form.rows,
        columns=form.columns,
        window_center=unknown if center is None else center,
        window_width=unknown if width is None else width,
    )


def _unusable(refusal: NotAnalysable) -> Unusable:
    known = {Reason.UNREADABLE: "undecodable"}
    return Unusable(
        known.get(refusal.reason, refusal.reason.code.replace("_", " ")), refusal.detail
    )
