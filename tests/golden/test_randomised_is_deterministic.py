"""Randomised series of a seed stay what they are: caches and the models on them rest on them.

Bits may differ between processors and versions of torch; draws may not. Each series is kept as some
statistics and, far apart, as some of its pixels: one draw more or less anywhere changes them all.
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
        "mean_0": -471.1723,
        "mean_1": -429.9165,
        "mean_2": -689.2678,
        "bone": 8.103,
        "brain": 29.4983,
        "unrest": 6.0345,
        "shown": 0.0,
        "positive": 0.0,
        "not_known": 0.0,
        "blood_ml": 0,
    },
    "mixed": {
        "slices": 25,
        "pixel_mm": 4.0597,
        "mean_0": -515.5338,
        "mean_1": -523.0138,
        "mean_2": -669.28,
        "bone": 8.375,
        "brain": 33.8675,
        "unrest": 5.2784,
        "shown": 1.6309,
        "positive": 30.0,
        "not_known": 5.0,
        "blood_ml": 12.0765,
    },
    "drawn": {
        "slices": 28,
        "pixel_mm": 3.9054,
        "mean_0": -604.7447,
        "mean_1": -588.112,
        "mean_2": -800.8877,
        "bone": 6.8673,
        "brain": 25.3977,
        "unrest": 3.9495,
        "shown": 0.2005,
        "positive": 14.0,
        "not_known": 6.0,
        "blood_ml": 7.6694,
    },
}
PIXELS_HU: dict[str, str] = {
    "plain": """
        -992 -135 123 108 -998 67 -55 159 -53 115 565 650 -77 610 30 617 33 -130 479 524
        -126 -19 29 27 30 403 30 33 34 56 27 28 13 29 26 594 26 25 28 28 8 38 26 26 27 25
        24 31 605 22 30 -393 27 46 28 31 31 27 29 20 27 26 32 31 -1000 -992 -991 -1001
        -135 58 242 -998 -317 26 26 111 -1000 608 610 -786
    """,
    "mixed": """
        56 -1 -73 -130 -15 44 923 474 91 1222 1245 -796 1290 43 35 699 1173 33 30 1249 15
        34 34 28 34 43 26 23 21 35 32 23 1101 32 32 1111 25 31 29 29 37 8 9 33 1092 33 33
        36 -999 383 754 -1000 1109 31 31 1109 1113 33 36 406 -687 1107 1109 -82
    """,
    "drawn": """
        -1001 1183 1499 -101 -118 -8 26 -84 -6 227 987 -36 -1001 74 9 263 -999 449 24 26
        1143 795 16 24 705 24 25 585 -91 25 29 30 -1000 27 19 144 1020 26 15 24 1052 21 13
        22 -176 25 20 23 -1000 1018 324 -426 -698 24 22 30 -86 30 22 21 -1000 177 40 593
        -1001 -1000 -1000 -1001 -1000 -1000 -74 -1001 -1001 -297 646 -1001 -1001 -1001
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
