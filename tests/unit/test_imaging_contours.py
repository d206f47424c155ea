"""Outlines of masks in the coordinates of presentation states."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from ichnode.imaging.contours import outlines


def filled(lines, shape):
    """The pixels whose middle is within the lines, counted by crossings of a ray to the right."""
    inside = np.zeros(shape, bool)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for line in lines:
        for (x0, y0), (x1, y1) in pairwise(line):
            crosses = (y0 > y) != (y1 > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                at = x0 + (y - y0) * (x1 - x0) / (y1 - y0)
            inside ^= crosses & (at > x)
    return inside


def test_the_middle_of_the_first_pixel_is_half_a_pixel_from_the_corner():
    """One pixel is a diamond through the middles of its sides, closed."""
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = True
    (line,) = outlines(mask)
    assert line.dtype == np.float32
    assert line.tolist() == [[0.5, 0], [1, 0.5], [0.5, 1], [0, 0.5], [0.5, 0]]


def test_straight_parts_have_no_points_of_their_own():
    """A rectangle is eight corners, however large."""
    mask = np.zeros((64, 64), bool)
    mask[32:38, 32:41] = True
    (line,) = outlines(mask)
    assert len(line) == 9
    assert (line.min(0).tolist(), line.max(0).tolist()) == ([32, 32], [41, 38])


@pytest.mark.parametrize("seed", range(5))
def test_exactly_the_pixels_of_the_mask_are_within(seed):
    """Whatever its shape: holes, specks and pixels that touch at corners."""
    rng = np.random.default_rng(seed)
    mask = rng.random((23, 31)) < (0.2, 0.4, 0.5, 0.6, 0.8)[seed]
    lines = outlines(mask)
    assert all(np.array_equal(line[0], line[-1]) for line in lines)
    assert np.array_equal(filled(lines, mask.shape), mask)


def test_pixels_that_touch_at_a_corner_are_lines_of_their_own():
    """Two on a diagonal are two diamonds, the other way round too."""
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        assert [len(line) for line in outlines(mask)] == [5, 5]


def test_the_longest_line_comes_first():
    """So that what is left out, where there are too many, is the least."""
    mask = np.zeros((40, 40), bool)
    mask[1, 1] = True
    mask[10:30, 10:30] = np.tri(20, dtype=bool)
    lengths = [len(line) for line in outlines(mask)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[-1] == 5


def test_nothing_drawn_has_no_line_and_everything_drawn_has_one():
    """An empty mask, and one that fills the slice to its edges."""
    assert outlines(np.zeros((8, 8), bool)) == []
    (line,) = outlines(np.ones((8, 6), bool))
    assert (line.min(0).tolist(), line.max(0).tolist()) == ([0, 0], [6, 8])
