"""From Hounsfield units to what a network is fed: the same code in training and serving.

Two steps. `standardise` makes a stack of slices of one size around the head, in whole HU; training
keeps that stack on disk and disturbs it. `channels` puts windows and neighbouring slices together.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ichnode.nets.manifest import PreprocessSpec

AIR_HU = -1024
DENSEST_HU = 3071
_TISSUE_HU = -300
_COARSE_MM = 2.0  # the head is looked for on a grid about this fine
_SEEN_IN = 0.25  # fraction of the middle slices in which a point of the head is tissue
_HEAD_MM = (100.0, 300.0)  # an extent outside of this is no head: take the middle of the image
_FALLBACK_MM = 240.0


@dataclass(frozen=True, slots=True)
class Box:
    """A square part of the image in pixels; it may reach beyond the image."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Stack:
    """A series made uniform.

    Attributes
    ----------
    hu : Tensor, int16, (slab, y, x)
        Whole Hounsfield units, ``size_px`` square.
    slabs : tuple of (int, int)
        The native slices that each slab averages, as a half-open range.
    positions_mm : tuple of float
        Where each slab lies along the slice normal.
    box : Box
        What was cut out of the native slices.
    """

    hu: Tensor
    slabs: tuple[tuple[int, int], ...]
    positions_mm: tuple[float, ...]
    box: Box


def preprocess(
    hu: Tensor, spacing_mm: Sequence[float], positions_mm: Sequence[float], spec: PreprocessSpec
) -> Tensor:
    """Turn a series into the network's input.

    Parameters
    ----------
    hu : Tensor, int16 or float, (z, y, x)
        Hounsfield units, slices in anatomical order; on any device.
    spacing_mm : sequence of float
        (z, y, x).
    positions_mm : sequence of float
        Position of each slice along the slice normal, ascending.
    spec : PreprocessSpec
        How; it travels with the weights.

    Returns
    -------
    Tensor, float32, (slab, channel, y, x)
        Values 0 to 1 on the device of `hu`; equal bit by bit on every CPU run, within rounding of
        1 HU on a GPU. Channels: the windows of the slice below, of the slice, of the one above.
    """
    stack = standardise(hu, spacing_mm, positions_mm, spec)
    return channels(stack.hu, neighbours(stack.positions_mm, spec), spec)


def standardise(
    hu: Tensor,
    spacing_mm: Sequence[float],
    positions_mm: Sequence[float],
    spec: PreprocessSpec,
    box: Box | None = None,
) -> Stack:
    """Average thin slices to slabs, cut out the head and resize it; see `preprocess`.

    `box` is where the head is, where something else than `head_box` knows it.
    """
    if hu.ndim != 3 or hu.shape[0] != len(positions_mm) or hu.shape[0] == 0:
        raise ValueError("a series is (z, y, x) with one position per slice")
    box = box or head_box(hu, spacing_mm, spec)
    slabs = plan_slabs(positions_mm, spec)
    planes = torch.stack([_slab(hu[first:end], box) for first, end in slabs])
    sized = functional.interpolate(
        planes[:, None],
        size=(spec.size_px, spec.size_px),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )[:, 0]
    return Stack(
        hu=sized.round_().to(torch.int16),
        slabs=slabs,
        positions_mm=tuple(float(np.mean(positions_mm[first:end])) for first, end in slabs),
        box=box,
    )


def _slab(slices: Tensor, box: Box) -> Tensor:
    part = cut(slices, box, AIR_HU).float().clamp_(AIR_HU, DENSEST_HU)
    return part[0] if part.shape[0] == 1 else part.mean(dim=0)


def cut(slices: Tensor, box: Box, outside: int) -> Tensor:
    """Return a part of the slices (z, y, x), with `outside` where the box leaves the image."""
    rows, columns = slices.shape[-2:]
    bottom, right = box.top + box.height, box.left + box.width
    inner = slices[:, max(box.top, 0) : min(bottom, rows), max(box.left, 0) : min(right, columns)]
    beyond = (-box.left, right - columns, -box.top, bottom - rows)
    if max(beyond) <= 0:
        return inner
    return functional.pad(inner, tuple(max(edge, 0) for edge in beyond), value=outside)


def head_box(hu: Tensor, spacing_mm: Sequence[float], spec: PreprocessSpec) -> Box:
    """Return the square around the head, with the margin of `spec`.

    The head is the largest connected tissue over the middle 60 % of the slices, after an opening
    that removes the head holder's thin shell. Where that is no head's size, the middle of the image
    is taken.
    """
    down_mm, across_mm = float(spacing_mm[1]), float(spacing_mm[2])
    if spec.crop == "head" and (found := _largest_extent(hu, (down_mm, across_mm))) is not None:
        top, bottom, left, right = found
        extent_mm = max((bottom - top) * down_mm, (right - left) * across_mm)
        if _HEAD_MM[0] <= extent_mm <= _HEAD_MM[1]:
            side_mm = extent_mm * (1 + 2 * spec.crop_margin)
            return _square((top + bottom) / 2, (left + right) / 2, side_mm, (down_mm, across_mm))
    rows, columns = hu.shape[-2:]
    return _square(rows / 2, columns / 2, _FALLBACK_MM, (down_mm, across_mm))


def _square(row: float, column: float, side_mm: float, pixel_mm: tuple[float, float]) -> Box:
    height, width = (max(round(side_mm / mm), 1) for mm in pixel_mm)
    return Box(round(row - height / 2), round(column - width / 2), height, width)


def _largest_extent(hu: Tensor, pixel_mm: tuple[float, float]) -> tuple[int, int, int, int] | None:
    """Return top, bottom, left and right of the largest tissue, in pixels."""
    depth = hu.shape[0]
    middle = hu[int(depth * 0.2) : max(int(np.ceil(depth * 0.8)), int(depth * 0.2) + 1)]
    down, across = (max(round(_COARSE_MM / mm), 1) for mm in pixel_mm)
    tissue = (middle[:, ::down, ::across] > _TISSUE_HU).cpu().numpy()
    opened = ndimage.binary_opening(tissue, np.ones((1, 3, 3), bool))
    numbered, count = ndimage.label(opened.mean(axis=0) >= _SEEN_IN)
    if count == 0:
        return None
    sizes = np.bincount(numbered.ravel())[1:]
    rows, columns = ndimage.find_objects(numbered)[int(sizes.argmax())]
    return rows.start * down, rows.stop * down, columns.start * across, columns.stop * across


def median_step_mm(positions_mm: Sequence[float]) -> float:
    """Return the usual distance between slices; 0 for a single slice."""
    steps = np.diff(np.asarray(positions_mm, np.float64))
    return float(np.median(np.abs(steps))) if steps.size else 0.0


def plan_slabs(positions_mm: Sequence[float], spec: PreprocessSpec) -> tuple[tuple[int, int], ...]:
    """Say which native slices make up each slab, as half-open ranges.

    Slices that are 3 mm or more apart stay as they are. Thinner ones are averaged to about 5 mm,
    the thickness that networks are trained on; a slab never reaches across a gap.
    """
    step_mm = median_step_mm(positions_mm)
    count = len(positions_mm)
    if step_mm <= 0 or step_mm >= spec.slab_below_mm:
        return tuple((index, index + 1) for index in range(count))
    per_slab = max(round(spec.slab_target_mm / step_mm), 1)
    slabs: list[tuple[int, int]] = []
    edges = [0, *(np.flatnonzero(_gaps(positions_mm, spec)) + 1).tolist(), count]
    for first, end in itertools.pairwise(edges):
        starts = list(range(first, end, per_slab))
        if len(starts) > 1 and end - starts[-1] < per_slab / 2:
            starts.pop()  # a thin rest is as noisy as it is thin: leave it to the last slab
        slabs += zip(starts, [*starts[1:], end], strict=True)
    return tuple(slabs)


def _gaps(positions_mm: Sequence[float], spec: PreprocessSpec) -> npt.NDArray[np.bool_]:
    """Say of each step whether a slice is missing there."""
    steps = np.abs(np.diff(np.asarray(positions_mm, np.float64)))
    return np.asarray(steps > usual_steps_mm(positions_mm) * spec.gap_ratio, np.bool_)


def usual_steps_mm(positions_mm: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return what each step between slices is compared with: the median of the five around it.

    Scans of the head are often made of two parts, thinner slices below and thicker ones above.
    """
    steps = np.abs(np.diff(np.asarray(positions_mm, np.float64)))
    usual = [np.median(steps[max(i - 2, 0) : i + 3]) for i in range(len(steps))]
    return np.asarray(usual, np.float64)


def neighbours(positions_mm: Sequence[float], spec: PreprocessSpec) -> Tensor:
    """Return the slices below, at and above each slice, by physical distance.

    At the ends, and where the next slice is missing (further than ``gap_ratio`` times the usual
    distance), the slice stands in for its neighbour: that stays within what was trained on.

    Returns
    -------
    Tensor, int64, (slice, 2 x context_slices + 1)
    """
    reach = spec.context_slices
    count = len(positions_mm)
    columns = [torch.arange(count)]
    linked = torch.as_tensor(~_gaps(positions_mm, spec))
    for _ in range(reach):
        lowest, highest = columns[0], columns[-1]
        down = torch.cat([torch.zeros(1, dtype=torch.bool), linked])[lowest]
        up = torch.cat([linked, torch.zeros(1, dtype=torch.bool)])[highest]
        columns = [lowest - down.long(), *columns, highest + up.long()]
    return torch.stack(columns, dim=1)


def windows(hu: Tensor, spec: PreprocessSpec) -> Tensor:
    """Show HU (n, y, x) through each window, as float32 (n, window, y, x) from 0 to 1."""
    values = hu.float()
    return torch.stack(
        [((values - low) / (high - low)).clamp_(0, 1) for low, high in spec.windows_hu], dim=1
    )


def channels(hu: Tensor, around: Tensor, spec: PreprocessSpec) -> Tensor:
    """Put the windows of each slice and its neighbours side by side.

    Parameters
    ----------
    hu : Tensor, (slice, y, x)
        Hounsfield units of a whole stack.
    around : Tensor, int64, (n, 2 x context_slices + 1)
        Rows of `neighbours`: which slices each of the n inputs is made of.

    Returns
    -------
    Tensor, float32, (n, channel, y, x)
    """
    shown = windows(hu, spec)
    return shown[around.to(hu.device)].flatten(1, 2)
