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
        "mean_0": -433.202,
        "mean_1": -398.8121,
        "mean_2": -670.2106,
        "bone": 8.0404,
        "brain": 28.0454,
        "unrest": 6.3351,
        "shown": 0.0,
        "positive": 0.0,
        "not_known": 0.0,
        "blood_ml": 0,
    },
    "mixed": {
        "slices": 25,
        "pixel_mm": 4.0597,
        "mean_0": -493.7442,
        "mean_1": -507.8641,
        "mean_2": -659.9483,
        "bone": 8.418,
        "brain": 30.4985,
        "unrest": 5.3774,
        "shown": 1.7285,
        "positive": 32.0,
        "not_known": 3.0,
        "blood_ml": 12.0765,
    },
    "drawn": {
        "slices": 28,
        "pixel_mm": 3.9054,
        "mean_0": -584.9375,
        "mean_1": -568.8211,
        "mean_2": -789.0213,
        "bone": 7.0722,
        "brain": 27.2852,
        "unrest": 4.3017,
        "shown": 0.1657,
        "positive": 14.0,
        "not_known": 6.0,
        "blood_ml": 7.4826,
    },
}
PIXELS_HU: dict[str, str] = {
    "plain": """
        45 38 107 92 -991 59 -59 248 -57 100 565 652 -24 609 23 615 15 -126 479 524 -121
        41 24 23 28 400 23 31 32 59 24 25 22 22 23 594 23 18 24 22 10 39 25 22 27 26 31
        28 605 28 34 15 21 46 23 29 25 25 24 14 28 24 30 28 -1000 -647 -638 -1001 -118
        58 243 -974 -69 30 26 114 -998 608 610 -324
    """,
    "mixed": """
        59 -6 -98 -30 -30 48 915 476 95 1193 1282 37 1283 35 30 822 1173 23 9 1249 19 19
        28 20 22 36 27 24 28 27 25 25 1101 26 30 1111 22 24 25 21 32 8 12 26 1092 27 24
        31 -758 394 745 -999 1109 25 23 1109 1113 28 27 406 8 1107 1109 -36
    """,
    "drawn": """
        -1001 1184 1500 -75 -190 31 32 -49 42 245 989 5 -1001 -129 10 -24 -999 449 26 30
        1143 725 14 25 893 28 21 426 -48 24 26 29 -999 25 20 145 1020 24 17 24 1052 20
        13 22 34 24 26 26 -1000 1018 327 38 -299 21 23 31 -54 27 28 14 -1000 178 59 605
        -1001 -1000 -1000 -1001 -1000 -1000 -10 -1001 -1001 -9 658 -1001 -1001 -1001
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
