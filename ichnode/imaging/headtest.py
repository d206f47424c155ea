"""Does a stack show a head, and how much of its brain? Seen in the pixels, not in the tags.

Body Part Examined is wrong or empty too often to decide anything. A head is a body of the right
size with a ring of bone inside its skin and brain inside that ring; a water phantom has no ring, a
limb has its bone in the middle, an abdomen is too large.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

BODY_HU = -300
BONE_HU = 300
LUNG_HU = -400
BRAIN_HU = (0, 80)

SMALLEST_MM, LARGEST_MM = 100.0, 260.0  # equivalent diameter of the body
LEAST_RING = 0.6  # of the directions, seen from the middle, in which bone is met under the skin
LEAST_BRAIN = 0.45  # of what the ring encloses
MOST_LUNG = 0.05
BAND_MM = 30.0  # how deep under the skin the skull is looked for: scalp, temporal muscle
BRAIN_AREA_MM2 = 3000.0  # from here on a slice counts towards the covered brain

_GRID_MM = 1.0  # fine enough for all of this, four times faster than half a millimetre
_DIRECTIONS = 72

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Heads:
    """What was seen, slice by slice.

    Attributes
    ----------
    is_head : ndarray
        Shape (z,), bool.
    inside : ndarray
        Shape (z, y / stride, x / stride), bool: what the skull encloses, in head slices only.
    stride : int
        The step in y and x at which the slices were looked at.
    brain_area_mm2 : ndarray
        Shape (z,), float: the area of brain inside the skull.
    """

    is_head: Mask
    inside: Mask
    stride: int
    brain_area_mm2: npt.NDArray[np.float64]

    @property
    def longest_run(self) -> int:
        """How many head slices there are in a row, at most."""
        return longest_run(self.is_head)

    def brain_mm(self, positions_mm: npt.NDArray[np.float64]) -> float:
        """Return how much of the brain is covered along the normal, in mm.

        Each slice stands for half of the way to either neighbour; a gap counts for no more than
        twice the usual way, so that two ends with nothing between them are no whole brain.
        """
        if len(positions_mm) < 2:
            return 0.0
        steps = np.diff(positions_mm)
        steps = np.minimum(steps, 2 * np.median(steps))
        ways = (np.r_[steps[0], steps] + np.r_[steps, steps[-1]]) / 2
        return float(ways[self.is_head & (self.brain_area_mm2 >= BRAIN_AREA_MM2)].sum())


def longest_run(flags: Mask) -> int:
    """Return the length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.r_[0, flags.astype(np.int8), 0]))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def find_heads(hu: npt.NDArray[np.int16], pixel_spacing_mm: tuple[float, float]) -> Heads:
    """Look for a head in every slice.

    Parameters
    ----------
    hu : numpy.ndarray
        Shape (z, y, x), int16, HU.
    pixel_spacing_mm : tuple of float
        (y, x), in mm.
    """
    stride = max(1, round(_GRID_MM / max(pixel_spacing_mm)))
    grid_mm = (pixel_spacing_mm[0] * stride, pixel_spacing_mm[1] * stride)
    coarse = hu[:, ::stride, ::stride]
    is_head = np.zeros(len(hu), dtype=bool)
    inside = np.zeros(coarse.shape, dtype=bool)
    area = np.zeros(len(hu))
    for z, image in enumerate(coarse):
        found = _skull_inside(image, grid_mm)
        if found is not None:
            is_head[z], inside[z] = True, found
            brain = (image > BRAIN_HU[0]) & (image < BRAIN_HU[1]) & found
            area[z] = brain.sum() * grid_mm[0] * grid_mm[1]
    return Heads(is_head, inside, stride, area)


def _skull_inside(image: npt.NDArray[np.int16], grid_mm: tuple[float, float]) -> Mask | None:
    """Return what the skull encloses in one slice, or None where it shows no head."""
    body = _body(image)
    if body is None:
        return None
    diameter = 2 * np.sqrt(body.sum() * grid_mm[0] * grid_mm[1] / np.pi)
    if not SMALLEST_MM <= diameter <= LARGEST_MM:
        return None
    if (image[body] < LUNG_HU).mean() > MOST_LUNG:
        return None
    covered, inside = _ring(image, body, grid_mm)
    if covered < LEAST_RING or not inside.any():
        return None
    held = image[inside]
    brain = (held > BRAIN_HU[0]) & (held < BRAIN_HU[1])
    return inside if brain.mean() >= LEAST_BRAIN else None


def _body(image: npt.NDArray[np.int16]) -> Mask | None:
    """Return the largest body with its holes filled; the head holder is thin and opened away."""
    opened = ndimage.binary_opening(image > BODY_HU, iterations=2)
    labels, count = ndimage.label(opened)
    if count == 0:
        return None
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return _filled(labels == sizes.argmax())


def _filled(mask: Mask) -> Mask:
    """Fill what is enclosed: the background that does not touch the edge of the image."""
    labels, _ = ndimage.label(~mask)
    edge = np.unique(np.r_[labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.asarray(mask | ~np.isin(labels, edge))


def _ring(
    image: npt.NDArray[np.int16], body: Mask, grid_mm: tuple[float, float]
) -> tuple[float, Mask]:
    """Return in what share of directions bone lies under the skin, and what lies within it.

    Seen from the centre of the body, every pixel has a direction and a distance; in each direction
    the skin is the farthest pixel of the body and the skull the innermost bone of the outer band.
    """
    rows, columns = np.nonzero(body)
    y = (rows - rows.mean()) * grid_mm[0]
    x = (columns - columns.mean()) * grid_mm[1]
    distance = np.hypot(y, x)
    direction = ((np.arctan2(y, x) / (2 * np.pi) + 0.5) * _DIRECTIONS).astype(np.intp)
    direction %= _DIRECTIONS
    skin = np.zeros(_DIRECTIONS)
    np.maximum.at(skin, direction, distance)
    bone = (image[rows, columns] > BONE_HU) & (distance > skin[direction] - BAND_MM)
    inner = np.full(_DIRECTIONS, np.inf)
    np.minimum.at(inner, direction[bone], distance[bone])
    met = np.isfinite(inner)
    if not met.any():
        return 0.0, np.zeros_like(body)
    within = np.zeros_like(body)
    limit = np.where(met, inner, np.median(inner[met]))
    within[rows, columns] = distance < limit[direction]
    return float(met.mean()), within
