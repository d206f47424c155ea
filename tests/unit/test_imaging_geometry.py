"""Planes, order, steps, holes and tilt: pure geometry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ichnode.imaging.geometry import along_normal, holes, is_plausible, plane_of, tilt_deg


def tilted(degrees: float) -> tuple[float, ...]:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return (1.0, 0.0, 0.0, 0.0, c, -s)


@pytest.mark.parametrize(
    ("orientation", "axial"),
    [
        ((1, 0, 0, 0, 1, 0), True),
        ((-1, 0, 0, 0, -1, 0), True),
        ((0, 1, 0, 1, 0, 0), True),
        (tilted(30), True),
        (tilted(-30), True),
        (tilted(40), False),
        ((1, 0, 0, 0, 0, -1), False),
        ((0, 1, 0, 0, 0, -1), False),
    ],
    ids=["supine", "turned", "transposed", "tilt", "other tilt", "steep", "coronal", "sagittal"],
)
def test_axial_is_within_the_reach_of_a_gantry(orientation, axial):
    """Up to 35 degrees is axial; the normal always points to the head."""
    plane = plane_of(orientation)
    assert plane.is_axial is axial
    assert plane.normal[2] >= 0
    assert math.hypot(*plane.normal) == pytest.approx(1)


@pytest.mark.parametrize(
    "orientation",
    [(0, 0, 0, 0, 0, 0), (1, 0, 0, 1, 0, 0), (2, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0.5, 0)],
)
def test_what_is_no_pair_of_directions_is_no_plane(orientation):
    """Cosines have to be of unit length and at right angles."""
    assert plane_of(orientation) is None


def test_positions_grow_to_the_head_however_the_slices_lie():
    """Turning rows and columns round changes neither order nor distance."""
    places = [(-100.0, -100.0, z) for z in (30.0, 10.0, 20.0)]
    for orientation in ((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0)):
        assert along_normal(places, plane_of(orientation)).tolist() == [30.0, 10.0, 20.0]


@pytest.mark.parametrize("degrees", [0.0, 12.0, -18.5, 30.0])
def test_tilt_is_the_angle_between_normal_and_table(degrees):
    """A sheared stack is as tilted as its gantry; its steps shrink by the cosine."""
    places = [(-100.0, -100.0, 5.0 * n) for n in range(10)]
    plane = plane_of(tilted(degrees))
    assert tilt_deg(places, plane) == pytest.approx(abs(degrees), abs=1e-6)
    steps = np.diff(along_normal(places, plane))
    np.testing.assert_allclose(steps, 5.0 * math.cos(math.radians(degrees)))


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([5.0] * 20, []),
        ([2.5] * 10 + [5.0] * 10, []),
        ([5.0] * 10 + [2.5] * 10, []),
        ([4.0] * 13 + [1.02] + [7.0] * 13, []),
        ([2.5] * 10 + [8.0] * 3, []),
        ([5.0] * 5 + [10.0] + [5.0] * 5, [5]),
        ([5.0] * 5 + [10.0, 10.0] + [5.0] * 5, [5, 6]),
        ([5.0] * 10 + [10.0], [10]),
        ([10.0] + [5.0] * 10, [0]),
        ([2.5] * 8 + [7.6] + [5.0] * 8, [8]),
        ([2.5] * 8 + [5.0] * 4 + [10.0] + [5.0] * 4, [12]),
        ([0.6, 0.65, 0.6, 0.55, 0.6, 0.6], []),
        ([5.0, 10.0, 5.0], [1]),
        ([5.0], []),
    ],
)
def test_a_hole_is_longer_than_the_steps_beside_it(steps, where):
    """A lasting change of spacing is how it was scanned; a single longer step is a hole."""
    places = np.cumsum([0.0, *steps])
    assert holes(places) == where
    assert is_plausible(places) is (not where)


def test_thickness_tells_that_every_other_slice_is_missing():
    """Slices twice as far apart as they are thick may have others between them."""
    places = [10.0 * n for n in range(10)]
    assert is_plausible(places)
    assert not is_plausible(places, thickness_mm=5.0)
    assert is_plausible(places, thickness_mm=10.0)


@pytest.mark.parametrize("places", [[], [1.0], [1.0, 1.0], [0.0, 5.0, 5.02, 10.0], [0.0, math.nan]])
def test_no_stack_is_implausible(places):
    """One slice, two at one place, or no number: nothing to look at yet."""
    assert not is_plausible(places)
