"""Shapes that bleeds and their mimics share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ichnode.phantom.randomised.maps import AnatomyMaps
from ichnode.phantom.randomised.space import CENTRE_MM, Space

Spot = tuple[float, float, float]


def some_place(
    rng: np.random.Generator, maps: AnatomyMaps, least_mm: float, most_mm: float = np.inf
) -> Spot:
    """Return a place in the cavity, so deep below the inner table."""
    places = maps.inside(least_mm, most_mm)
    x, y, z = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 3) * maps.voxel_mm
    return float(x), float(y), float(z)


def blob(
    rng: np.random.Generator,
    space: Space,
    at: Spot,
    radius_mm: float,
    *,
    rough: float | None = None,
    longest: float = 2.2,
) -> Tensor:
    """Return how far inside an irregular body each point is: 1 in its middle, 0 at its edge."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    stretch = np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(longest))
    stretch = stretch / np.prod(stretch) ** (1 / 3)
    rough = rng.uniform(0.08, 0.4) if rough is None else rough
    x, y, z = (axis - centre for axis, centre in zip(space.points, at, strict=True))
    square = torch.zeros_like(x)
    for row, length in zip(turn, stretch, strict=True):
        along = x * float(row[0]) + y * float(row[1]) + z * float(row[2])
        square = square + (along / float(length * radius_mm)) ** 2
    reach = torch.sqrt(square)
    waves = [max(radius_mm * share, 2.5) for share in (1.7, 0.8, 0.4)]
    relief = space.fields.draw(*(_round(wave) for wave in waves), weights=(0.7, 0.5, 0.3))
    return 1 - reach + rough * relief * (1.5 - 0.5 * reach).clamp(0, 1)


def _round(length_mm: float) -> float:
    """Return one of few wave lengths, so that their matrices are made once."""
    return float(round(2 ** (round(np.log2(length_mm) * 3) / 3), 2))


def direction_angle(rng: np.random.Generator, space: Space, way: Spot | None = None) -> Tensor:
    """Return the angle in radians of each point from a direction out of the head's middle.

    A direction that is not given points sideways or upwards, seldom to the base.
    """
    if way is None:
        turn, lift = rng.uniform(-np.pi, np.pi), rng.uniform(-0.25, 0.9)
        way = (float(np.sin(turn)), float(np.cos(turn)), float(lift))
    unit = np.asarray(way) / np.linalg.norm(way)
    x, y, z = (axis - centre for axis, centre in zip(space.points, CENTRE_MM, strict=True))
    length = torch.sqrt(x * x + y * y + z * z) + 1e-3
    cosine = (x * float(unit[0]) + y * float(unit[1]) + z * float(unit[2])) / length
    return torch.arccos(cosine.clamp(-1, 1))
