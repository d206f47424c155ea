"""Undoing the clip of a windowed picture, on simulated heads whose Hounsfield units are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ichnode.imaging.headtest import BRAIN_AREA_MM2, find_heads
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import head_box
from ichnode.phantom import SimulatedHead, simulate_head
from train.data.unclipping import AIR_HU, BONE_EDGE_HU, clip_to_grey, grey_to_hu

SPEC = PreprocessSpec(size_px=64, windows_hu=((0.0, 80.0),), context_slices=1)


@pytest.fixture(scope="module")
def heads() -> list[SimulatedHead]:
    """Three heads of 16 slices, with blood within the brain and on the bone."""
    kinds = (("intraparenchymal",), ("epidural",), ("subdural",))
    return [
        simulate_head(seed, bleeds=kind, size_px=192, slices=16, least_bleed_ml=20.0)
        for seed, kind in zip((11, 12, 13), kinds, strict=True)
    ]


def test_air_and_bone_are_put_back(heads):
    """Nearly all air and bone, and nearly nothing else: edges are partly both."""
    for head in heads:
        found = grey_to_hu(clip_to_grey(head.hu))
        air, bone = found == AIR_HU, found >= BONE_EDGE_HU
        assert air[head.hu < -500].mean() > 0.97
        assert (head.hu[air] < -200).mean() > 0.95
        assert bone[head.hu > 300].mean() > 0.96
        assert (head.hu[bone] > 150).mean() > 0.9
        truly, put = head.hu[head.hu > 300].mean(), found[head.hu > 300].mean()
        assert abs(put - truly) < 200


def test_blood_stays_blood(heads):
    """Less than one pixel of blood in fifty becomes bone, and those lie on the bone."""
    for head in heads:
        blood = head.mask > 0
        found = grey_to_hu(clip_to_grey(head.hu))
        assert (found[blood] >= BONE_EDGE_HU).mean() < 0.02
        assert (found[blood] == AIR_HU).sum() == 0


def test_a_dense_clot_within_the_brain_stays_at_the_high_end(heads):
    """Blood so dense that most of it is clipped is no bone as long as the skull is closed."""
    hu = heads[0].hu.copy()
    blood = heads[0].mask > 0
    hu[blood] += 20
    found = grey_to_hu(clip_to_grey(hu))
    assert (clip_to_grey(hu)[blood] == 255).mean() > 0.5
    assert (found[blood] >= BONE_EDGE_HU).mean() < 0.1


def test_what_lies_between_the_ends_is_not_touched(heads):
    """To half a grey; elsewhere each value is one of five."""
    hu = heads[0].hu
    found = grey_to_hu(clip_to_grey(hu))
    between = (hu > 1) & (hu < 79)
    assert np.abs(found[between] - hu[between]).max() <= 1
    assert set(np.unique(found[(found < 0) | (found > 80)])) == {-1000, 350, 900}


def test_the_head_is_found_where_it_was(heads):
    """The crop moves by less than four pixels of 192, and brain is seen in the same slices."""
    for head in heads:
        found = grey_to_hu(clip_to_grey(head.hu))
        true_box, box = (
            head_box(torch.from_numpy(hu), head.spacing_mm, SPEC) for hu in (head.hu, found)
        )
        assert abs(box.height - true_box.height) <= 4
        assert abs(box.top - true_box.top) <= 4
        truly, seen = (
            find_heads(hu, head.spacing_mm[1:]).brain_area_mm2 >= BRAIN_AREA_MM2
            for hu in (head.hu, found)
        )
        assert (truly != seen).mean() <= 0.13


def test_a_picture_by_itself_and_in_a_stack_are_the_same(heads):
    """Also in 16 bits, and in another window."""
    grey = clip_to_grey(heads[1].hu)
    whole = grey_to_hu(grey)
    assert np.array_equal(whole[7], grey_to_hu(grey[7]))
    assert np.array_equal(whole[7], grey_to_hu(grey[7].astype(np.uint16) * 257, largest=65535))
    wide = grey_to_hu(clip_to_grey(heads[1].hu, (-100, 200)), (-100, 200))
    soft = (heads[1].hu > -95) & (heads[1].hu < 190)
    assert np.abs(wide[soft] - heads[1].hu[soft]).max() <= 2


def test_empty_full_and_odd_pictures_do_no_harm():
    """Nothing is made up where no head is seen; what is no picture is refused."""
    assert (grey_to_hu(np.zeros((32, 40), np.uint8)) == 0).all()
    full = grey_to_hu(np.full((32, 40), 128, np.uint8))
    assert (full == 40).all()
    assert grey_to_hu(np.full((8, 8), 255, np.uint8)).shape == (8, 8)
    with pytest.raises(ValueError, match="lower and a higher"):
        grey_to_hu(np.zeros((8, 8), np.uint8), (80, 0))
    with pytest.raises(ValueError, match="pictures are"):
        grey_to_hu(np.zeros(8, np.uint8))
