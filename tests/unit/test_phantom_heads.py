"""Simulated heads: what any head must be, bleed or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from ichnode.imaging.headtest import find_heads
from ichnode.phantom import simulate_head
from ichnode.phantom.head import SimulatedHead

SEED = 900_200
SIZE_PX = 128


@pytest.fixture(scope="module")
def plain_heads() -> list[SimulatedHead]:
    return [simulate_head(SEED + k, bleeds=(), size_px=SIZE_PX) for k in range(4)]


def test_the_same_seed_gives_the_same_head() -> None:
    """Two calls agree to the last bit, and the next seed gives another head."""
    one, two, other = (simulate_head(seed, size_px=96, slices=8) for seed in (SEED, SEED, SEED + 1))
    assert np.array_equal(one.hu, two.hu)
    assert np.array_equal(one.labels, two.labels)
    assert np.array_equal(one.mask, two.mask)
    assert not np.array_equal(one.hu, other.hu)


def test_a_head_without_bleeds_has_no_label(plain_heads: list[SimulatedHead]) -> None:
    """An empty tuple of bleeds means none, in mask, labels and volumes alike."""
    for head in plain_heads:
        assert not head.labels.any()
        assert not head.mask.any()
        assert head.volumes_ml == {}
        assert not head.positive


def test_shapes_and_types(plain_heads: list[SimulatedHead]) -> None:
    """Arrays have the promised axes and types."""
    for head in plain_heads:
        z = head.hu.shape[0]
        assert head.hu.dtype == np.int16
        assert head.hu.shape == head.mask.shape == (z, SIZE_PX, SIZE_PX)
        assert head.labels.shape == (z, 6)
        assert head.mask.dtype == np.uint8
        assert 130 < z * head.spacing_mm[0] < 175


def test_tissues_have_their_densities(plain_heads: list[SimulatedHead]) -> None:
    """Brain reads 20 to 45 HU, bone over 300, air under -900."""
    for head in plain_heads:
        middle = head.hu[round(0.55 * len(head.hu))]
        bone = middle > 300
        assert bone.mean() > 0.02
        deep = distance_transform_edt(~bone) * head.spacing_mm[1] > 20
        centre = np.zeros_like(deep)
        quarter = SIZE_PX // 4
        centre[quarter:-quarter, quarter:-quarter] = True
        assert 20 < np.median(middle[deep & centre]) < 45
        assert np.median(middle[:6, :]) < -900
        assert np.percentile(middle[bone], 75) > 600


def test_the_brain_is_wide_of_density(plain_heads: list[SimulatedHead]) -> None:
    """There is fluid as well as brain: a head is not a filled balloon."""
    for head in plain_heads:
        inside = find_heads(head.hu, head.spacing_mm[1:])
        brain = head.hu[inside.is_head][:, :: inside.stride, :: inside.stride][
            inside.inside[inside.is_head]
        ]
        assert np.percentile(brain, 2) < 22
        assert np.percentile(brain, 90) > 33


def test_every_head_passes_the_head_test(plain_heads: list[SimulatedHead]) -> None:
    """The node's own gate takes a simulated head for a head, with enough of its brain."""
    for head in plain_heads:
        heads = find_heads(head.hu, head.spacing_mm[1:])
        places = np.arange(len(head.hu)) * head.spacing_mm[0]
        assert heads.longest_run >= 12
        assert heads.brain_mm(places) >= 60


def test_about_half_of_the_seeds_bleed() -> None:
    """Where the seed decides, neither bleeds nor their absence are rare."""
    positive = [simulate_head(SEED + k, size_px=64, slices=12).positive for k in range(30)]
    assert 7 <= sum(positive) <= 22


def test_spacing_and_slices_are_kept_where_given() -> None:
    """A caller's geometry is used as it stands."""
    head = simulate_head(SEED, bleeds=(), slices=9, spacing_mm=(2.5, 1.7, 1.7), size_px=128)
    assert head.hu.shape == (9, 128, 128)
    assert head.spacing_mm == (2.5, 1.7, 1.7)
    assert head.thickness_mm == 2.5


def test_a_bone_kernel_is_noisier_and_keeps_the_truth() -> None:
    """A sharp reconstruction has several times the noise and the same bleed."""
    soft, sharp = (
        simulate_head(SEED, bleeds=("epidural",), slices=12, size_px=128, kernel=kernel)
        for kernel in ("soft", "bone")
    )
    assert np.array_equal(soft.labels, sharp.labels)
    rough = [np.diff(head.hu[8, 50:80, 50:80].astype(float)).std() for head in (soft, sharp)]
    assert rough[1] > 3 * rough[0]


def test_every_size_shows_the_same_head() -> None:
    """In-plane resolution changes neither the anatomy nor where the bleed is."""
    coarse, fine = (
        simulate_head(SEED, bleeds=("intraparenchymal",), slices=12, size_px=n, least_bleed_ml=8)
        for n in (96, 192)
    )
    shrunk = fine.hu.reshape(12, 96, 2, 96, 2).mean(axis=(2, 4))
    close = np.abs(shrunk - coarse.hu)[:, 20:76, 20:76]
    assert np.median(close) < 8
    assert (coarse.labels != fine.labels).sum() <= 2


@pytest.mark.parametrize(
    ("seed", "kwargs"),
    [
        (-1, {}),
        (SEED, {"size_px": 8}),
        (SEED, {"slices": 0}),
        (SEED, {"bleeds": ("any",), "size_px": 64}),
    ],
)
def test_nonsense_is_refused(seed: int, kwargs: dict[str, object]) -> None:
    """A negative seed, an impossible matrix and "any" as a kind of bleed are errors."""
    with pytest.raises(ValueError, match=r"range|not a kind"):
        simulate_head(seed, **kwargs)
