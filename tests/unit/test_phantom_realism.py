"""Stages of simulated series that are switched off: gone, and nothing else is another."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from ichnode.phantom.randomised.maps import AnatomyMaps, procedural_maps
from ichnode.phantom.randomised.realism import WHOLE, Realism
from ichnode.phantom.randomised.scanner import expose
from ichnode.phantom.randomised.series import RandomisedSeries, simulate_series
from ichnode.phantom.randomised.space import Geometry

SIZE_PX = 64
SEEDS = range(60, 66)
NO_GRAIN, NO_DISTRACTORS, ALL_BLOOD = (
    Realism(grain=False),
    Realism(distractors=False),
    Realism(visibility=False),
)


@functools.cache
def anatomy() -> AnatomyMaps:
    return procedural_maps(3, voxel_mm=3.0)


@functools.cache
def series(
    seed: int, realism: Realism = WHOLE, kinds: tuple[str, ...] | None = ("subdural",)
) -> RandomisedSeries:
    return simulate_series(anatomy(), seed, size_px=SIZE_PX, kinds=kinds, realism=realism)


def unrest(one: RandomisedSeries, where: np.ndarray) -> np.ndarray:
    """From each pixel to the one beside it: noise, and the edges of what is there."""
    return np.diff(one.hu.astype(float), axis=2)[where[:, :, 1:]]


@pytest.mark.parametrize("realism", [NO_GRAIN, NO_DISTRACTORS, ALL_BLOOD])
def test_what_is_switched_off_leaves_head_and_bleed_as_they_are(realism: Realism) -> None:
    """The same slices and the same blood in them, to the last bit where no bone flap is gone."""
    for seed in SEEDS:
        less, whole = series(seed, realism), series(seed)
        assert less.geometry == whole.geometry
        assert less.volumes_ml == pytest.approx(whole.volumes_ml, rel=0.02)


def test_noise_without_grain_is_that_of_each_pixel() -> None:
    """Of the same deviation, and its neighbours know nothing of each other; truth is the same."""
    geometry = Geometry(4, 96, 2.0, 5.0, 5.0, 2, 0.0)
    full = torch.ones(4, 96, 96)
    images = {}
    for grain in (True, False):
        how = Realism(grain=grain, distractors=False)
        rng, chance = np.random.default_rng(4), torch.Generator().manual_seed(5)
        image, noise_hu = expose(
            rng, chance, geometry, 40 * full, 0 * full, full, full, realism=how
        )
        images[grain] = (image - image.mean()).numpy()
        assert noise_hu == pytest.approx(images[grain].std() / 1.1, rel=0.02)
    likeness = {
        grain: np.corrcoef(image[:, :, 1:].ravel(), image[:, :, :-1].ravel())[0, 1]
        for grain, image in images.items()
    }
    assert abs(likeness[False]) < 0.02
    assert likeness[True] > 0.1
    for seed in SEEDS:
        less, whole = series(seed, NO_GRAIN), series(seed)
        assert np.array_equal(less.kinds, whole.kinds)
        assert np.array_equal(less.labels, whole.labels, equal_nan=True)
    pairs = [(series(seed, NO_GRAIN).hu, series(seed).hu) for seed in SEEDS]
    assert any(not np.array_equal(*pair) for pair in pairs)  # of fine grain little is left here


def test_without_distractors_nothing_is_as_dense_as_blood_and_noise_is_the_same() -> None:
    """Fewer dense spots in brain without a bleed; from pixel to pixel it is the same scan."""
    dense: dict[Realism, int] = {NO_DISTRACTORS: 0, WHOLE: 0}
    for seed in SEEDS:
        less, whole = series(seed, NO_DISTRACTORS, ()), series(seed, WHOLE, ())
        brain = (less.hu > 15) & (less.hu < 50)
        brain[:, :, 1:] &= brain[:, :, :-1]
        assert np.corrcoef(unrest(less, brain), unrest(whole, brain))[0, 1] > 0.5
        for realism, one in ((NO_DISTRACTORS, less), (WHOLE, whole)):
            dense[realism] += int(((one.hu > 60) & brain).sum())
            dense[realism] += int((one.hu[less.hu < -900] > -500).sum())  # the couch
    assert dense[NO_DISTRACTORS] == 0
    assert dense[WHOLE] > 200


def test_all_blood_counts_where_it_need_not_be_seen() -> None:
    """The same images; what was positive stays so, what was unknown is one or the other."""
    more = 0
    for seed in SEEDS:
        all_, whole = series(seed, ALL_BLOOD, None), series(seed, WHOLE, None)
        assert np.array_equal(all_.hu, whole.hu)
        assert set(np.unique(all_.labels)) <= {0, 1}
        assert all_.labels[whole.labels == 1].all()
        assert (all_.kinds > 0)[whole.kinds > 0].all()
        assert np.array_equal(all_.labels[:, 0] == 1, (all_.kinds > 0).any(axis=(1, 2)))
        more += int((all_.labels[:, 0] == 1).sum() - (whole.labels[:, 0] == 1).sum())
    assert more > 0
