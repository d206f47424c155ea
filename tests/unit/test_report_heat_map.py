"""The heat map on the key image: where the model suspects blood, in colour, beside the slice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom import dcmread

from ichnode.imaging.masks import LEAST_CHANCE, Heat
from ichnode.report.stage import ReportStage
from ichnode.report.wash import laid, scale, washed
from ichnode.settings import ReportSettings
from ichnode.spool import resolve
from tests.documents import document_work, keep_series, result, with_heat, with_volume

BANNER, SIDE, LEGEND = 40, 512, 64
PLAIN = (slice(BANNER, BANNER + SIDE), slice(0, SIDE))
MARKED = (slice(BANNER, BANNER + SIDE), slice(SIDE + 1, 2 * SIDE))  # a rule stands between them


def key_image(spool, *, settings=None, chance=255, mask=None, slices=None, change=None):
    """The key image of a model that suspects blood in one square of its slice.

    The slice of 64 x 64 pixels is parted into 16 x 16 places and shown as 512 x 512.
    """
    instances = keep_series(spool, 5, **(slices or {}))
    chances = np.zeros((16, 16), np.uint8)
    chances[8:12, 4:8] = chance
    whole = with_heat(result([one.header.sop_uid for one in instances]), chances, (0, 0, 64, 64))
    if mask is not None:
        whole = with_volume(whole, 12.3, mask)
    if change is not None:
        whole = replace(whole, key_heat=change(whole.key_heat))
    stage = ReportStage(spool, settings or ReportSettings())
    built = stage.handle(document_work(instances, "sc", result=whole))
    return dcmread(resolve(spool, built.path)).pixel_array.astype(int)


def coloured(pixels):
    """Where a picture is not grey."""
    return pixels.max(axis=2) - pixels.min(axis=2) > 0


def test_a_wash_lies_on_a_second_slice_and_the_first_stays_plain(tmp_path):
    """Colour where the model suspects blood and nowhere else; below it a scale."""
    pixels = key_image(tmp_path)
    assert pixels.shape[1:] == (2 * SIDE, 3)
    assert not coloured(pixels[PLAIN]).any()
    suspect = np.zeros((SIDE, SIDE), bool)
    suspect[256:384, 128:256] = True
    near = np.zeros((SIDE, SIDE), bool)
    near[256 - 24 : 384 + 24, 128 - 24 : 256 + 24] = True  # it thins out within a place
    found = coloured(pixels[MARKED])
    assert found[suspect[:, 1:]].all()
    assert not found[~near[:, 1:]].any()
    grey, red = pixels[PLAIN][300, 180], pixels[MARKED][300, 179]
    assert red[0] > grey[0] > 0
    assert red[0] > 2 * red[1]
    legend = pixels[BANNER + SIDE : BANNER + SIDE + LEGEND]
    assert legend[:, SIDE + 1 : SIDE + 200].max() > 200  # its name
    assert coloured(legend).sum() > 800  # its scale


def test_the_slice_shines_through_the_wash(tmp_path):
    """Blood stays brighter than the brain around it, under the strongest colour too."""
    everywhere = np.full((16, 16), 255, np.uint8)
    instances = keep_series(tmp_path, 5)
    whole = result([one.header.sop_uid for one in instances])
    work = document_work(instances, "sc", result=with_heat(whole, everywhere, (0, 0, 64, 64)))
    built = ReportStage(tmp_path, ReportSettings()).handle(work)
    pixels = dcmread(resolve(tmp_path, built.path)).pixel_array.astype(int)
    blood, brain = pixels[MARKED][275, 290], pixels[MARKED][200, 250]
    assert (blood - brain >= 40).all()


def test_an_outline_lies_over_the_wash(tmp_path):
    """Both on the same slice, told apart by colour."""
    mask = np.zeros((64, 64), bool)
    mask[34:46, 18:30] = True
    pixels = key_image(tmp_path, mask=mask)
    assert pixels.shape[1:] == (2 * SIDE, 3)
    assert not coloured(pixels[PLAIN]).any()
    marked = pixels[MARKED]
    line = marked[271, 143:238]  # the row above the mask
    assert (line[:, 2] > 200).mean() > 0.9
    inside = marked[300, 180]
    assert inside[0] > inside[2]


def test_the_setting_switches_it_off(tmp_path):
    """Then the picture is the one slice, or with an outline the two, as ever."""
    off = ReportSettings(heat_map=False)
    assert key_image(tmp_path, settings=off).shape == (552, 852, 3)
    mask = np.zeros((64, 64), bool)
    mask[34:46, 18:30] = True
    pixels = key_image(tmp_path, settings=off, mask=mask)
    assert pixels.shape[1:] == (2 * SIDE, 3)
    assert not coloured(pixels[MARKED])[280:360, 150:230].any()


@pytest.mark.parametrize(
    "change",
    [
        lambda heat: None,
        lambda heat: replace(heat, packed="AAAA"),
        lambda heat: replace(heat, packed=None),
        lambda heat: replace(heat, rows=128),
        lambda heat: replace(heat, slice_uid="1.2.3"),
        lambda heat: replace(heat, places=2_000_000),
        lambda heat: replace(heat, width=10**400),
        lambda heat: replace(heat, left=64),
    ],
    ids=["none", "damaged", "no text", "another size", "another slice", "huge", "far", "beside"],
)
def test_a_heat_map_that_does_not_fit_is_not_shown(tmp_path, change):
    """The key image is made all the same, as it is without one."""
    assert key_image(tmp_path, change=change).shape == (552, 852, 3)


def test_what_hardly_speaks_for_blood_is_not_shown(tmp_path):
    """Below the least chance there is no wash, and no second slice without anything on it."""
    least = round(255 * LEAST_CHANCE)
    assert key_image(tmp_path, chance=least - 3).shape == (552, 852, 3)
    assert key_image(tmp_path, chance=least + 3).shape[1:] == (2 * SIDE, 3)


def test_only_an_axial_slice_has_one(tmp_path):
    """On a slice of which the sides are not known no place is claimed."""
    coronal = {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}
    assert key_image(tmp_path, slices=coronal).shape == (552, 852, 3)


def test_a_mirrored_slice_has_it_in_the_same_place(tmp_path):
    """Heat maps are of the upright slice, however its rows and columns were sent."""
    turned = {"ImageOrientationPatient": [-1, 0, 0, 0, -1, 0]}
    upright, other = key_image(tmp_path), key_image(tmp_path, slices=turned)
    assert np.array_equal(coloured(other[MARKED]), coloured(upright[MARKED]))


def test_it_is_laid_where_its_box_is():
    """In pixels of the slice, whatever the size of the picture; beyond the box is nothing."""
    chances = np.full((8, 8), 255, np.uint8)
    found = laid(Heat(chances, (16, -8, 32, 24)), (64, 48), (512, 384))
    assert found.shape == (512, 384)
    assert found.dtype == np.float32
    inside = np.zeros((512, 384), bool)
    inside[128:384, :128] = True
    assert np.allclose(found[inside], 1)
    assert not found[~inside].any()


def test_it_is_laid_smoothly_and_keeps_its_heights():
    """The middle of each place has the chance of that place."""
    rng = np.random.default_rng(3)
    chances = rng.integers(0, 256, (8, 8), np.uint8)
    found = laid(Heat(chances, (0, 0, 8 * 9, 8 * 9)), (72, 72), (72, 72))
    assert np.allclose(found[4::9, 4::9], chances / 255, atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1
    steps = np.abs(np.diff(found, axis=0))
    assert steps.max() < 0.25


def test_colours_thicken_in_order():
    """Nothing below the least chance; from there each is redder than the one before."""
    grey = np.full((1, 91), 100, np.uint8)
    chances = np.linspace(LEAST_CHANCE, 1, 91, dtype=np.float32)[None]
    line = washed(grey, chances)[0].astype(int)
    assert (line[0] == 100).all()
    assert (np.diff(line[:, 0] - line[:, 1]) >= -1).all()
    quarter, half, certain = line[15], line[40], line[90]
    assert quarter[0] - quarter[2] > 40  # yellow
    assert half[0] - half[1] > 30  # orange
    assert certain[0] - certain[1] > 90  # red
    faint = np.linspace(0, LEAST_CHANCE * 0.999, 91, dtype=np.float32)[None]
    assert (washed(grey, faint) == 100).all()


def test_the_scale_shows_the_wash_itself():
    """From the least chance on the left to certainty on the right."""
    found = scale(91, 4, 100)
    assert found.shape == (4, 91, 3)
    line = washed(np.full((1, 91), 100, np.uint8), np.linspace(LEAST_CHANCE, 1, 91)[None])
    assert np.array_equal(found[2], line[0])
