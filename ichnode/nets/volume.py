"""From areas to millilitres, and from a mask back to the slice that it is of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.nn import functional

from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import Box, Stack, usual_steps_mm

Floats = npt.NDArray[np.float64]


def slice_extents_mm(
    positions_mm: Sequence[float], usual_mm: float, spec: PreprocessSpec
) -> Floats:
    """Return how much of the way along the normal each slice stands for: float64, (slice,).

    Half of the way to either neighbour. Where a slice is missing, the usual way of those around:
    the gap is not filled with what its neighbours show.

    Parameters
    ----------
    usual_mm : float
        Of a single slice, which has no neighbours.
    """
    if len(positions_mm) == 1:
        return np.array([usual_mm], np.float64)
    steps = np.abs(np.diff(np.asarray(positions_mm, np.float64)))
    usual = usual_steps_mm(positions_mm)
    steps = np.where(steps > usual * spec.gap_ratio, usual, steps)
    return np.asarray((np.r_[steps[:1], steps] + np.r_[steps, steps[-1:]]) / 2)


def slab_extents_mm(
    slabs: Sequence[tuple[int, int]],
    positions_mm: Sequence[float],
    usual_mm: float,
    spec: PreprocessSpec,
) -> Floats:
    """Return the extent of each slab, the sum of those of its slices: float64, (slab,)."""
    extents = slice_extents_mm(positions_mm, usual_mm, spec)
    return np.array([extents[first:end].sum() for first, end in slabs], np.float64)


def image_mm2(stack: Stack, spacing_mm: Sequence[float]) -> float:
    """Return the area that a standardised image shows, in mm², from the native (z, y, x)."""
    return stack.box.height * spacing_mm[1] * stack.box.width * spacing_mm[2]


def raw_volumes_ml(areas: Floats, image_area_mm2: float, extents_mm: Floats) -> Floats:
    """Return what areas add up to, not yet scaled: float64, (label,), in ml.

    Parameters
    ----------
    areas : ndarray, float64, (slab, label)
        Fractions of the image, 0 to 1.
    image_area_mm2 : float
        What an image shows.
    extents_mm : ndarray, float64, (slab,)
    """
    return np.asarray(extents_mm @ areas * image_area_mm2 / 1000)


def scaled_volumes_ml(raw_ml: Floats, scale: Sequence[float] | Floats) -> Floats:
    """Return volumes from what areas add up to: float64, like `raw_ml`.

    A kind is a part of all blood and never has more of it; its own scale could say so.

    Parameters
    ----------
    raw_ml : ndarray, float64, (..., label)
    scale : sequence of float, (label,)
    """
    scaled = raw_ml * np.asarray(scale)
    return np.asarray(np.minimum(scaled, scaled[..., :1]))


def onto_slice(mask: Tensor, box: Box, shape: tuple[int, int]) -> Tensor:
    """Bring a mask of a standardised image back to the pixels of the slice that it was cut from.

    The way back of `preprocess.standardise`: enlarged to the size of the box and put down where the
    box was; what reached beyond the slice is left out, and outside of the box is nothing.

    Parameters
    ----------
    mask : Tensor, float32, (y, x)
        Of any size; its places part the box evenly.
    box : Box
        What was cut out.
    shape : tuple of int
        Rows and columns of the slice.

    Returns
    -------
    Tensor, float32, (y, x)
        Of that shape.
    """
    whole = functional.interpolate(
        mask[None, None], size=(box.height, box.width), mode="bilinear", align_corners=False
    )[0, 0]
    found = mask.new_zeros(shape)
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.height, shape[0]), min(box.left + box.width, shape[1])
    found[top:bottom, left:right] = whole[
        top - box.top : bottom - box.top, left - box.left : right - box.left
    ]
    return found
