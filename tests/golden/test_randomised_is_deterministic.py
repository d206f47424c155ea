"""Randomised series of a seed stay what they are: caches and the models on them rest on them.

Bits may differ between processors and versions of torch; draws may not. Each series is kept as some
statistics and, far apart, as some of its pixels: one draw more or less anywhere changes them all.
Who changes figures here raises `REVISION` in `ichnode.phantom.randomised.realism`, so that caches
of before are not added to.
"""

from __future__ import annotations

import numpy as np
import pytest

from ichnode.domain.findings import Label
from ichnode.phantom.randomised.maps import procedural_maps
from ichnode.phantom.randomised.series import RandomisedSeries, simulate_series

CASES: dict[str, tuple[int, tuple[Label, ...] | None]] = {
    "plain": (12, ()),
    "mixed": (11, ("subdural", "intraparenchymal")),
    "drawn": (20, None),
}
GOLDEN: dict[str, dict[str, float]] = {
    "plain": {
        "slices": 30,
        "pixel_mm": 3.4901,
        "mean_0": -435.332,
        "mean_1": -396.6914,
        "mean_2": -669.326,
        "bone": 7.9435,
        "brain": 32.9317,
        "unrest": 6.6005,
        "shown": 0.0,
        "positive": 0.0,
        "not_known": 0.0,
        "blood_ml": 0,
    },
    "mixed": {
        "slices": 25,
        "pixel_mm": 4.0597,
        "mean_0": -498.4201,
        "mean_1": -505.4671,
        "mean_2": -658.3853,
        "bone": 8.4561,
        "brain": 38.1401,
        "unrest": 5.6667,
        "shown": 1.5137,
        "positive": 30.0,
        "not_known": 5.0,
        "blood_ml": 12.0765,
    },
    "drawn": {
        "slices": 28,
        "pixel_mm": 3.9054,
        "mean_0": -587.6162,
        "mean_1": -567.6195,
        "mean_2": -787.8802,
        "bone": 6.9789,
        "brain": 35.9509,
        "unrest": 4.5044,
        "shown": 0.1569,
        "positive": 12.0,
        "not_known": 6.0,
        "blood_ml": 7.4828,
    },
}
PIXELS_HU: dict[str, str] = {
    "plain": """
        48 36 107 92 -991 60 -59 249 -57 99 564 176 -24 368 26 615 17 -126 478 524 -122
        42 33 30 36 402 35 42 35 62 31 33 29 26 30 594 30 24 32 31 8 42 31 30 32 30 38
        36 605 38 49 14 29 48 32 38 32 31 32 16 34 28 38 43 -1000 -648 -639 -1001 -119
        66 248 -974 -73 41 37 113 -998 608 610 -326
    """,
    "mixed": """
        -177 -7 -98 -33 -253 47 915 475 95 1222 1280 27 1239 43 34 815 1172 30 9 1249 25
        22 30 30 25 40 30 34 58 34 33 45 1101 31 35 1112 30 30 31 33 36 6 13 33 1092 31
        32 58 -757 419 760 -999 1109 28 29 1109 1114 32 33 433 -1 1107 1109 -37
    """,
    "drawn": """
        -1001 1184 1500 -737 -83 48 33 -49 42 245 989 10 -1001 40 36 168 -999 473 31 53
        1143 797 26 30 763 53 32 594 -48 33 34 61 -999 34 20 175 1021 27 22 26 1052 24
        17 25 8 33 31 54 -1000 1018 354 36 -300 24 26 71 -57 28 30 32 -1000 214 97 604
        -1001 -1000 -1000 -1000 -1000 -1000 -14 -1001 -1001 -10 657 -1001 -1001 -1001
        -1001 -1001
    """,
}


def coarse_statistics(one: RandomisedSeries) -> dict[str, float]:
    """Reduce a series to figures that survive a change of the last bits."""
    hu = one.hu.astype(float)
    brain = hu[(hu > 0) & (hu < 80)]
    return {
        "slices": len(hu),
        "pixel_mm": one.geometry.pixel_mm,
        **{f"mean_{k}": float(part.mean()) for k, part in enumerate(np.array_split(hu, 3))},
        "bone": float((hu > 300).mean()) * 100,
        "brain": float(brain.mean()),
        "unrest": float(np.abs(np.diff(hu, axis=2)).clip(0, 20).mean()),
        "shown": float((one.kinds > 0).mean()) * 1e3,
        "positive": float(np.nansum(one.labels)),
        "not_known": float(np.isnan(one.labels).sum()),
        "blood_ml": sum(one.volumes_ml.values()),
    }


def some_pixels(one: RandomisedSeries) -> list[int]:
    """Return pixels of the middle of the head, far apart."""
    rows = slice(16, 48, 9)
    return [int(hu) for hu in one.hu[2::6, rows, rows].ravel()]


@pytest.mark.parametrize("case", CASES)
def test_a_seed_gives_the_stored_series(case: str) -> None:
    """Densities, noise and truth are those on record, and nearly every pixel to 1 HU."""
    seed, kinds = CASES[case]
    one = simulate_series(procedural_maps(3, voxel_mm=3.0), seed, size_px=64, kinds=kinds)
    assert coarse_statistics(one) == pytest.approx(GOLDEN[case], rel=1e-3, abs=0.01)
    off = np.abs(np.array(some_pixels(one)) - np.array(PIXELS_HU[case].split(), int))
    assert (off <= 1).mean() > 0.97
