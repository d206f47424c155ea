"""A made-up input for the check at every load: it needs no scan and no random generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import channels, neighbours, standardise

_SPACING_MM = (5.0, 1.5, 1.5)
_SIDE_PX = 160


def self_test_input(spec: PreprocessSpec) -> Tensor:
    """Return the network input of the recipe ``discs-1``; see `self_test_series`."""
    return self_test_series(spec)[0]


def self_test_series(spec: PreprocessSpec) -> tuple[Tensor, tuple[float, ...]]:
    """Return the network input of the recipe ``discs-1`` and the position of each slice in mm.

    Eight slices of a disc of "brain" in a ring of "bone", with dense spots that grow from slice to
    slice, and a texture from a linear congruential generator: integer arithmetic alone, so that it
    is the same with every version of every library.
    """
    rows, columns = np.mgrid[0:_SIDE_PX, 0:_SIDE_PX] - _SIDE_PX // 2
    square = rows**2 + columns**2
    state = (rows * 1103 + columns * 12345 + 7).astype(np.uint32)
    slices = []
    for index in range(8):
        state = state * np.uint32(1664525) + np.uint32(1013904223)
        hu = np.where(square < 60**2, 900, -1000)
        hu = np.where(square < 54**2, 28 + (state >> np.uint32(28)).astype(np.int64), hu)
        spot = (rows - 20) ** 2 + (columns + 6 * index - 20) ** 2 < (2 * index) ** 2
        slices.append(np.where(spot, 68, hu).astype(np.int16))
    volume = torch.from_numpy(np.stack(slices))
    positions_mm = [_SPACING_MM[0] * index for index in range(len(slices))]
    stack = standardise(volume, _SPACING_MM, positions_mm, spec)
    around = neighbours(stack.positions_mm, spec)
    return channels(stack.hu, around, spec), stack.positions_mm
