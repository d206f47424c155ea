"""The heat map as a wash of colour over a slice, from yellow to red, and the scale beside it.

The colours darken and thicken with the chance, so that they are ordered to every eye; the slice
shines through the strongest of them. Below the least chance nothing is coloured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from ichnode.imaging.masks import LEAST_CHANCE, Heat

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_STOPS = (LEAST_CHANCE, 0.25, 0.5, 0.75, 1.0)
_COLOURS = np.array(
    [(255, 232, 120), (255, 218, 80), (255, 165, 30), (255, 88, 20), (228, 18, 36)], np.float32
)
_OPACITIES = (0.0, 0.32, 0.48, 0.55, 0.58)


def laid(heat: Heat, slice_shape: tuple[int, int], shape: tuple[int, int]) -> Floats:
    """Lay a heat map onto a picture of the whole slice.

    Parameters
    ----------
    heat : Heat
        Its box is in pixels of the slice.
    slice_shape, shape : tuple of int
        Rows and columns of the slice, and of the picture.

    Returns
    -------
    numpy.ndarray
        Shape (y, x) of the picture, float32: chances from 0 to 1, 0 outside of the box.
    """
    top, left, height, width = heat.box
    down, across = heat.chances.shape
    places_y, places_x = down / height, across / width  # for one pixel of the slice
    y, x = slice_shape[0] / shape[0] * places_y, slice_shape[1] / shape[1] * places_x
    found = Image.fromarray(heat.chances.astype(np.float32) / 255).transform(
        (shape[1], shape[0]),
        Image.Transform.AFFINE,
        (x, 0, -left * places_x, 0, y, -top * places_y),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(np.clip(np.asarray(found), 0, 1), np.float32)


def washed(grey: Bytes, chances: Floats) -> Bytes:
    """Colour a picture by how much speaks for blood where.

    Parameters
    ----------
    grey : numpy.ndarray
        Shape (y, x), uint8.
    chances : numpy.ndarray
        Likewise, float32, 0 to 1; below `LEAST_CHANCE` a pixel stays as it is.

    Returns
    -------
    numpy.ndarray
        Shape (y, x, 3), uint8, RGB.
    """
    opacity = np.interp(chances, _STOPS, _OPACITIES)[..., None]
    colour = np.stack([np.interp(chances, _STOPS, one) for one in _COLOURS.T], axis=-1)
    mixed = grey[..., None] * (1 - opacity) + colour * opacity
    return np.rint(mixed).astype(np.uint8)


def scale(width: int, height: int, grey: int) -> Bytes:
    """Return the wash from the least chance to certainty, over one grey: (y, x, 3), uint8, RGB."""
    chances = np.linspace(LEAST_CHANCE, 1, width, dtype=np.float32)
    return washed(np.full((height, width), grey, np.uint8), np.tile(chances, (height, 1)))
