"""Areas become millilitres, and masks find back to the pixels that they are of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy import ndimage
from torch.nn import functional

from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import Box, cut, standardise
from ichnode.nets.volume import (
    image_mm2,
    onto_slice,
    raw_volumes_ml,
    scaled_volumes_ml,
    slab_extents_mm,
    slice_extents_mm,
)
from ichnode.phantom import simulate_head
from ichnode.phantom.head import SimulatedHead

SPEC = PreprocessSpec(size_px=128, windows_hu=((0.0, 80.0),))
PLACES = SPEC.size_px // 4


@pytest.fixture(scope="module")
def head() -> SimulatedHead:
    return simulate_head(900_021, bleeds=["subdural", "intraparenchymal"], slices=16, size_px=256)


def places(kinds: npt.NDArray[np.uint8], box: Box) -> torch.Tensor:
    """A perfect mask of a quarter of the image's size: the share of each place that is blood."""
    part = cut(torch.from_numpy((kinds > 0).astype(np.float32)), box, 0)
    return functional.interpolate(
        part[:, None], size=(PLACES, PLACES), mode="bilinear", antialias=True, align_corners=False
    )[:, 0]


def test_a_slice_stands_for_half_the_way_to_its_neighbours() -> None:
    """Thin slices below, thick ones above: together they are as long as the scan is."""
    positions = [0.0, 2.0, 4.0, 6.0, 11.0, 16.0, 21.0]
    extents = slice_extents_mm(positions, 2.0, SPEC)
    assert extents.tolist() == [2.0, 2.0, 2.0, 3.5, 5.0, 5.0, 5.0]
    assert slice_extents_mm([3.0], 5.0, SPEC).tolist() == [5.0]


def test_a_gap_is_not_filled() -> None:
    """What nobody scanned is no volume: the slices beside it keep their usual extent."""
    positions = [0.0, 5.0, 10.0, 15.0, 40.0, 45.0, 50.0]
    assert slice_extents_mm(positions, 5.0, SPEC).tolist() == [5.0] * 7


def test_slabs_stand_for_all_of_their_slices() -> None:
    """Four slices of 1.25 mm are one of 5 mm."""
    positions = [1.25 * index for index in range(8)]
    assert slab_extents_mm(((0, 4), (4, 8)), positions, 1.25, SPEC).tolist() == [5.0, 5.0]


def test_perfect_masks_add_up_to_the_true_volume(head: SimulatedHead) -> None:
    """Whatever the crop and the size, areas times extents are the voxels' volume."""
    positions = (head.spacing_mm[0] * np.arange(len(head.hu))).tolist()
    stack = standardise(torch.from_numpy(head.hu), head.spacing_mm, positions, SPEC)
    areas = places(head.mask, stack.box).mean(dim=(1, 2), dtype=torch.float64)[:, None].numpy()
    extents = slab_extents_mm(stack.slabs, positions, head.spacing_mm[0], SPEC)
    found = raw_volumes_ml(areas, image_mm2(stack, head.spacing_mm), extents)
    true = (head.mask > 0).sum() * np.prod(head.spacing_mm) / 1000
    assert true > 5
    assert float(found[0]) == pytest.approx(true, rel=0.01)


def test_a_mask_comes_back_to_the_pixels_it_was_of(head: SimulatedHead) -> None:
    """Painted in native pixels, cut out, reduced to places and brought back: its edge is where it
    was, within a pixel; so it is with a head that reaches beyond the image.
    """
    kinds = np.zeros_like(head.mask)
    kinds[:, 90:130, 100:150] = 1
    kinds[8, 60:80, 170:200] = 1
    for hu, painted in ((head.hu, kinds), (head.hu[:, :, 60:], kinds[:, :, 60:])):
        box = standardise(torch.from_numpy(hu), head.spacing_mm, [5.0 * i for i in range(16)], SPEC)
        back = onto_slice(places(painted, box.box)[8], box.box, painted.shape[1:]).numpy() > 0.5
        true = painted[8] > 0
        assert back.shape == true.shape
        pixels = max(box.box.height / PLACES / 2, 1.0)  # half a place: corners are cut
        off = np.where(true, ndimage.distance_transform_edt(true), 0)
        outside = np.where(~true, ndimage.distance_transform_edt(~true), 0)
        assert outside[back].max(initial=0) <= 1
        assert off[~back].max(initial=0) <= pixels
        rows = [np.flatnonzero(mask[:, 115 - 256 + hu.shape[2]]) for mask in (back, true)]
        assert abs(rows[0][0] - rows[1][0]) <= 1
        assert abs(rows[0][-1] - rows[1][-1]) <= 1


def test_what_lies_beyond_the_slice_is_left_out() -> None:
    """A box that is larger than the image puts its middle there and nothing else."""
    mask = torch.zeros(4, 4)
    mask[1, 2] = 1.0
    found = onto_slice(mask, Box(top=-8, left=-8, height=32, width=32), (16, 16))
    assert found.shape == (16, 16)
    rows, columns = torch.where(found > 0.6)
    assert rows.float().mean() == pytest.approx(8 + 4 - 8 - 0.5, abs=0.5)
    assert columns.float().mean() == pytest.approx(16 + 4 - 8 - 0.5, abs=0.5)
    nowhere = onto_slice(torch.ones(4, 4), Box(top=4, left=4, height=8, width=8), (16, 16))
    assert float(nowhere.sum()) == pytest.approx(64)


def test_a_kind_has_no_more_than_all_blood() -> None:
    """Whatever its own scale says: it is a part of it."""
    raw = np.array([[10.0, 9.0, 1.0], [0.0, 2.0, 0.0]])
    scaled = scaled_volumes_ml(raw, (1.0, 2.0, 2.0))
    assert scaled.tolist() == [[10.0, 10.0, 2.0], [0.0, 0.0, 0.0]]
