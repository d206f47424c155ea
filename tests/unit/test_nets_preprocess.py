"""Preprocessing: the crop, slabs, neighbours and windows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import (
    Box,
    cut,
    head_box,
    neighbours,
    plan_slabs,
    preprocess,
    standardise,
    windows,
)

SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0), (-20.0, 180.0), (-800.0, 2000.0)))
SPACING_MM = (5.0, 1.0, 1.0)


def head(slices: int = 12, side: int = 256, centre: tuple[int, int] = (128, 120)) -> torch.Tensor:
    """Discs of 160 mm across in air, each slice a little denser than the one below."""
    rows, columns = np.mgrid[0:side, 0:side]
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < 80**2
    volume = [np.where(inside, 30 + 2 * index, -1000) for index in range(slices)]
    return torch.from_numpy(np.stack(volume).astype(np.int16))


def positions(slices: int, step_mm: float = 5.0) -> list[float]:
    return [index * step_mm for index in range(slices)]


def test_the_crop_centres_the_head_whatever_lies_beside_it() -> None:
    """A thin head holder and a detached object do not move the crop."""
    hu = head()
    hu[:, 230, :] = 200  # one pixel thin: a holder's shell
    hu[:, 20:40, 20:40] = 100  # smaller than the head and apart from it
    box = head_box(hu, SPACING_MM, SPEC)
    assert abs(box.top + box.height / 2 - 128) <= 2
    assert abs(box.left + box.width / 2 - 120) <= 2
    assert box.height == pytest.approx(160 * 1.08, abs=5)


def test_without_a_head_the_middle_is_taken() -> None:
    """An image of air, or of something far too large, falls back to the middle 240 mm."""
    middle = Box(top=8, left=8, height=240, width=240)
    assert head_box(torch.full((3, 256, 256), -1000, dtype=torch.int16), SPACING_MM, SPEC) == middle
    wide = torch.full((3, 256, 256), 40, dtype=torch.int16)
    assert head_box(wide, (5.0, 2.0, 2.0), SPEC) == Box(top=68, left=68, height=120, width=120)


def test_unequal_pixels_come_out_isotropic() -> None:
    """A head with pixels twice as wide as high fills the same square."""
    hu = head()
    wide = hu[:, :, ::2]
    one = standardise(hu, SPACING_MM, positions(12), SPEC).hu.float()
    other = standardise(wide, (5.0, 1.0, 2.0), positions(12), SPEC).hu.float()
    for axis in (1, 2):
        here, there = (torch.where((hu > 0).any(0).any(2 - axis))[0] for hu in (one, other))
        assert abs(int(here[0] - there[0])) <= 1
        assert abs(int(here[-1] - there[-1])) <= 1


def test_a_box_beyond_the_image_is_filled_with_air() -> None:
    """What the box has outside of the image is the stated value, and nothing is shifted."""
    image = torch.arange(16, dtype=torch.int16).reshape(1, 4, 4)
    part = cut(image, Box(top=-1, left=2, height=4, width=4), -1024)
    assert part.shape == (1, 4, 4)
    assert part[0, 0].tolist() == [-1024] * 4
    assert part[0, 1].tolist() == [2, 3, -1024, -1024]


def test_thick_slices_stay_as_they_are() -> None:
    """From 3 mm on, every slice is a slab of its own."""
    assert plan_slabs(positions(5, 3.0), SPEC) == ((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))


def test_thin_slices_are_averaged_to_about_five_millimetres() -> None:
    """1.25 mm slices are averaged by four; a rest of less than half a slab joins the last one."""
    assert plan_slabs(positions(8, 1.25), SPEC) == ((0, 4), (4, 8))
    assert plan_slabs(positions(9, 1.25), SPEC) == ((0, 4), (4, 9))
    assert plan_slabs(positions(10, 1.25), SPEC) == ((0, 4), (4, 8), (8, 10))
    thin = head(8)
    stack = standardise(thin, (1.25, 1.0, 1.0), positions(8, 1.25), SPEC)
    assert stack.hu[:, 32, 32].tolist() == [33, 41]
    assert stack.positions_mm == (1.875, 6.875)


def test_a_slab_never_reaches_across_a_gap() -> None:
    """Where slices are missing, a new slab begins."""
    along = [*positions(6, 1.25), *(20 + p for p in positions(6, 1.25))]
    assert plan_slabs(along, SPEC) == ((0, 4), (4, 6), (6, 10), (10, 12))


def test_neighbours_are_the_slices_below_and_above() -> None:
    """At the ends the slice stands in for its missing neighbour."""
    assert neighbours(positions(4), SPEC).tolist() == [[0, 0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 3]]


def test_a_missing_slice_is_no_neighbour() -> None:
    """Across a gap the slice stands in for its neighbour, as at the ends."""
    along = [0.0, 5.0, 10.0, 20.0, 25.0, 30.0]
    assert neighbours(along, SPEC)[2].tolist() == [1, 2, 2]
    assert neighbours(along, SPEC)[3].tolist() == [3, 3, 4]


def test_a_change_of_slice_distance_is_no_gap() -> None:
    """A scan of 4 mm slices below and 7 mm slices above is linked throughout."""
    along = np.cumsum([0.0, *[4.0] * 6, 1.1, *[7.0] * 6]).tolist()
    found = neighbours(along, SPEC)
    assert found[3].tolist() == [2, 3, 4]
    assert found[9].tolist() == [8, 9, 10]


def test_a_single_slice_has_itself_for_neighbours() -> None:
    """One slice gives one input."""
    assert neighbours([12.5], SPEC).tolist() == [[0, 0, 0]]
    assert preprocess(head(1), SPACING_MM, [12.5], SPEC).shape == (1, 9, 64, 64)


def test_channels_are_the_windows_of_below_here_and_above() -> None:
    """Channel 3 is the brain window of the slice itself, channel 0 that of the one below."""
    images = preprocess(head(), SPACING_MM, positions(12), SPEC)
    assert images.shape == (12, 9, 64, 64)
    assert images.dtype == torch.float32
    middle = images[5, :, 32, 32]
    assert middle[[0, 3, 6]].tolist() == pytest.approx([38 / 80, 40 / 80, 42 / 80])
    assert middle[4].item() == pytest.approx(60 / 200)


def test_windows_clip_at_both_ends() -> None:
    """Values outside of a window are 0 and 1."""
    shown = windows(torch.tensor([[[-500, 40, 900]]], dtype=torch.int16), SPEC)
    assert shown[0, 0, 0].tolist() == [0.0, 0.5, 1.0]


def test_reversing_the_series_reverses_the_input() -> None:
    """Upside down gives the same slices in the other order, their neighbours swapped."""
    hu = head()
    upright = preprocess(hu, SPACING_MM, positions(12), SPEC)
    reversed_ = preprocess(hu.flip(0), SPACING_MM, positions(12), SPEC)
    swapped = reversed_.flip(0).reshape(12, 3, 3, 64, 64).flip(1).reshape(12, 9, 64, 64)
    assert torch.equal(upright, swapped)


def test_shifting_the_table_changes_nothing() -> None:
    """Only distances count, not where the scanner puts its origin."""
    here = preprocess(head(), SPACING_MM, positions(12), SPEC)
    there = preprocess(head(), SPACING_MM, [p - 731.25 for p in positions(12)], SPEC)
    assert torch.equal(here, there)


def test_a_series_without_a_position_for_every_slice_is_refused() -> None:
    """A mistake of the caller is not papered over."""
    with pytest.raises(ValueError, match="one position per slice"):
        preprocess(head(), SPACING_MM, positions(11), SPEC)
