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
        "mean_0": -435.8239,
        "mean_1": -397.5009,
        "mean_2": -669.7152,
        "bone": 7.9297,
        "brain": 31.0802,
        "unrest": 6.4555,
        "shown": 0.0,
        "positive": 0.0,
        "not_known": 0.0,
        "blood_ml": 0,
    },
    "mixed": {
        "slices": 25,
        "pixel_mm": 4.0597,
        "mean_0": -500.0344,
        "mean_1": -507.1377,
        "mean_2": -659.6308,
        "bone": 8.4268,
        "brain": 32.8023,
        "unrest": 5.4638,
        "shown": 1.582,
        "positive": 30.0,
        "not_known": 5.0,
        "blood_ml": 12.0765,
    },
    "drawn": {
        "slices": 28,
        "pixel_mm": 3.9054,
        "mean_0": -589.1956,
        "mean_1": -569.5048,
        "mean_2": -788.896,
        "bone": 6.9458,
        "brain": 29.5261,
        "unrest": 4.3181,
        "shown": 0.1657,
        "positive": 14.0,
        "not_known": 4.0,
        "blood_ml": 7.4828,
    },
}
PIXELS_HU: dict[str, str] = {
    "plain": """
        47 36 107 92 -991 59 -59 248 -57 100 563 177 -24 368 24 615 12 -126 479 524 -121
        42 30 28 33 402 31 38 31 53 30 31 24 25 29 594 29 24 31 30 8 42 29 29 30 29 36
        34 605 33 41 13 28 48 31 32 31 30 31 15 27 28 36 37 -1000 -648 -639 -1001 -118
        61 242 -974 -74 37 34 114 -998 608 610 -326
    """,
    "mixed": """
        -177 -6 -98 -33 -253 48 915 476 95 1223 1280 26 1240 36 30 816 1173 27 9 1249 22
        21 29 25 23 39 29 32 28 32 32 31 1101 29 32 1111 26 29 30 29 32 6 13 31 1092 29
        30 36 -758 395 748 -999 1109 27 28 1109 1113 31 32 410 -1 1107 1109 -36
    """,
    "drawn": """
        -1001 1184 1500 -737 -83 48 33 -49 42 245 989 10 -1001 40 15 168 -999 451 26 27
        1143 797 20 28 763 34 28 588 -48 24 31 35 -999 25 19 150 1020 26 22 24 1052 23
        17 25 8 25 27 32 -1000 1018 330 36 -300 22 26 40 -57 26 30 21 -1000 184 65 604
        -1001 -1000 -1000 -1001 -1000 -1000 -14 -1001 -1001 -10 657 -1001 -1001 -1001
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
