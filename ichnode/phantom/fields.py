"""Scalar fields over points of the head: distances, ramps and band-limited random texture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.ndimage import map_coordinates

Field: TypeAlias = npt.NDArray[np.float32]
Values: TypeAlias = npt.NDArray[np.floating[Any]]
Where: TypeAlias = npt.NDArray[np.bool_]
Spot: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Points:
    """Points of the head in mm: x to the patient's left, y forwards, z upwards, flat float32."""

    x: Field
    y: Field
    z: Field

    def where(self, chosen: Where) -> Points:
        """Return the chosen points alone."""
        return Points(self.x[chosen], self.y[chosen], self.z[chosen])


@dataclass(frozen=True, slots=True)
class Texture:
    """Periodic random noise of zero mean and unit variance on a cubic grid."""

    grid: Field  # (n, n, n)

    def at(self, points: Points, voxel_mm: float) -> Field:
        """Return the noise at `points`, one grid voxel being `voxel_mm` wide."""
        place = np.stack([points.z, points.y, points.x]) / np.float32(voxel_mm)
        return as_field(map_coordinates(self.grid, place, order=1, mode="grid-wrap"))


def draw_texture(rng: np.random.Generator, period: float, width: float, n: int = 48) -> Texture:
    """Draw noise whose waves are about `period` voxels long, `width` octaves wide."""
    spectrum = np.fft.rfftn(rng.standard_normal((n, n, n), dtype=np.float32))
    line, half = np.fft.fftfreq(n), np.fft.rfftfreq(n)
    f = np.sqrt(line[:, None, None] ** 2 + line[None, :, None] ** 2 + half[None, None, :] ** 2)
    spectrum *= np.exp(-0.5 * (np.log2(np.maximum(f, 1e-6) * period) / width) ** 2)
    grid = np.fft.irfftn(spectrum, s=(n, n, n), axes=(0, 1, 2))
    return Texture((grid / grid.std()).astype(np.float32))


def as_field(values: Values) -> Field:
    """Return `values` as float32 (a stray 64-bit scalar doubles the work of all that follows)."""
    return np.asarray(values, dtype=np.float32)


def ramp(value: Values, width: float) -> Field:
    """Return 0 below, 1 above, and a straight ramp `width` wide about zero."""
    return as_field(np.clip(as_field(value) / np.float32(width) + np.float32(0.5), 0.0, 1.0))


def bell(value: Values, width: float) -> Field:
    """Return a Gaussian of standard deviation `width`."""
    near = as_field(value)
    return as_field(np.exp(np.float32(-0.5 / width**2) * near * near))


def ellipsoid(points: Points, centre: Spot, radii: Spot) -> Field:
    """Return the distance in mm to an ellipsoid's surface, positive inside (exact near it)."""
    u = (points.x - np.float32(centre[0])) / np.float32(radii[0])
    v = (points.y - np.float32(centre[1])) / np.float32(radii[1])
    w = (points.z - np.float32(centre[2])) / np.float32(radii[2])
    reach = np.sqrt(u * u + v * v + w * w)
    steep = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
    return as_field(reach * (1.0 - reach) / np.maximum(steep, 1e-4))


def capsule(points: Points, start: Spot, end: Spot, radii: tuple[float, float]) -> Field:
    """Return the distance to a tapering tube from `start` to `end`, positive inside."""
    axis = np.subtract(end, start).astype(np.float32)
    px, py, pz = points.x - start[0], points.y - start[1], points.z - start[2]
    along = np.clip((px * axis[0] + py * axis[1] + pz * axis[2]) / (axis @ axis), 0.0, 1.0)
    px, py, pz = px - along * axis[0], py - along * axis[1], pz - along * axis[2]
    radius = radii[0] + (radii[1] - radii[0]) * along
    return as_field(radius - np.sqrt(px * px + py * py + pz * pz))


def union(*parts: Field) -> Field:
    """Return the distance to the union of solids (positive inside)."""
    result = parts[0]
    for part in parts[1:]:
        result = np.maximum(result, part)
    return result


def mirrored(points: Points) -> Points:
    """Fold both sides of the head onto the left one."""
    return Points(np.abs(points.x), points.y, points.z)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
