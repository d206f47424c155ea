"""The gates that look at pixels: heads pass, everything else is refused for what it is."""

from __future__ import annotations

import numpy as np
import pytest

from ichnode.domain.errors import NotAnalysable
from ichnode.domain.reasons import Reason
from ichnode.imaging.appearance import judge_pixels
from tests import imaging_scans as scans

PLACES = np.array(scans.positions())
AXIS = (np.arange(scans.SIDE) - (scans.SIDE - 1) / 2) * scans.PIXEL_MM
Y, X = AXIS[None, :, None], AXIS[None, None, :]
Z = (PLACES - 50.0)[:, None, None]


@pytest.fixture
def head():
    return scans.head(scans.positions())


def judged(hu, kernel="unknown"):
    return judge_pixels(hu, PLACES, (2.0, 2.0), kernel, may_change=False)


def refused(hu, kernel="unknown") -> Reason:
    with pytest.raises(NotAnalysable) as caught:
        judged(hu, kernel)
    return caught.value.reason


def body(*shapes) -> np.ndarray:
    """Elliptic cylinders (y, x half axes; centre y, x; HU), later ones inside earlier ones."""
    hu = np.full((len(PLACES), scans.SIDE, scans.SIDE), -1000, dtype=np.int16)
    for ay, ax, cy, cx, value in shapes:
        hu[:, (((Y - cy) / ay) ** 2 + ((X - cx) / ax) ** 2 <= 1)[0]] = value
    return hu + np.random.default_rng(1).normal(0, 4, hu.shape).astype(np.int16)


def test_a_head_passes_and_is_measured(head):
    """Brain coverage and noise are those of the simulated head."""
    seen = judged(head)
    assert 110 <= seen.brain_mm <= 145
    assert seen.noise_hu == pytest.approx(3.0, abs=0.5)
    assert seen.vessel_fraction == 0.0
    assert seen.warnings == ()


@pytest.mark.parametrize(
    "shapes",
    [
        [(100, 100, 0, 0, 0)],
        [(110, 125, 0, 0, 50), (20, 20, 60, 0, 600), (30, 40, -30, 50, 60)],
        [(110, 125, 0, 0, 40), (70, 45, 0, -60, -850), (70, 45, 0, 60, -850)],
        [(60, 60, 0, 0, 50), (15, 15, 0, 0, 900)],
        [(90, 75, 0, 0, 20), (80, 65, 0, 0, 900), (70, 55, 0, 0, -900)],
        [(90, 75, 0, 0, 900)],
    ],
    ids=["water", "abdomen", "thorax", "limb", "empty skull", "solid bone"],
)
def test_what_is_no_head_is_refused(shapes):
    """No ring of bone around brain, no head."""
    assert refused(body(*shapes)) is Reason.NOT_HEAD


def test_a_head_holder_does_not_hide_the_head(head):
    """The thin shell that the head lies in is opened away."""
    shell = np.abs(np.hypot(Y, X) - 118) < 2
    head[:, (shell & (Y > 60))[0]] = -100
    assert judged(head).brain_mm > 100


def test_a_head_with_part_of_the_skull_removed_is_a_head(head):
    """A craniectomy leaves most of the ring."""
    gap = (X > 40) & (np.abs(Y) < 40) & np.ones_like(Z, dtype=bool)
    head[gap & (head > 400)] = 40
    assert judged(head).brain_mm > 100


def test_dense_blood_is_not_contrast_medium(head):
    """A large acute haematoma of 85 HU passes every gate."""
    head[((Y / 25) ** 2 + ((X - 30) / 20) ** 2 + (Z / 30) ** 2) <= 1] = 85
    assert judged(head).vessel_fraction == 0.0


def test_calcifications_are_not_contrast_medium(head):
    """Calcified choroid plexus and pineal gland stay below the limit."""
    for x in (-24, 24, 0):
        head[((Y - 20) / 5) ** 2 + ((X - x) / 5) ** 2 + (Z / 6) ** 2 <= 1] = 300
    seen = judged(head)
    assert 0 < seen.vessel_fraction < 0.003


def test_a_metal_clip_is_not_contrast_medium(head):
    """What reaches the density of metal is left out, with the streaks that hang on it."""
    head[(Y / 14) ** 2 + ((X - 10) / 14) ** 2 + (Z / 12) ** 2 <= 1] = 200
    head[(Y / 5) ** 2 + ((X - 10) / 5) ** 2 + (Z / 6) ** 2 <= 1] = 3000
    assert judged(head).vessel_fraction == 0.0


def test_filled_vessels_are_contrast_medium(head):
    """Arteries of 250 HU through the brain refuse the series, whatever its tags say."""
    for x in (-30, -15, 15, 30):
        head[((Y / 4) ** 2 + ((X - x) / 4) ** 2 <= 1) & (np.abs(Z) < 45)] = 250
    assert refused(head) is Reason.CONTRAST


def test_the_noise_of_a_bone_kernel_is_seen_where_its_name_is_not():
    """Sharp noise refuses an unknown kernel; a soft one may be noisy, with a warning."""
    noisy = scans.head(scans.positions(), noise_hu=25)
    assert refused(noisy) is Reason.SHARP_KERNEL
    seen = judged(noisy, "soft")
    assert seen.noise_hu == pytest.approx(25, rel=0.15)
    assert len(seen.warnings) == 1


def test_thin_soft_noise_is_accepted():
    """Eight units of noise are a thin soft series."""
    assert judged(scans.head(scans.positions(), noise_hu=8)).warnings == ()


def test_a_lost_sign_is_refused_and_not_repaired(head):
    """Air at 3096 is 12-bit air without its sign."""
    wrapped = np.where(head < 0, head + 4096, head).astype(np.int16)
    assert refused(wrapped) is Reason.IMPLAUSIBLE_HOUNSFIELD


def test_a_missing_offset_is_refused(head):
    """Where air reads 24 there is no air."""
    assert refused(head + np.int16(1024)) is Reason.IMPLAUSIBLE_HOUNSFIELD


@pytest.mark.parametrize("offset", [-30, 35])
def test_brain_that_does_not_read_as_brain_is_refused(head, offset):
    """A small wrong offset is indistinguishable from disease, so the median decides."""
    assert refused(head + np.int16(offset)) in (Reason.IMPLAUSIBLE_HOUNSFIELD, Reason.NOT_HEAD)


def test_every_refusal_is_asked_again_while_slices_may_come():
    """Water now may be a head later."""
    with pytest.raises(NotAnalysable) as caught:
        judge_pixels(body((100, 100, 0, 0, 0)), PLACES, (2.0, 2.0), "soft", may_change=True)
    assert caught.value.may_change


def test_the_top_of_a_head_is_a_partial_head(head):
    """Too few head slices in a row are stated as such."""
    with pytest.raises(NotAnalysable) as caught:
        judge_pixels(head[-11:], PLACES[-11:], (2.0, 2.0), "soft", may_change=False)
    assert caught.value.reason is Reason.PARTIAL_HEAD
