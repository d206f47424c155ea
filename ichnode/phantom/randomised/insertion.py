"""Simulated bleeds in real scans without haemorrhage: a site's own anatomy and scanner around them.

The scan stays as it is but for the bleed, what it pushes aside and the oedema around it; its noise
goes on through the bleed. Meant for sites that have many negatives and few positives.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import Label
from ichnode.phantom.randomised.bleeds import (
    draw_bleeds,
    draw_kinds,
    draw_masses,
    paint_bleed,
    push,
)
from ichnode.phantom.randomised.maps import MAPS, AnatomyMaps
from ichnode.phantom.randomised.noise import Fields
from ichnode.phantom.randomised.scanner import blur
from ichnode.phantom.randomised.series import RandomisedSeries, Stages, true_labels
from ichnode.phantom.randomised.space import Geometry, Space
from ichnode.phantom.randomised.tissue import Head

CAVITY_MM = (136.0, 174.0)  # across and from front to back, of the cavity in the maps' frame
TOP_MM, MIDDLE_MM = 78.0, -16.0  # its vertex and its middle, likewise
LEAST_CAVITY_ML = 300.0
_COARSE_MM = 2.0  # the cavity is looked for on pixels of this size
_BONE_HU, _BRAIN_HU = 150.0, (-20.0, 100.0)
_SMOOTH_MM, _SMOOTH_PX = 1.0, 1.3  # noise is what the wider of these blurs takes away


def insert_bleeds(
    hu: npt.NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    seed: int,
    *,
    kinds: Sequence[Label] | None = None,
) -> RandomisedSeries:
    """Return a scan without haemorrhage with simulated bleeds in it, and their truth.

    Parameters
    ----------
    hu : ndarray, int16, (z, y, x)
        From the feet upwards, row 0 in front, slices parallel and about evenly spaced.
    spacing_mm : tuple of float
        (z, y, x).
    kinds : sequence of Label, optional
        As for `simulate_series`; () returns the scan as it is, within -1024 to 3071 HU.

    Raises
    ------
    ValueError
        When no brain is found, or the pixels are not square.
    """
    if abs(spacing_mm[1] - spacing_mm[2]) > 1e-3:
        raise ValueError("the pixels are not square")
    stages = Stages(seed, torch.Generator("cpu"))
    cavity = find_cavity(hu, spacing_mm)
    head, noise = _open_scan(hu, spacing_mm, cavity, stages)
    maps = _places_of(head)
    rng = stages.next()
    drawn = draw_bleeds(rng, maps, draw_kinds(rng) if kinds is None else kinds)
    masses = [mass for mass in draw_masses(stages.next(), maps, drawn) if drawn]
    if masses:
        head.hu = _pushed(head, push(head.space, masses))
    rng = stages.next()
    painted = [(bleed.kind, *paint_bleed(rng, head, bleed)) for bleed in drawn]
    # The median, since edges of bone and sulci are no noise.
    noise_hu = 1.4826 * float(np.median(np.abs(noise[cavity])))
    image = head.hu + torch.from_numpy(noise)
    return true_labels(head, painted, image, head.bone, noise_hu, seed)


def find_cavity(
    hu: npt.NDArray[np.int16], spacing_mm: tuple[float, float, float]
) -> npt.NDArray[np.bool_]:
    """Return what the skull encloses, bool (z, y, x).

    Raises
    ------
    ValueError
        When that is less than `LEAST_CAVITY_ML`.
    """
    shrink = min(spacing_mm[1] / _COARSE_MM, 1.0)
    coarse = ndimage.zoom(hu.astype(np.float32), (1, shrink, shrink), order=1)
    pixel_mm = spacing_mm[1] / shrink
    skull = coarse > _BONE_HU
    disk = _disk(6.0 / pixel_mm)
    enclosed = np.stack(
        [ndimage.binary_fill_holes(ndimage.binary_closing(one, disk)) for one in skull]
    )
    tissue = enclosed & (coarse > _BRAIN_HU[0]) & (coarse < _BRAIN_HU[1])
    opened = np.stack([ndimage.binary_opening(one, _disk(5.0 / pixel_mm)) for one in tissue])
    parts, count = ndimage.label(opened)
    if not count:
        raise ValueError("there is no brain in it")
    sizes = ndimage.sum_labels(opened, parts, range(1, count + 1))
    brain = parts == 1 + int(np.argmax(sizes))
    brain = ndimage.binary_dilation(brain, _disk(5.0 / pixel_mm)[None]) & tissue
    brain = np.stack([ndimage.binary_fill_holes(one) for one in brain]) & ~skull
    if brain.sum() * pixel_mm**2 * spacing_mm[0] / 1000 < LEAST_CAVITY_ML:
        raise ValueError("there is no whole brain in it")
    factors = [1.0, *(n / m for n, m in zip(hu.shape[1:], brain.shape[1:], strict=True))]
    found: npt.NDArray[np.bool_] = ndimage.zoom(brain.astype(np.float32), factors, order=1) > 0.5
    return found


def _disk(radius_px: float) -> npt.NDArray[np.bool_]:
    reach = int(np.ceil(radius_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk: npt.NDArray[np.bool_] = x * x + y * y <= radius_px * radius_px
    return disk


def _open_scan(
    hu: npt.NDArray[np.int16],
    spacing_mm: tuple[float, float, float],
    cavity: npt.NDArray[np.bool_],
    stages: Stages,
) -> tuple[Head, npt.NDArray[np.float32]]:
    """Return the scan as a head to paint into, without its noise, and that noise."""
    stages.next()
    image = torch.from_numpy(hu.astype(np.float32))
    smooth = blur(image, max(_SMOOTH_MM / spacing_mm[1], _SMOOTH_PX))
    space = _space(cavity, spacing_mm, stages.chance)
    depth = ndimage.distance_transform_edt(cavity, spacing_mm)
    depth = depth - ndimage.distance_transform_edt(~cavity, spacing_mm)
    deep = torch.from_numpy(depth.astype(np.float32))
    bone = torch.sigmoid((smooth - _BONE_HU) / 25)
    inside = torch.from_numpy(cavity.astype(np.float32)) * (1 - bone)
    brain = smooth[torch.from_numpy(cavity)]
    grey_hu, fluid_hu = (float(np.quantile(brain.numpy(), q)) for q in (0.65, 0.03))
    wet = torch.sigmoid((0.5 * (grey_hu + fluid_hu) - smooth) / 2.5) * inside
    central = torch.sigmoid((deep - 20) / 3) * _ventricular(space)
    head = Head(
        space=space,
        hu=smooth,
        bone=bone,
        inside=inside,
        depth=deep,
        spaces=wet * (1 - central),
        ventricle=wet * central,
        white=torch.sigmoid((grey_hu - 3 - smooth) / 2) * (1 - wet),
        base=torch.sigmoid((-space.z - 8) / 8),
        body=(smooth > -500).float(),
        grey_hu=grey_hu,
        fluid_hu=fluid_hu,
    )
    return head, (image - smooth).numpy()


def _ventricular(space: Space) -> Tensor:
    """Return where deep fluid is that of the ventricles, which part from one another behind."""
    behind = (-(space.y + 5)).clamp(0, 45)
    return torch.sigmoid((16 + 0.35 * behind - space.x.abs()) / 2) * torch.sigmoid(
        (40 - space.z) / 3
    )


def _space(
    cavity: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float], chance: torch.Generator
) -> Space:
    """Lay the frame of the maps into the scan by the extent of the cavity."""
    z, y, x = (np.flatnonzero(cavity.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    sizes = [
        float(axis[-1] - axis[0] + 1) * step
        for axis, step in ((x, spacing_mm[2]), (y, spacing_mm[1]))
    ]
    stretch = [want / size for want, size in zip(CAVITY_MM, sizes, strict=True)]
    slices, rows, columns = (torch.arange(n, dtype=torch.float32) for n in cavity.shape)
    planes_mm = (slices - float(z[-1])) * spacing_mm[0]
    rows_mm = (rows - float(y[0] + y[-1]) / 2) * spacing_mm[1]
    columns_mm = (columns - float(x[0] + x[-1]) / 2) * spacing_mm[2]
    shape = cavity.shape
    geometry = Geometry(
        slices=shape[0], size_px=shape[1], pixel_mm=spacing_mm[1], step_mm=spacing_mm[0],
        thickness_mm=spacing_mm[0], parts=1, first_mm=float(planes_mm[0]),
    )  # fmt: skip
    return Space(
        geometry,
        (columns_mm * stretch[0])[None, None, :].expand(shape),
        (MIDDLE_MM - rows_mm * stretch[1])[None, :, None].expand(shape),
        (planes_mm + TOP_MM)[:, None, None].expand(shape),
        rows_mm[None, :, None],
        Fields(planes_mm, rows_mm, columns_mm, chance),
    )


def _places_of(head: Head) -> AnatomyMaps:
    """Return maps that know nothing but how deep each place is: enough to draw sites from."""
    box = [(-75, 75), (-110, 80), (-70, 84)]
    axes = [np.arange(low, high, 3.0, dtype=np.float32) for low, high in box]
    x, y, z = (torch.from_numpy(one) for one in np.meshgrid(*axes, indexing="ij"))
    space = head.space
    depth = _sample(head.depth, space, (x, y, z))
    upright = depth.permute(2, 1, 0)
    maps = torch.zeros((len(MAPS), *upright.shape))
    maps[MAPS.index("depth")] = upright
    return AnatomyMaps(maps, (-75.0, -110.0, -70.0), 3.0)


def _sample(values: Tensor, space: Space, at: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return values on the scan's grid at points of the maps' frame; outside, those of its edge."""
    edges = (space.x[0, 0], space.y[0, :, 0], space.z[:, 0, 0])
    place = torch.stack(
        [
            2 * (points - line[0]) / (line[-1] - line[0]) - 1
            for points, line in zip(at, edges, strict=True)
        ],
        dim=-1,
    )
    found = functional.grid_sample(
        values[None, None], place[None], padding_mode="border", align_corners=True
    )
    return found[0, 0]


def _pushed(head: Head, moved: Space) -> Tensor:
    """Return the scan with its brain pushed aside; the skull stays where it is."""
    shares = head.inside
    pushed = _sample(head.hu, head.space, moved.points)
    return head.hu + (pushed - head.hu) * shares * torch.sigmoid((60 - pushed) / 5)
