"""A cache in the memory of a GPU: batches are picked there, and no thread has to keep up."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.data.cache import Cache

_SHARE = 0.5  # of the free memory: a step needs the rest
_CHUNK = 4096  # slices copied at a time


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """The pixels of a cache on a device.

    Attributes
    ----------
    hu : Tensor, int16, (slab, y, x)
    kinds : Tensor, uint8, (slab, y, x), or None
    """

    hu: Tensor = field(repr=False)
    kinds: Tensor | None = field(repr=False)

    def planes(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return some rows of the cache in any shape: int16, (..., y, x)."""
        return self.hu[torch.from_numpy(rows).to(self.hu.device)]

    def kinds_of(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the voxel truth of rows (n,): uint8, (n, y, x); 0 where there is none."""
        if self.kinds is None:
            return torch.zeros(
                (len(rows), *self.hu.shape[1:]), dtype=torch.uint8, device=self.hu.device
            )
        return self.kinds[torch.from_numpy(rows).to(self.kinds.device)]


def hold(cache: Cache, device: torch.device, *, kinds: bool) -> Held | None:
    """Copy a cache into the memory of a GPU, where there is plenty of room; None elsewhere.

    Parameters
    ----------
    kinds : bool
        Whether the voxel truth is needed.
    """
    if device.type != "cuda":
        return None
    parts: list[npt.NDArray[np.int16] | npt.NDArray[np.uint8]] = [cache.hu]
    if kinds and cache.kinds is not None:
        parts.append(cache.kinds)
    free, _ = torch.cuda.mem_get_info(device)
    if sum(part.nbytes for part in parts) > _SHARE * free:
        return None
    hu, *others = (copied(part, device) for part in parts)
    return Held(hu, others[0] if others else None)


def copied(pixels: npt.NDArray[np.int16] | npt.NDArray[np.uint8], device: torch.device) -> Tensor:
    """Return memory-mapped pixels (slab, y, x) on a device, copied piece by piece."""
    like = torch.from_numpy(np.array(pixels[:0]))
    whole = torch.empty(pixels.shape, dtype=like.dtype, device=device)
    for first in range(0, len(pixels), _CHUNK):
        whole[first : first + _CHUNK] = torch.from_numpy(np.array(pixels[first : first + _CHUNK]))
    return whole
