"""Do two sets share scans? Public sets were cut out of one another, and names do not tell.

The middle slices are compared by difference hashes: 64 bits that say where a small picture gets
brighter from left to right. They hardly change with another crop, size or rounding.

References
----------
Neal Krawetz: Kind of Like That. hackerfactor.com, 2013 (dHash).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from train.data.views import Slices
from train.data.window import BRAIN_HU

MOST_DIFFERENT = 4  # of 64 bits
_ROWS, _COLUMNS = 8, 8
_MIDDLE = 3  # slices of each series
_AT_ONCE = 256  # series compared in one go


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two series that show the same scan."""

    dataset: str
    series: str
    other_dataset: str
    other_series: str
    bits: int  # by which their least alike middle slices differ


def overlaps(a: Slices, b: Slices) -> list[Overlap]:
    """Return the series of `a` that are also in `b`, though perhaps under another name.

    Two series are the same scan where each of their three middle slices differs by at most
    `MOST_DIFFERENT` of 64 bits. A series is not compared with itself.
    """
    hashes, names = _hashes(a)
    other_hashes, other_names = _hashes(b)
    found: list[Overlap] = []
    for first in range(0, len(hashes), _AT_ONCE):
        part = hashes[first : first + _AT_ONCE]
        differing = np.bitwise_count(part[:, None] ^ other_hashes[None]).max(axis=2)
        for i, j in np.argwhere(differing <= MOST_DIFFERENT):
            mine, theirs = names[first + i], other_names[j]
            if a.cache is b.cache and mine == theirs:
                continue
            found.append(Overlap(mine[0], mine[1], theirs[0], theirs[1], int(differing[i, j])))
    return found


def difference_hash(hu: npt.NDArray[np.int16]) -> npt.NDArray[np.uint64]:
    """Return the hash of each image (n, y, x) in Hounsfield units, seen in the brain window."""
    low, high = BRAIN_HU
    shown = ((torch.from_numpy(hu).float() - low) / (high - low)).clamp_(0, 1)
    small = functional.adaptive_avg_pool2d(shown[:, None], (_ROWS, _COLUMNS + 1))[:, 0]
    brighter = (small[..., 1:] > small[..., :-1]).reshape(len(hu), -1).numpy()
    hashes: npt.NDArray[np.uint64] = np.packbits(brighter, axis=1).view(np.uint64)[:, 0]
    return hashes


def _hashes(
    slices: Slices,
) -> tuple[npt.NDArray[np.uint64], list[tuple[str, str]]]:
    """Return the hashes (series, middle slice) and the dataset and name of each series."""
    hashes, names = [], []
    for rows in _middles(slices):
        hashes.append(difference_hash(np.array(slices.cache.hu[rows])))
        row = slices.cache.slices.iloc[rows[0]]
        names.append((str(row["dataset"]), str(row["series"])))
    return np.asarray(hashes, np.uint64).reshape(-1, _MIDDLE), names


def _middles(slices: Slices) -> Iterator[list[int]]:
    """Yield the three middle rows of every series that the view has a part of."""
    wanted = set(np.unique(slices.series).tolist())
    for number, rows in enumerate(slices.cache.series_rows()):
        if number in wanted:
            middle = (rows.start + rows.stop - 1) // 2
            around = (middle - 1, middle, middle + 1)
            yield [min(max(row, rows.start), rows.stop - 1) for row in around]
