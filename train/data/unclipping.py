"""Undo the clip of a windowed image, as far as it goes: air around the head, bone of the skull.

An 8-bit picture in the brain window keeps what lies between two Hounsfield values and makes all
else one of the two. A network that was fed whole Hounsfield units sees such a picture as a head in
water with a skull of dense blood. What must have been there is put back:

* the low end is air where it lies outside the head; within it, it stays the low end, since fluid,
  fat and the air of the sinuses cannot be told apart there;
* the high end is bone where it hangs together with what lies under the skin: the skull and the
  petrous bone. Within a closed skull it stays the high end otherwise, for that is dense blood or a
  calcification. Where no skull is closed, below the brain, a solid island with plain tissue around
  it is bone as well: vertebra, jaw. Solid blood that lies on the bone and is all at the high end
  becomes bone with it; nothing in one picture tells them apart.

The values are typical ones, not those of the patient. Nothing between the two ends is touched.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

AIR_HU = -1000
BONE_EDGE_HU = 350
"""Of the outermost pixels of a bone, which are partly soft tissue: on 1 mm pixels."""
BONE_HU = 900
"""Of a bone's inside; the thick parts of a skull lie between 600 and 1,400 HU."""

_SLACK = 0.006  # of the window: one and a half greys of 256, what saving again may change
_BRIDGED = 0.02  # of the image: fat under a skin that is seen in part is no air outside
_SCALP = 0.06  # of the head's extent: deeper under the skin nothing belongs to the skull's ring
_ISLAND = 0.0025  # of the head's area: smaller islands are taken for calcifications
_ENCLOSED = 0.25  # of the head's area within bone: the skull is closed
_OPENING = 0.015  # of the image: sutures and thin walls do not open a skull
_PLAIN = 0.65  # of the window: tissue around an island of bone is darker, blood is not
_COMPANY = 5  # of nine pixels that must be at the high end: noise in blood is speckled, bone solid

Grey = npt.NDArray[np.floating] | npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
_EIGHT = np.ones((3, 3), np.bool_)


def clip_to_grey(
    hu: npt.NDArray[np.int16], hu_range: tuple[float, float] = (0.0, 80.0)
) -> npt.NDArray[np.uint8]:
    """Show Hounsfield units as an 8-bit picture would: what `grey_to_hu` undoes.

    Parameters
    ----------
    hu : ndarray, int16, (..., y, x)
    hu_range : tuple of float
        What grey 0 and grey 255 stand for.
    """
    low, high = hu_range
    share = np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1)
    return np.asarray((255 * share).round().astype(np.uint8))


def grey_to_hu(
    grey: Grey, hu_range: tuple[float, float] = (0.0, 80.0), *, largest: float = 255.0
) -> npt.NDArray[np.int16]:
    """Return Hounsfield units of windowed pictures, with air and bone put back.

    Parameters
    ----------
    grey : ndarray, (y, x) or (n, y, x)
        Axial pictures, each looked at by itself.
    hu_range : tuple of float
        What grey 0 and the largest grey stand for.
    largest : float
        The grey of the high end: 255 for 8 bits, 65535 for 16.

    Returns
    -------
    ndarray, int16, the shape of `grey`
        Hounsfield units.

    Raises
    ------
    ValueError
        When the range is empty or the array no picture.
    """
    low, high = hu_range
    if not high > low:
        raise ValueError("the range of Hounsfield units must have a lower and a higher end")
    if grey.ndim not in (2, 3):
        raise ValueError("pictures are (y, x) or (n, y, x)")
    share = np.asarray(grey, np.float32) / np.float32(largest)
    hu = (low + share * (high - low)).round().astype(np.int16)
    stacked = (-1, *share.shape[-2:])
    for one, values in zip(share.reshape(stacked), hu.reshape(stacked), strict=True):
        _undo(one, values)
    return hu


def _undo(share: npt.NDArray[np.float32], hu: npt.NDArray[np.int16]) -> None:
    """Write air and bone into one picture (y, x)."""
    lowest = share <= _SLACK
    head = _head(~lowest)
    if head is None:
        return
    hu[lowest & ~head] = AIR_HU
    bone = _bone(share, head)
    depth = ndimage.distance_transform_cdt(np.pad(bone, 1))[1:-1, 1:-1]
    hu[depth == 1] = BONE_EDGE_HU
    hu[depth > 1] = BONE_HU


def _head(tissue: Mask) -> Mask | None:
    """Return the largest body with all that it encloses; None in an empty picture."""
    if not tissue.any():
        return None
    reach = max(round(_BRIDGED * max(tissue.shape)), 1)
    wide = np.pad(tissue, 2 * reach + 1)
    closed = _deep(_near(wide, reach), reach)
    filled = ndimage.binary_fill_holes(closed | wide)[2 * reach + 1 :, 2 * reach + 1 :]
    parts, _ = ndimage.label(filled[: tissue.shape[0], : tissue.shape[1]])
    return np.asarray(parts == np.bincount(parts.ravel())[1:].argmax() + 1)


def _near(mask: Mask, reach: int) -> Mask:
    """Return the mask, wider by some pixels."""
    return np.asarray(ndimage.distance_transform_cdt(~mask) <= reach)


def _deep(mask: Mask, reach: int) -> Mask:
    """Return the mask, narrower by some pixels."""
    return np.asarray(ndimage.distance_transform_cdt(mask) > reach)


def _bone(share: npt.NDArray[np.float32], head: Mask) -> Mask:
    """Return where the high end is bone."""
    dense = (share >= 1 - _SLACK) & head
    solid = dense & (ndimage.uniform_filter(dense.astype(np.float32), 3) * 9 > _COMPANY - 0.5)
    parts, count = ndimage.label(solid, _EIGHT)
    if not count:
        return np.zeros_like(dense)
    depth = ndimage.distance_transform_cdt(np.pad(head, 1))[1:-1, 1:-1]
    rows, columns = ndimage.find_objects(head.astype(np.int8))[0]
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    chosen = np.zeros(count + 1, np.bool_)
    chosen[parts[solid & (depth <= _SCALP * extent)]] = True
    if not _is_closed(chosen[parts], head):
        sizes = np.bincount(parts.ravel(), minlength=count + 1)
        sizes[0] = 0
        for number in np.flatnonzero(~chosen & (sizes >= _ISLAND * head.sum())):
            chosen[number] = _in_plain_tissue(share, parts == number)
    return np.asarray(ndimage.binary_dilation(chosen[parts], _EIGHT) & dense)


def _is_closed(skull: Mask, head: Mask) -> bool:
    """Say whether bone encloses a good part of the head."""
    if not skull.any():
        return False
    wide = _near(skull, max(round(_OPENING * max(head.shape)), 1))
    enclosed = ndimage.binary_fill_holes(wide) & ~wide
    return bool(enclosed.sum() >= _ENCLOSED * head.sum())


def _in_plain_tissue(share: npt.NDArray[np.float32], part: Mask) -> bool:
    """Say whether what lies two and three pixels around something is as dark as plain tissue."""
    near = ndimage.binary_dilation(part, _EIGHT)
    around = ndimage.binary_dilation(near, _EIGHT, iterations=2) & ~near
    return bool(around.any() and float(np.median(share[around])) < _PLAIN)
