"""Maps of one head's anatomy, which every simulated series samples at its own points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from ichnode.phantom.anatomy import draw_anatomy, paint_outside
from ichnode.phantom.brain import paint_brain
from ichnode.phantom.fields import Points

MAPS = ("head", "cavity", "grey", "white", "fluid", "depth", "ventricle", "under")
_BRAIN_ABOVE_HU = -500.0
_SKIN_HU = -550.0  # where a blurred head begins
_INNER_TABLE_HU = (-50.0, 180.0)  # of an average, whose thin bone is blurred
_BOX_MM = ((-90.0, 90.0), (-126.0, 100.0), (-84.0, 108.0))  # of a procedural head's maps
_AHEAD_MM = 3.0  # a procedural head lies so far ahead of the template
Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class AnatomyMaps:
    """What is where in one head, on a coarse grid.

    Attributes
    ----------
    maps : Tensor, float32, (map, z, y, x)
        In the order of `MAPS`: ``head`` in HU, the fractions of cavity, grey and white matter and
        fluid, ``depth`` in mm below the inner table (negative outside), the fraction of fluid
        that lies in the ventricles, and the depth ``under`` the skin in mm.
    origin_mm : tuple of float
        (x, y, z) of the first voxel: x to one side, y forwards, z upwards, about where MNI has
        them.
    voxel_mm : float
    """

    maps: Tensor = field(repr=False)
    origin_mm: tuple[float, float, float]
    voxel_mm: float
    _deep: npt.NDArray[np.float32] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Keep the depths where drawing looks for places."""
        object.__setattr__(self, "_deep", self.maps[MAPS.index("depth")].cpu().numpy())

    def to(self, device: torch.device | str) -> AnatomyMaps:
        """Return the maps on a device."""
        return AnatomyMaps(self.maps.to(device), self.origin_mm, self.voxel_mm)

    def at(self, points: tuple[Tensor, Tensor, Tensor], names: tuple[str, ...]) -> list[Tensor]:
        """Return some maps at points (x, y, z) in mm, each of the points' shape (z, y, x)."""
        chosen = self.maps[[MAPS.index(name) for name in names]]
        size = chosen.shape[:0:-1]  # x, y, z
        place = torch.stack(
            [
                (axis - first) * (2 / (self.voxel_mm * (n - 1))) - 1
                for axis, first, n in zip(points, self.origin_mm, size, strict=True)
            ],
            dim=-1,
        )
        found = functional.grid_sample(
            chosen[None], place[None], padding_mode="border", align_corners=True
        )
        return list(found[0])

    def inside(self, least_mm: float, most_mm: float = np.inf) -> npt.NDArray[np.float64]:
        """Return the places (n, 3), x y z in mm, that lie so deep inside the cavity."""
        z, y, x = np.nonzero((self._deep >= least_mm) & (self._deep <= most_mm))
        voxels = np.stack([x, y, z], axis=1).astype(np.float64)
        places: npt.NDArray[np.float64] = voxels * self.voxel_mm + np.array(self.origin_mm)
        return places


def template_maps(
    hu: Floats,
    stripped_hu: Floats,
    grey: Floats,
    white: Floats,
    fluid: Floats,
    *,
    origin_mm: tuple[float, float, float],
    voxel_mm: float,
) -> AnatomyMaps:
    """Return the maps of an average head with its tissues, arrays (x, y, z).

    The cavity is the brain grown to the inner table and nowhere across it: two voxels below the
    base's level, where the face is near, and five above.
    """
    brain = ndimage.binary_closing(stripped_hu > _BRAIN_ABOVE_HU, iterations=3)
    soft = (hu > _INNER_TABLE_HU[0]) & (hu < _INNER_TABLE_HU[1])
    level = np.arange(hu.shape[2]) * voxel_mm + origin_mm[2]
    grown = np.where(
        level > -8,
        ndimage.binary_dilation(brain, iterations=5, mask=soft),
        ndimage.binary_dilation(brain, iterations=2, mask=soft),
    )
    cavity = ndimage.binary_fill_holes(grown | brain)
    cavity = ndimage.binary_opening(cavity, iterations=4)  # where blurred bone has a gap
    depth = _depth_mm(cavity, voxel_mm)
    ventricle = (
        fluid * np.clip((depth - 18) / 6, 0, 1) * _ventricular(hu.shape, origin_mm, voxel_mm)
    )
    share = ndimage.gaussian_filter(cavity.astype(np.float32), 0.7)
    under = _depth_mm(hu > _SKIN_HU, voxel_mm)
    stack = np.stack([hu, share, grey, white, fluid, depth, ventricle, under]).astype(np.float32)
    maps = torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 2, 1)))
    return AnatomyMaps(maps, origin_mm, voxel_mm)


def _depth_mm(within: npt.NDArray[np.bool_], voxel_mm: float) -> Floats:
    """Return the depth below the surface of a body in mm, negative outside."""
    inner, outer = (ndimage.distance_transform_edt(part) for part in (within, ~within))
    depth: Floats = ndimage.gaussian_filter((inner - outer) * voxel_mm, 0.7)
    return depth


def _ventricular(
    shape: tuple[int, ...], origin_mm: tuple[float, float, float], voxel_mm: float
) -> Floats:
    """Return where deep fluid is that of the ventricles, not of the fissure between the halves."""
    x, y, z = np.meshgrid(
        *(np.arange(n) * voxel_mm + first for n, first in zip(shape, origin_mm, strict=True)),
        indexing="ij",
        sparse=True,
    )
    lateral = (np.abs(x) > 3) & (z > -22) & (z < 40)
    third = (np.abs(x) <= 3) & (y > -32) & (y < 8) & (z > -14) & (z < 16)
    fourth = (np.abs(x) < 14) & (y > -62) & (y < -32) & (z < -14)
    where: Floats = np.clip((44 - np.abs(x)) / 6, 0, 1) * (lateral | third | fourth)
    return where


def procedural_maps(seed: int, *, voxel_mm: float = 2.0) -> AnatomyMaps:
    """Return the maps of a head that `ichnode.phantom` draws, evaluated on a grid."""
    anatomy = draw_anatomy(np.random.default_rng((seed, 32)))  # no head of `simulate_head`
    axes = [np.arange(low, high + 1, voxel_mm, dtype=np.float32) for low, high in _BOX_MM]
    x, y, z = (axis.ravel() for axis in np.meshgrid(*axes, indexing="ij"))
    shape = tuple(len(axis) for axis in axes)
    points = Points(x, y + np.float32(_AHEAD_MM), z)
    outside = paint_outside(anatomy, points)
    chosen = outside.share > 0
    brain = paint_brain(anatomy.brain, points.where(chosen), outside.cranium_at(chosen).depth)
    fluid = np.maximum(brain.csf, brain.ventricle)
    parts = {
        "head": np.where(outside.share > 0, outside.hu + 30 * outside.share, outside.hu),
        "cavity": outside.share,
        "grey": _spread(chosen, (1 - fluid) * (1 - brain.white)),
        "white": _spread(chosen, (1 - fluid) * brain.white),
        "fluid": _spread(chosen, fluid),
        "depth": outside.cranium.depth,
        "ventricle": _spread(chosen, brain.ventricle),
    }
    parts["under"] = _depth_mm(parts["head"].reshape(shape) > _SKIN_HU, voxel_mm)
    stack = np.stack([parts[name].astype(np.float32).reshape(shape) for name in MAPS])
    maps = torch.from_numpy(np.ascontiguousarray(stack.transpose(0, 3, 2, 1)))
    first = (_BOX_MM[0][0], _BOX_MM[1][0], _BOX_MM[2][0])
    return AnatomyMaps(maps, first, voxel_mm)


def _spread(chosen: npt.NDArray[np.bool_], values: Floats) -> Floats:
    whole = np.zeros(chosen.shape, np.float32)
    whole[chosen] = values
    return whole
