"""Simulated bleeds: seen where labelled, lying where their kind belongs, leaking nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom import simulate_head
from ichnode.phantom.bleeds import KINDS
from ichnode.phantom.head import SimulatedHead

SIZE_PX = 128
SLICES = 28
SEEDS = (900_301, 900_302, 900_303)


@cache
def head_with(kind: Label | None, seed: int) -> SimulatedHead:
    bleeds = () if kind is None else (kind,)
    return simulate_head(seed, bleeds=bleeds, slices=SLICES, size_px=SIZE_PX, least_bleed_ml=6)


def bone_distance_mm(head: SimulatedHead) -> npt.NDArray[np.float64]:
    """Distance of every voxel from bone, slice by slice; (z, y, x), mm."""
    clear = head_with(None, head.seed).hu < 250
    return np.stack([distance_transform_edt(image) for image in clear]) * head.spacing_mm[1]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_follow_the_visible_blood(kind: Label, seed: int) -> None:
    """Labels and mask agree, every kind asked for is there, and "any" is the union."""
    head = head_with(kind, seed)
    index = LABELS.index(kind)
    shown = (head.mask == index).any(axis=(1, 2))
    assert shown.any()
    assert np.array_equal(head.labels[:, index], shown)
    assert np.array_equal(head.labels[:, 0], head.labels[:, 1:].any(axis=1))
    assert set(head.volumes_ml) == {kind}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_labelled_can_be_seen(kind: Label, seed: int) -> None:
    """The masked pixels are brighter than the same pixels of the same head without the bleed."""
    head, twin = head_with(kind, seed), head_with(None, seed)
    inside = head.mask > 0
    assert (head.hu[inside].astype(float) - twin.hu[inside]).mean() > 8
    assert 42 < np.median(head.hu[inside]) < 90


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_the_bleed_tells_positive_from_negative(kind: Label, seed: int) -> None:
    """Away from the blood, a head with and without a bleed have the same statistics."""
    head, twin = head_with(kind, seed), head_with(None, seed)
    # Blood under the visible threshold and oedema lie around the mask.
    around = binary_dilation(head.mask > 0, np.ones((3, 9, 9), bool), iterations=2)
    brain = (twin.hu > 10) & (twin.hu < 60) & (bone_distance_mm(twin) > 6) & ~around
    assert brain.sum() > 5000
    here, there = head.hu[brain].astype(float), twin.hu[brain].astype(float)
    assert abs(here.mean() - there.mean()) < 0.5
    assert abs(here.std() / there.std() - 1) < 0.05
    air = twin.hu < -900
    assert abs(head.hu[air].astype(float).mean() - twin.hu[air].mean()) < 0.5


@pytest.mark.parametrize("seed", SEEDS)
def test_epidural_blood_lies_against_the_skull(seed: int) -> None:
    """An epidural bleed reaches the bone and is thick for its breadth."""
    head = head_with("epidural", seed)
    away = bone_distance_mm(head)[head.mask > 0]
    assert np.percentile(away, 5) < 6
    assert away.max() < 40


@pytest.mark.parametrize("seed", SEEDS)
def test_intraventricular_blood_lies_in_the_ventricles(seed: int) -> None:
    """Intraventricular blood stands where there was fluid, deep in the head."""
    head, twin = head_with("intraventricular", seed), head_with(None, seed)
    inside = head.mask > 0
    assert np.median(bone_distance_mm(head)[inside]) > 20
    # Choroid plexus calcifies inside the ventricle, so the median and not the mean.
    assert np.median(twin.hu[inside]) < 28


@pytest.mark.parametrize("seed", SEEDS)
def test_intraparenchymal_blood_is_one_lump_in_the_brain(seed: int) -> None:
    """An intraparenchymal bleed is compact: it fills a good part of its own box."""
    head = head_with("intraparenchymal", seed)
    inside = np.argwhere(head.mask > 0)
    box = np.ptp(inside, axis=0) + 1
    assert len(inside) / box.prod() > 0.2


@pytest.mark.parametrize("seed", SEEDS)
def test_subarachnoid_blood_is_branched(seed: int) -> None:
    """Subarachnoid blood follows clefts: thin sheets, hardly ever far from their own edge."""
    head = head_with("subarachnoid", seed)
    depth = np.stack([distance_transform_edt(image) for image in head.mask > 0])
    assert np.percentile(depth[depth > 0], 75) * head.spacing_mm[1] < 5


@pytest.mark.parametrize("seed", SEEDS)
def test_subdural_blood_is_longer_than_thick(seed: int) -> None:
    """A subdural bleed is a crescent or a sheet over several slices."""
    head = head_with("subdural", seed)
    inside = head.mask > 0
    depth = np.stack([distance_transform_edt(image) for image in inside]) * head.spacing_mm[1]
    length = np.ptp(np.argwhere(inside), axis=0)[1:].max() * head.spacing_mm[1]
    assert length > 3 * depth.max()
    assert inside.any(axis=(1, 2)).sum() >= 3


def test_several_kinds_may_be_together() -> None:
    """Two kinds asked for give two kinds of label."""
    head = simulate_head(
        SEEDS[0],
        bleeds=("intraparenchymal", "intraventricular"),
        slices=SLICES,
        size_px=SIZE_PX,
        least_bleed_ml=8,
    )
    assert set(head.volumes_ml) == {"intraparenchymal", "intraventricular"}
    assert set(np.unique(head.mask)) == {0, 2, 3}


def test_masks_do_not_enter_bone() -> None:
    """Blood that bone outshines is not called visible."""
    for kind in ("epidural", "subdural"):
        head = head_with(kind, SEEDS[0])
        assert np.percentile(head.hu[head.mask > 0], 99) < 200
