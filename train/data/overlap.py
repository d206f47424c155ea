"""Do two sets share scans? Public sets were cut out of one another, and names do not tell.

The middle slices are compared by difference hashes first: 64 bits that say where a small picture
gets brighter from left to right. Heads are alike, though: of pairs of different simulated heads one
in two hundred has hashes that near. So what the hashes suggest is confirmed by the pixels.

References
----------
Neal Krawetz: Kind of Like That. hackerfactor.com, 2013 (dHash).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from train.data.views import Slices
from train.data.window import BRAIN_HU

MOST_BITS = 4  # of 64, by which each of the middle slices may differ
MOST_HU = 1.5  # by which small pictures of them differ on average; different heads: 3 and more
_ROWS, _COLUMNS = 8, 8
_SMALL_PX = 32
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
    difference_hu: float  # likewise, on average


@dataclass(frozen=True, slots=True, eq=False)
class _Prints:
    """What is compared of some series."""

    names: list[tuple[str, str]]  # dataset and series
    hashes: npt.NDArray[np.uint64] = field(repr=False)  # (series, slice)
    small: npt.NDArray[np.float32] = field(repr=False)  # (series, slice, y, x), HU


def overlaps(a: Slices, b: Slices) -> list[Overlap]:
    """Return the series of `a` that are also in `b`, though perhaps under another name.

    Two series are one scan where each of their three middle slices differs by at most `MOST_BITS`
    of 64 bits of its hash and by at most `MOST_HU` on average. That finds copies through other file
    formats, rounding and noise, in caches of the same preprocessing; not a scan that was tilted or
    resampled. A series is not compared with itself.
    """
    mine, theirs = _prints(a), _prints(b)
    found: list[Overlap] = []
    for first in range(0, len(mine.names), _AT_ONCE):
        part = mine.hashes[first : first + _AT_ONCE]
        bits = np.bitwise_count(part[:, None] ^ theirs.hashes[None]).max(axis=2)
        for i, j in np.argwhere(bits <= MOST_BITS):
            name, other = mine.names[first + i], theirs.names[j]
            if a.cache is b.cache and name == other:
                continue
            apart = np.abs(mine.small[first + i] - theirs.small[j]).mean(axis=(1, 2)).max()
            if apart <= MOST_HU:
                found.append(
                    Overlap(name[0], name[1], other[0], other[1], int(bits[i, j]), float(apart))
                )
    return found


def difference_hash(hu: npt.NDArray[np.int16]) -> npt.NDArray[np.uint64]:
    """Return the hash of each image (n, y, x) in Hounsfield units, seen in the brain window."""
    small = functional.adaptive_avg_pool2d(_seen(hu)[:, None], (_ROWS, _COLUMNS + 1))[:, 0]
    brighter = (small[..., 1:] > small[..., :-1]).reshape(len(hu), -1).numpy()
    hashes: npt.NDArray[np.uint64] = np.packbits(brighter, axis=1).view(np.uint64)[:, 0]
    return hashes


def _seen(hu: npt.NDArray[np.int16]) -> Tensor:
    return torch.from_numpy(hu).float().clamp_(*BRAIN_HU)


def _prints(slices: Slices) -> _Prints:
    names, hashes, small = [], [], []
    datasets, series = slices.cache.slices["dataset"], slices.cache.slices["series"]
    for rows in _middles(slices):
        hu = np.array(slices.cache.hu[rows])
        hashes.append(difference_hash(hu))
        sized = functional.interpolate(
            _seen(hu)[:, None], size=(_SMALL_PX, _SMALL_PX), mode="bilinear", antialias=True
        )
        small.append(sized[:, 0].numpy())
        names.append((str(datasets.iat[rows[0]]), str(series.iat[rows[0]])))
    return _Prints(
        names=names,
        hashes=np.asarray(hashes, np.uint64).reshape(-1, _MIDDLE),
        small=np.asarray(small, np.float32).reshape(-1, _MIDDLE, _SMALL_PX, _SMALL_PX),
    )


def _middles(slices: Slices) -> Iterator[list[int]]:
    """Yield the three middle rows of every series that the view has a part of."""
    wanted = set(np.unique(slices.series).tolist())
    for number, rows in enumerate(slices.cache.series_rows()):
        if number in wanted:
            middle = (rows.start + rows.stop - 1) // 2
            around = (middle - 1, middle, middle + 1)
            yield [min(max(row, rows.start), rows.stop - 1) for row in around]
