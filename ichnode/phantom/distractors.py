"""What looks like blood or hides it and is neither: calcification, dense vessels, old infarcts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ichnode.phantom.brain import Brain
from ichnode.phantom.fields import (
    Field,
    Points,
    Spot,
    Texture,
    as_field,
    draw_texture,
    log_uniform,
    ramp,
)


@dataclass(frozen=True, slots=True)
class Calcification:
    """A small dense spot."""

    at: Spot
    radius_mm: float
    hu: float


@dataclass(frozen=True, slots=True)
class LowDensity:
    """An old infarct or another region that has lost density."""

    at: Spot
    radius_mm: float
    loss_hu: float
    edge_mm: float
    variant: float


@dataclass(frozen=True, slots=True)
class Collection:
    """A hygroma or chronic subdural collection: fluid without fresh blood."""

    direction: Spot
    thickness_mm: float
    width_rad: float
    hu: float


@dataclass(frozen=True, slots=True)
class Distractors:
    """All that one head has of these."""

    calcifications: tuple[Calcification, ...]
    low: tuple[LowDensity, ...]
    collection: Collection | None
    sinus_hu: float
    grain: Texture


def draw_distractors(rng: np.random.Generator, age_years: float) -> Distractors:
    """Draw what an older head has more of than a younger one."""
    collection = None
    if rng.random() < 0.04 + 0.06 * (age_years > 65):
        angle = rng.uniform(-2.4, 2.4)
        collection = Collection(
            direction=(float(np.sin(angle)), float(np.cos(angle)), float(rng.uniform(0.1, 0.6))),
            thickness_mm=log_uniform(rng, 3, 14),
            width_rad=float(rng.uniform(0.5, 1.1)),
            hu=float(rng.uniform(6, 33)),
        )
    return Distractors(
        calcifications=tuple(_draw_calcifications(rng, age_years)),
        low=tuple(_draw_low(rng, age_years)),
        collection=collection,
        sinus_hu=float(rng.uniform(44, 68)),
        grain=draw_texture(rng, 11, 0.8),
    )


def _draw_calcifications(rng: np.random.Generator, age: float) -> list[Calcification]:
    old = float(np.clip((age - 20) / 50, 0.15, 1))
    spots = []
    if rng.random() < 0.7 * old:
        spots.append(_spot(rng, (0, -33, 5), 1.5, (1.2, 3.2), (90, 320)))  # pineal
    spots += [  # choroid plexus in the atrium
        _spot(rng, (side * 21, -38, 12), 2.5, (1.2, 3.3), (70, 350))
        for side in (-1, 1)
        if rng.random() < 0.75 * old
    ]
    if rng.random() < 0.15 * old:
        for side in (-1, 1):  # globus pallidus, both sides
            spots += [
                _spot(rng, (side * 20, 2, 3), 2.5, (1.2, 3.0), (48, 140))
                for _ in range(int(rng.integers(1, 4)))
            ]
    if rng.random() < 0.28 * old:
        heights = rng.uniform((30, 18), (70, 55), (int(rng.integers(1, 4)), 2))  # falx
        spots += [
            _spot(rng, (0.0, float(y), float(z)), 0.7, (1.2, 4.0), (80, 500)) for y, z in heights
        ]
    return spots


def _spot(
    rng: np.random.Generator,
    at: Spot,
    jitter: float,
    radius: tuple[float, float],
    hu: tuple[float, float],
) -> Calcification:
    x, y, z = np.asarray(at) + rng.normal(0, jitter, 3)
    return Calcification(
        (float(x), float(y), float(z)), float(rng.uniform(*radius)), log_uniform(rng, *hu)
    )


def _draw_low(rng: np.random.Generator, age: float) -> list[LowDensity]:
    found = []
    for _ in range(int(rng.poisson(0.15 + 0.3 * (age > 60)))):
        angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(-45, 50)
        reach = rng.uniform(0.35, 1.0) * np.sqrt(max(1 - (height / 72) ** 2, 0.1))
        at = (float(np.sin(angle) * 62 * reach), float(np.cos(angle) * 76 * reach), float(height))
        found.append(
            LowDensity(
                at,
                log_uniform(rng, 3, 26),
                float(rng.uniform(4, 26)),
                float(rng.uniform(2, 9)),
                float(rng.uniform(1, 2)),
            )
        )
    return found


def paint_distractors(
    these: Distractors, points: Points, depth: Field, brain: Brain, csf_hu: float
) -> Field:
    """Return the brain's density with the distractors in it, HU."""
    hu = brain.hu
    tissue = 1 - np.maximum(brain.csf, brain.ventricle)
    for low in these.low:
        hu = hu - _loss(these, low, points) * tissue
    if these.collection is not None:
        amount = _layer(these.collection, points, depth)
        hu = hu + (these.collection.hu - hu) * amount
    hu = np.maximum(hu, csf_hu - 2)
    for spot in these.calcifications:
        hu = _calcify(these, spot, points, hu)
    return hu.astype(np.float32)


def _away(points: Points, at: Spot) -> Field:
    return as_field(
        np.sqrt((points.x - at[0]) ** 2 + (points.y - at[1]) ** 2 + (points.z - at[2]) ** 2)
    )


def _loss(these: Distractors, low: LowDensity, points: Points) -> Field:
    away = _away(points, low.at)
    near = away < 2.0 * low.radius_mm
    result = np.zeros_like(away)
    rough = low.radius_mm * 0.35 * these.grain.at(points.where(near), max(low.radius_mm / 6, 1.2))
    result[near] = low.loss_hu * ramp(low.radius_mm + rough - away[near], low.edge_mm)
    return result


def _layer(collection: Collection, points: Points, depth: Field) -> Field:
    unit = np.asarray(collection.direction) / np.linalg.norm(collection.direction)
    x, y, z = (float(v) for v in unit)
    r = np.sqrt(points.x**2 + (points.y + 8) ** 2 + points.z**2) + 1e-3
    angle = np.arccos(np.clip((points.x * x + (points.y + 8) * y + points.z * z) / r, -1, 1))
    thick = collection.thickness_mm * np.sqrt(
        np.clip(1 - (angle / collection.width_rad) ** 4, 0, 1)
    )
    same_side = ramp(np.sign(x) * points.x + 1, 2)
    return ramp(thick - depth, 1.5) * same_side * ramp(thick - 0.8, 0.8)


def _calcify(these: Distractors, spot: Calcification, points: Points, hu: Field) -> Field:
    away = _away(points, spot.at)
    near = away < 2.5 * spot.radius_mm
    here = points.where(near)
    rough = 0.3 * spot.radius_mm * these.grain.at(here, 0.5)
    amount = ramp(spot.radius_mm + rough - away[near], 1.2)
    changed = hu.copy()
    changed[near] += np.maximum(spot.hu - hu[near], 0) * amount
    return changed
