"""Stored values of one image to Hounsfield units: refuses rather than guesses.

Without a rescale the values are not HU, and a wrong offset is indistinguishable from blood.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom import Dataset

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.decoding import PixelForm, pixel_form
from ichnode.imaging.values import first, functional_group, integer, number

AIR_HU = -1024
"""The least value that comes out, and what padding becomes."""

HIGHEST_HU = 32767
STEEPEST_SLOPE = 10.0

_PIXEL_VALUE_TRANSFORMATION = 0x00289145
_MODALITY_LUT = 0x00283000
_INTERCEPT, _SLOPE, _TYPE = 0x00281052, 0x00281053, 0x00281054
_PADDING, _PADDING_LIMIT = 0x00280120, 0x00280121
_HOUNSFIELD_TYPES = frozenset(("", "HU", "US"))
"""Absent means HU for CT (PS3.3 C.8.2.1.1.2). "US" (unspecified) is let through: dcmtk writes it
beside an untouched CT rescale when it compresses, and the pixel gates check what it left open."""

_TISSUE_FROM_HU = -900  # a padding value that means this much or more may be anatomy as well


def to_hounsfield(
    dataset: Dataset, stored: npt.NDArray[np.generic], *, frame: int = 0
) -> npt.NDArray[np.int16]:
    """Convert the stored values of one frame to Hounsfield units.

    Padding is masked before the rescale, in the stored values, because its value means nothing in
    HU; it becomes -1024. MONOCHROME1 changes the display only and inverts nothing here.

    Parameters
    ----------
    dataset : pydicom.Dataset
        The image's attributes; those of Enhanced CT are taken per frame, else shared.
    stored : numpy.ndarray
        Shape (rows, columns) = (y, x), the integer containers of Bits Allocated as decoded; unused
        high bits may hold anything (overlays).
    frame : int
        Which frame of a multi-frame object it is, from 0.

    Returns
    -------
    numpy.ndarray
        Shape (y, x), int16, HU, rounded to the nearest, limited to -1024 ... 32767: what lies below
        is padding without a tag (GE and Siemens write -2000 to -3024 outside their circle), what
        lies above does not occur.

    Raises
    ------
    NotAnalysable
        NOT_HOUNSFIELD when slope or intercept is missing or not finite, the slope is not within 0
        (excluded) to 10, the Rescale Type is stated and not HU, or a Modality LUT replaces the
        rescale.

    References
    ----------
    DICOM PS3.3 C.11.1 (Modality LUT), C.8.2.1.1.2 (CT), C.7.5.1.1.2 (Pixel Padding Value),
    C.7.6.16.2.9 (Pixel Value Transformation).
    """
    form = pixel_form(dataset)
    slope, intercept = rescale(dataset, frame)
    values = stored_values(stored, form)
    scaled = np.clip(
        np.rint(values * np.float32(slope) + np.float32(intercept)), AIR_HU, HIGHEST_HU
    )
    hu: npt.NDArray[np.int16] = scaled.astype(np.int16)
    padding = _padding(dataset, stored, values, form)
    if padding is not None and padding.any():
        if hu[padding].max() > _TISSUE_FROM_HU:
            padding &= ~_reconstruction_circle(hu.shape)
        hu[padding] = AIR_HU
    return hu


def rescale(dataset: Dataset, frame: int = 0) -> tuple[float, float]:
    """Return slope and intercept of a frame, in HU.

    Raises
    ------
    NotAnalysable
        NOT_HOUNSFIELD, see `to_hounsfield`.
    """
    if _MODALITY_LUT in dataset:
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, "a lookup table replaces the rescale")
    group = functional_group(dataset, _PIXEL_VALUE_TRANSFORMATION, frame)
    holder = dataset if group is None else group
    slope, intercept = number(holder, _SLOPE), number(holder, _INTERCEPT)
    if slope is None or intercept is None:
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, "rescale slope or intercept is missing")
    if not 0 < slope <= STEEPEST_SLOPE:
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, f"rescale slope {slope:g}")
    if first(holder, _TYPE).upper() not in _HOUNSFIELD_TYPES:
        raise NotAnalysable(Reason.NOT_HOUNSFIELD, "the rescale type is not HU")
    return slope, intercept


def stored_values(stored: npt.NDArray[np.generic], form: PixelForm) -> npt.NDArray[np.integer[Any]]:
    """Take the stored bits out of their containers (PS3.5 8.1.1): unused bits are ignored.

    Returns
    -------
    numpy.ndarray
        The shape of `stored`; an integer type of its size, signed where the values are.
    """
    size = stored.dtype.itemsize
    width = size * 8
    high = min(form.high_bit, width - 1)  # a decoder's containers may be narrower
    bits = min(form.bits_stored, high + 1)
    unsigned = np.ascontiguousarray(stored).view(f"u{size}")
    lifted = np.left_shift(unsigned, width - 1 - high) if high < width - 1 else unsigned
    if form.signed:
        return np.asarray(np.right_shift(lifted.view(f"i{size}"), width - bits))
    return np.asarray(np.right_shift(lifted, width - bits))


def _padding(
    dataset: Dataset,
    stored: npt.NDArray[np.generic],
    values: npt.NDArray[np.integer[Any]],
    form: PixelForm,
) -> npt.NDArray[np.bool_] | None:
    """Return which pixels are padding, or None where no padding value is stated.

    The value's own VR is often the wrong one of US and SS, so both readings are the same here: it
    is compared modulo the container (63536 is -2000), and also with the stored bits.
    """
    lowest = integer(dataset, _PADDING)
    if lowest is None:
        return None
    limit = integer(dataset, _PADDING_LIMIT)
    size = stored.dtype.itemsize
    unsigned = np.ascontiguousarray(stored).view(f"u{size}")
    if limit is None:
        padded = values == _in_stored_bits(lowest, form)
        if 8 * size == form.bits_allocated:
            padded |= unsigned == lowest % (1 << 8 * size)
        return np.asarray(padded)
    ends = sorted((_in_stored_bits(lowest, form), _in_stored_bits(limit, form)))
    return np.asarray((values >= ends[0]) & (values <= ends[1]))


def _in_stored_bits(value: int, form: PixelForm) -> int:
    """Return what a value reads as in the stored bits; itself where it does not fit them."""
    span = 1 << form.bits_stored
    container = value % (1 << form.bits_allocated)
    if form.signed:
        signed = container - (1 << form.bits_allocated) * (container >> form.bits_allocated - 1)
        return signed if -span // 2 <= signed < span // 2 else value
    return container if container < span else value


def _reconstruction_circle(shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return the disc that touches the edges of the image: outside of it nothing was scanned."""
    rows, columns = shape
    y = np.arange(rows)[:, None] - (rows - 1) / 2
    x = np.arange(columns)[None, :] - (columns - 1) / 2
    return np.asarray(y**2 + x**2 <= (min(rows, columns) / 2) ** 2)
