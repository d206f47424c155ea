"""The outline of a mask as closed lines in the coordinates of presentation states.

A line runs half way between pixels that are inside and pixels that are not, so that the centre of
every pixel of the mask is within it and no other is.

References
----------
DICOM PS3.3 C.10.5 (PIXEL: the outer corner of the first pixel is at 0 and 0, its middle at 0.5).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ichnode.imaging.masks import Mask

Line = npt.NDArray[np.float32]
Side = tuple[int, int, int]  # a side of a pixel: the corner (x, y) where it begins, where it leads

_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, down, left, up


def outlines(mask: Mask) -> list[Line]:
    """Return the borders of a mask, the longest first.

    Parameters
    ----------
    mask : numpy.ndarray
        Shape (y, x), bool. Pixels that touch at a corner only are not joined.

    Returns
    -------
    list of numpy.ndarray
        Each of shape (points, 2), float32: x (column) and y (row), the last point equal to the
        first. Holes have lines of their own.
    """
    sides = _sides(mask)
    whole, done = frozenset(sides), set[Side]()
    lines = []
    for side in sides:
        if side not in done:
            followed = _around(side, whole)
            done.update(followed)
            lines.append(_line(followed))
    return sorted(lines, key=len, reverse=True)


def _sides(mask: Mask) -> list[Side]:
    """Return the sides that part inside from outside, the inside on the right of each way."""
    framed = np.pad(mask, 1)
    sides: list[Side] = []
    for way, (neighbour, start) in enumerate(
        (
            (framed[:-2, 1:-1], (0, 0)),  # along the top, from the left
            (framed[1:-1, 2:], (1, 0)),  # down the right
            (framed[2:, 1:-1], (1, 1)),  # along the bottom, from the right
            (framed[1:-1, :-2], (0, 1)),  # up the left
        )
    ):
        for y, x in np.argwhere(mask & ~neighbour).tolist():
            sides.append((x + start[0], y + start[1], way))
    return sorted(sides, key=lambda side: (side[1], side[0], side[2]))


def _around(first: Side, whole: frozenset[Side]) -> list[Side]:
    """Follow sides from the first one until it is met again."""
    followed = [first]
    while (side := _next(followed[-1], whole)) != first:
        followed.append(side)
    return followed


def _next(side: Side, whole: frozenset[Side]) -> Side:
    """Return the side that follows; where two do, the one around the same pixel: to the right."""
    x, y, way = side
    x, y = x + _STEPS[way][0], y + _STEPS[way][1]
    turns = ((x, y, turned % 4) for turned in (way + 1, way, way - 1))
    return next(one for one in turns if one in whole)


def _line(sides: list[Side]) -> Line:
    """Return the closed line through the middles of sides, without points on straight parts."""
    middles = np.array([(x + _STEPS[w][0] / 2, y + _STEPS[w][1] / 2) for x, y, w in sides])
    before, after = middles - np.roll(middles, 1, 0), np.roll(middles, -1, 0) - middles
    corners = middles[np.abs(before - after).max(axis=1) > 0]
    return np.concatenate([corners, corners[:1]]).astype(np.float32)
