"""Randomised series: the same by seed, true to their labels, no leak beside the blood."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom.randomised.bleeds import KINDS, Bleed, paint_bleed
from ichnode.phantom.randomised.maps import MAPS, AnatomyMaps, procedural_maps, template_maps
from ichnode.phantom.randomised.series import RandomisedSeries, simulate_series
from ichnode.phantom.randomised.space import draw_geometry, draw_space
from ichnode.phantom.randomised.tissue import draw_head

SIZE_PX = 64


@functools.cache
def anatomy() -> AnatomyMaps:
    return procedural_maps(3, voxel_mm=3.0)


@functools.cache
def series(seed: int, kinds: tuple[Label, ...] | None = None) -> RandomisedSeries:
    return simulate_series(anatomy(), seed, size_px=SIZE_PX, kinds=kinds)


def named(maps: AnatomyMaps, name: str) -> np.ndarray:
    return maps.maps[MAPS.index(name)].numpy()


def test_a_seed_gives_one_series() -> None:
    """The same pixels and truth again; another seed gives another head and another scan."""
    again = simulate_series(anatomy(), 5, size_px=SIZE_PX)
    assert np.array_equal(series(5).hu, again.hu)
    assert np.array_equal(series(5).kinds, again.kinds)
    assert np.array_equal(series(5).labels, again.labels, equal_nan=True)
    assert series(5).geometry != series(6).geometry


@pytest.mark.parametrize("kind", KINDS)
def test_blood_is_where_the_truth_says(kind: Label) -> None:
    """Denser than the same head without it, nowhere else another, and nothing else is labelled."""
    for seed in range(8):
        bled, plain = series(seed, (kind,)), series(seed, ())
        index = LABELS.index(kind)
        assert set(np.unique(bled.kinds)) <= {0, index}
        others = [i for i in range(1, len(LABELS)) if i != index]
        assert not bled.labels[:, others].any()
        shown = bled.kinds > 0
        assert np.array_equal(bled.labels[:, index] == 1, bled.labels[:, 0] == 1)
        assert shown[bled.labels[:, 0] == 1].any(axis=(1, 2)).all()
        assert not shown[bled.labels[:, 0] == 0].any()
        if bled.volumes_ml[kind] > 5:
            assert np.median(bled.hu[shown].astype(int) - plain.hu[shown]) > 8
            brain = plain.hu[(plain.hu > 10) & (plain.hu < 60)]
            assert bled.hu[shown].mean() > np.median(brain) + 4


def test_a_head_without_blood_is_labelled_so() -> None:
    """No kind, no label and no volume."""
    plain = series(2, ())
    assert not plain.kinds.any()
    assert not plain.labels.any()
    assert plain.volumes_ml == {}


def test_chance_bleeds_half_of_the_heads() -> None:
    """Both classes are there, and more than one kind."""
    found = [series(seed) for seed in range(24)]
    positive = [one for one in found if one.volumes_ml]
    assert 6 <= len(positive) <= 18
    assert len({kind for one in positive for kind in one.volumes_ml}) >= 3


def test_nothing_beside_the_blood_tells_that_there_is_some() -> None:
    """Air, bone, noise and brain far from blood are alike with and without it.

    A simulator that brightens the background of positives teaches a network to look there.
    """
    rows = []
    for seed in range(40, 70):
        bled, plain = series(seed, ("intraparenchymal",)), series(seed + 500, ())
        near = ndimage.binary_dilation(bled.kinds > 0, iterations=8)
        for one, away, positive in ((bled, ~near, 1), (plain, near, 0)):
            hu = one.hu[:, :, :]
            where = np.broadcast_to(away, hu.shape) if positive else np.ones(hu.shape, bool)
            brain = hu[where & (hu > 15) & (hu < 60)]
            rows.append(
                (
                    positive,
                    hu[where & (hu < -800)].mean(),
                    (hu > 300).mean(),
                    brain.mean(),
                    brain.std(),
                )
            )
    table = np.array(rows)
    for column in range(1, table.shape[1]):
        area = roc_auc_score(table[:, 0], table[:, column])
        assert 0.25 < area < 0.75, f"column {column}: {area}"


def test_a_scan_looks_like_one() -> None:
    """Air around a skull around a brain, and slices as the geometry says."""
    for seed in range(6):
        one = series(seed, ())
        middle = one.hu[len(one.hu) // 2]
        assert middle[[0, 0, -1, -1], [0, -1, 0, -1]].max() < -300  # the corners
        assert (middle > 300).mean() > 0.02
        brain = middle[(middle > 0) & (middle < 70)]
        assert 20 < np.median(brain) < 45
        assert len(one.hu) == one.geometry.slices
        assert one.geometry.spacing_mm[1] * SIZE_PX > 180


def test_maps_of_a_template_know_the_cavity() -> None:
    """Depth is positive inside, the ventricles lie deep, and the skull is outside."""
    drawn = procedural_maps(4)
    hu, grey, white, fluid = (
        named(drawn, name).transpose(2, 1, 0) for name in ("head", "grey", "white", "fluid")
    )
    brain = grey + white + fluid > 0.5
    found = template_maps(
        hu, np.where(brain, hu, -1000), grey, white, fluid,
        origin_mm=drawn.origin_mm, voxel_mm=drawn.voxel_mm,
    )  # fmt: skip
    depth, cavity = named(found, "depth"), named(found, "cavity")
    assert np.corrcoef(depth.ravel(), named(drawn, "depth").ravel().clip(-40, 70))[0, 1] > 0.9
    assert (depth[cavity > 0.9] > 0).mean() > 0.97
    assert (named(found, "head")[(depth < -1) & (depth > -4)] > 200).mean() > 0.3
    vent = named(found, "ventricle") > 0.5
    assert vent.any()
    assert depth[vent].min() > 15


def test_the_cavity_ends_at_thin_bone_that_an_average_has_blurred() -> None:
    """As beside the temples: a peak of 290 HU between brain and scalp, lower than bone is."""
    z, y, x = np.meshgrid(*[np.arange(-50, 51, 2)] * 3, indexing="ij")
    away_mm = np.sqrt(x**2 + y**2 + z**2)
    hu = np.select([away_mm < 34, away_mm < 38, away_mm < 46], [32.0, 290.0, 20.0], -1000.0)
    brain = np.where(away_mm < 30, hu, -1000.0)
    tissue = (away_mm < 30) / 3
    maps = template_maps(
        hu, brain, tissue, tissue, tissue, origin_mm=(-50.0, -50.0, -50.0), voxel_mm=2.0
    )
    depth_mm, under_mm = named(maps, "depth"), named(maps, "under")
    assert (depth_mm[away_mm < 30] > 0).all()
    assert (depth_mm[away_mm > 38] < 0).all()
    assert (under_mm[away_mm < 43] > 0).all()
    assert (under_mm[away_mm > 49] < 0).all()


def test_most_epidural_bleeds_end_at_the_sutures() -> None:
    """One that begins left of the midline and in front of the coronal suture stays there."""
    chance = torch.Generator().manual_seed(3)
    rng = np.random.default_rng(3)
    space = draw_space(rng, chance, draw_geometry(rng, 48))
    head = draw_head(rng, anatomy(), space, space)
    crossed = 0
    for seed in range(20):
        bleed = Bleed("epidural", (-0.3, 0.8, 0.3), 20.0, 0.0)
        amount, _ = paint_bleed(np.random.default_rng(seed), head, bleed)
        clot = amount > 0.5
        assert clot.any()
        beyond = (space.x > 5) | (space.y < 10)
        crossed += bool((clot & beyond).sum() > 0.02 * clot.sum())
    assert 1 <= crossed <= 8
