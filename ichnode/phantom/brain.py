"""Brain, ventricles, cisterns and sulci inside the cranial cavity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ichnode.phantom.fields import (
    Field,
    Points,
    Texture,
    as_field,
    bell,
    capsule,
    draw_texture,
    ellipsoid,
    ramp,
    union,
)


@dataclass(frozen=True, slots=True)
class BrainPlan:
    """One drawn brain."""

    age_years: float
    atrophy: float  # 0 to 1
    white_hu: float
    grey_hu: float
    csf_hu: float
    ventricle_scale: float
    ventricle_lean: float  # left over right
    fissure_mm: float
    sulcus_width: float
    surface_csf_mm: float
    pallor: float  # HU that the periventricular white matter has lost
    bend_mm: float
    phases: tuple[float, float, float, float]
    folds: Texture
    grain: Texture


@dataclass(frozen=True, slots=True)
class Brain:
    """The brain at each point of the cavity."""

    hu: Field
    csf: Field  # fraction of fluid outside the ventricles
    clefts: Field  # where blood can spread over the surface: `csf` and the closed sulci
    ventricle: Field  # fraction of fluid inside the ventricles
    white: Field  # fraction of white matter
    infratentorial: Field
    tentorium_mm: Field  # height above the tentorium


def draw_brain(rng: np.random.Generator) -> BrainPlan:
    """Draw a brain; fluid spaces widen with age."""
    age = float(rng.uniform(20, 92))
    atrophy = float(np.clip((age - 30) / 70 + rng.normal(0, 0.18), 0, 1))
    white = float(rng.normal(26.5, 1.3))
    return BrainPlan(
        age_years=age,
        atrophy=atrophy,
        white_hu=white,
        grey_hu=white + float(np.clip(rng.normal(9.0, 1.5), 5.5, 12)),
        csf_hu=float(rng.normal(7, 2)),
        ventricle_scale=float(np.clip(0.65 + 0.85 * atrophy + rng.normal(0, 0.14), 0.45, 1.9)),
        ventricle_lean=float(rng.normal(0, 0.07)),
        fissure_mm=float(np.clip(0.4 + 2.0 * atrophy + rng.normal(0, 0.3), 0.2, 3.2)),
        sulcus_width=float(np.clip(0.08 + 0.42 * atrophy + rng.normal(0, 0.05), 0.05, 0.55)),
        surface_csf_mm=float(np.clip(0.5 + 2.5 * atrophy + rng.normal(0, 0.5), 0.3, 4.5)),
        pallor=float(max(0.0, 12 * atrophy * rng.uniform(0, 1.0))),
        bend_mm=float(rng.normal(0, 1.0)),
        phases=tuple(rng.uniform(0, 6.3, 4)),
        folds=draw_texture(rng, 10, 0.28),
        grain=draw_texture(rng, 9, 0.9),
    )


def midline_mm(plan: BrainPlan, points: Points) -> Field:
    """Return the signed distance to the mid-plane, which is never quite flat."""
    a, b, _, _ = plan.phases
    wave = 0.9 * np.sin(points.y / 28 + a) + 0.7 * np.sin(points.z / 24 + b)
    return (points.x - plan.bend_mm * np.cos(points.y / 60) - wave * 0.7).astype(np.float32)


def tentorium_height(points: Points) -> Field:
    """Return the height in mm above the tentorium's sheet."""
    side = np.abs(points.x)
    sheet = 7 - 0.42 * side - 0.36 * np.maximum(-(points.y + 42), 0) + 0.004 * (side - 25) ** 2
    sheet -= 0.15 * np.maximum(points.y + 30, 0)
    return (points.z - sheet).astype(np.float32)


def paint_brain(plan: BrainPlan, points: Points, depth: Field) -> Brain:
    """Return the brain at `points`, `depth` mm inside the cavity's wall."""
    mid = midline_mm(plan, points)
    pair = Points(np.abs(mid), points.y, points.z)
    above = tentorium_height(points)
    below = ramp(-above, 2.0) * ramp(-(points.y + 2) - 0.62 * (pair.x - 10) + 3, 3.0)
    wavy = plan.grain.at(points, 2.6)
    folds = _folds(plan, points)
    ventricle_mm = _ventricles(plan, pair, mid, wavy)
    stem = _brainstem(pair)
    csf = _fluid(plan, pair, depth, folds, stem, below, above, wavy)
    ventricle = ramp(ventricle_mm, 1.2)
    csf = csf * (1 - ventricle)
    closed = ramp(0.26 - folds, 0.18) * ramp(14 + 5 * wavy - depth, 6) * (1 - 0.7 * below)
    clefts = np.maximum(csf, closed * (1 - ventricle))
    white = _white(plan, pair, depth, folds, stem, below, wavy)
    hu = plan.grey_hu + (plan.white_hu - plan.grey_hu) * white
    hu -= plan.pallor * ramp(ventricle_mm + 11 + 3 * wavy, 14) * white
    hu += 0.7 * wavy - 1.5 * below
    fluid = np.maximum(csf, ventricle)
    hu = hu + (plan.csf_hu - hu) * fluid
    return Brain(as_field(hu), csf, clefts, ventricle, white, below, above)


def _folds(plan: BrainPlan, points: Points) -> Field:
    # Waves that hardly change along the radius, so that their zero lines are walls which run
    # inwards from the surface as sulci do.
    r = np.sqrt(points.x**2 + (points.y + 8) ** 2 + points.z**2) + 1e-3
    reach = (62 + 0.45 * (r - 62)) / r
    swirl = 4.0 * plan.grain.at(points, 3.6)
    ray = Points(points.x * reach + swirl, points.y * reach - swirl, points.z * reach + 0.7 * swirl)
    return np.abs(plan.folds.at(ray, 2.3))


def _ventricles(plan: BrainPlan, pair: Points, mid: Field, wavy: Field) -> Field:
    s = plan.ventricle_scale
    lean = (1 + plan.ventricle_lean * np.sign(mid)).astype(np.float32)
    horn = _flat(pair, (4.5, 5, 8), (13, 32, 6), (3.0 * s, 4.0 * s))
    body = _flat(pair, (8, 18, 15), (12, -18, 23), (4.4 * s, 4.8 * s))
    neck = capsule(pair, (12, -18, 23), (23, -36, 12), (4.8 * s, 6.5 * s))
    occipital = capsule(pair, (23, -36, 12), (25, -56, 6), (5.5 * s, 1.5 * s))
    temporal = capsule(pair, (24, -34, 10), (31, -14, -14), (3.6 * s, 1.6 * s))
    lateral = union(horn, body, neck, occipital, temporal) * lean
    # The two bodies never meet: the septum keeps them apart.
    lateral = np.minimum(lateral, pair.x - 0.5)
    third = ellipsoid(pair, (0, -4, 0), (0.6 + 2.4 * s, 15, 11))
    fourth = ellipsoid(pair, (0, -46, -31), (3 + 4 * s, 2 + 3 * s, 10))
    return union(lateral + 0.35 * wavy, third, fourth)


def _flat(
    pair: Points,
    start: tuple[float, float, float],
    end: tuple[float, float, float],
    radii: tuple[float, float],
) -> Field:
    squeezed = Points(pair.x * 1.15, pair.y, pair.z * 0.75)
    first = (start[0] * 1.15, start[1], start[2] * 0.75)
    last = (end[0] * 1.15, end[1], end[2] * 0.75)
    return capsule(squeezed, first, last, radii)


def _brainstem(pair: Points) -> Field:
    midbrain = ellipsoid(pair, (0, -24, -8), (16, 13, 14))
    pons = ellipsoid(pair, (0, -27, -30), (15, 13, 15))
    medulla = capsule(pair, (0, -33, -40), (0, -41, -66), (10, 7.5))
    cord = capsule(pair, (0, -41, -66), (0, -44, -140), (7, 6))
    return union(midbrain, pons, medulla, cord)


def _fluid(
    plan: BrainPlan,
    pair: Points,
    depth: Field,
    folds: Field,
    stem: Field,
    below: Field,
    above: Field,
    wavy: Field,
) -> Field:
    surface = plan.surface_csf_mm * (1 + 0.4 * wavy) * (0.6 + 0.6 * ramp(pair.y + 10, 60))
    shell = ramp(surface * (1 - 0.7 * below) - depth, 1.6)
    reach = np.clip(1 - (depth - 3) / 17, 0, 1)
    opened = plan.sulcus_width * (0.35 + 0.65 * reach + 0.30 * wavy)
    sulci = ramp(opened - folds, 0.18) * ramp(13 + 5 * wavy - depth, 6) * (1 - 0.85 * below)
    medial = ramp(plan.fissure_mm * (0.55 + 0.3 * wavy) - pair.x, 1.2)
    medial = medial * ramp(_callosum(pair), 3) * (1 - below)
    spaces = np.maximum(_sylvian(plan, pair, wavy), _cisterns(plan, pair, stem, above, wavy))
    return np.maximum(np.maximum(shell, sulci), np.maximum(medial, spaces))


def _callosum(pair: Points) -> Field:
    """Return the distance outside the corpus callosum and diencephalon (mid-plane region)."""
    return -ellipsoid(pair, (0, -6, 4), (30, 36, 29))


def _sylvian(plan: BrainPlan, pair: Points, wavy: Field) -> Field:
    wide = 0.5 + 0.65 * plan.fissure_mm + 0.5 * wavy
    insula = wide - np.abs(pair.x - 40 - 0.012 * (pair.y - 2) ** 2 * 0.5 + wavy)
    insula = np.minimum(insula, ellipsoid(pair, (41, 2, 5), (14, 22, 15)))
    slope = 9 + 0.5 * (pair.z - 2) - 0.30 * (pair.x - 40)
    cleft = np.minimum(
        wide - np.abs(pair.y - slope - 2 * wavy) * 0.8, ellipsoid(pair, (52, 8, 2), (16, 20, 14))
    )
    stem = np.minimum(
        wide - np.abs(pair.y - 12 - 0.10 * (pair.x - 15)) * 0.8,
        ellipsoid(pair, (26, 13, -11), (17, 8, 4.5)),
    )
    return ramp(union(insula, cleft, stem), 1.6)


def _cisterns(plan: BrainPlan, pair: Points, stem: Field, above: Field, wavy: Field) -> Field:
    open_mm = 0.8 + 0.8 * plan.fissure_mm
    chiasm = ellipsoid(pair, (0, 3, -13), (9 + 2 * open_mm, 8 + 2 * open_mm, 6))
    ambient = 0.7 * open_mm + 1.0 * wavy - np.abs(stem + 1.2)
    ambient = np.minimum(ambient, (22 - pair.x).astype(np.float32))
    ambient = ambient - np.maximum(np.abs(pair.z + 3) - 9, 0) * 0.7
    ahead = ramp(pair.y + 36 + 0.5 * np.maximum(pair.x - 8, 0), 4)  # in front of the cerebellum
    around = 0.7 * ramp(ambient, 2.0) * np.maximum(ahead, ramp(pair.z + 16, 4))
    collicular = ellipsoid(pair, (0, -41, 1), (6 + 2 * open_mm, 2.5 + open_mm, 6))
    magna = ellipsoid(pair, (0, -72, -52), (10, 6 + 3 * open_mm, 9))
    canal = ramp(-stem, 1.5) * ramp(-pair.z - 56, 4)
    lid = ramp(open_mm * 0.5 - np.abs(above - 1.0), 1.5) * ramp(-(pair.y + 30), 8) * 0.6
    spaces = ramp(union(chiasm, collicular, magna), 1.5)
    # The stem itself is brain, whatever runs through it.
    return as_field(
        np.maximum(spaces, np.maximum(np.maximum(around, canal), lid)) * ramp(-stem, 1.2)
    )


def _white(
    plan: BrainPlan,
    pair: Points,
    depth: Field,
    folds: Field,
    stem: Field,
    below: Field,
    wavy: Field,
) -> Field:
    ribbon = ramp(folds - plan.sulcus_width - 0.42 + 0.03 * np.clip(depth - 8, -8, 34), 0.35)
    cortex = ramp(depth - plan.surface_csf_mm - 4.5 + wavy, 3.0)
    white = np.minimum(ribbon, cortex)
    caudate = ellipsoid(pair, (14, 18, 10), (5.5, 10, 9))
    lentiform = ellipsoid(pair, (25, 4, 2), (7.5, 17, 9))
    thalamus = ellipsoid(pair, (10, -14, 6), (9, 14, 9))
    insula = ellipsoid(pair, (37, 2, 4), (3, 19, 12))
    deep = ramp(union(caudate, lentiform, thalamus, insula), 2.0)
    white = white * (1 - 0.9 * deep)
    stem_white = 0.55 * ramp(stem, 2)
    cerebellar = 0.7 * ramp(depth - 12 + 2 * wavy, 6) * ramp(pair.x - 5, 6)
    lower = np.maximum(cerebellar, stem_white)
    return as_field(np.maximum(white * (1 - below) + lower * below, stem_white))


def dural_hu(plan: BrainPlan, points: Points, depth: Field, brain: Brain, dense: float) -> Field:
    """Return the density that falx, tentorium, sinuses and arteries have; 0 where there are none.

    Parameters
    ----------
    dense : float
        Density of flowing blood, HU.
    """
    mid = midline_mm(plan, points)
    side = np.abs(mid)
    pair = Points(side, points.y, points.z)
    falx = bell(mid, 0.75) * ramp(_callosum(pair), 4) * (1 - brain.infratentorial) * 0.75
    rim = ramp(-(points.y + 8), 20) * 0.9 + 0.35
    tent = bell(brain.tentorium_mm, 1.0) * ramp(-(points.y + 24), 8) * ramp(side - 6, 4) * 0.45
    sagittal = _sagittal_sinus(side, depth)
    sagittal = sagittal * ramp(np.maximum(points.z - 25, -points.y - 60), 8) * (points.z > -18)
    sigmoid = 3.2 - np.sqrt(depth**2 + (0.7 * (brain.tentorium_mm + 2)) ** 2)
    lateral = ramp(sigmoid, 1.5) * ramp(-(points.y + 22), 6) * ramp(side - 8, 6)
    straight = ramp(capsule(pair, (0, -44, 8), (0, -80, -10), (1.5, 2.2)), 1.2)
    arteries = ramp(_arteries(pair), 1.2)
    amount = np.maximum(falx * rim, tent)
    blood = np.maximum(np.maximum(sagittal, lateral), np.maximum(straight, arteries))
    return as_field(np.maximum(amount * 58, blood * dense))


def _sagittal_sinus(side: Field, depth: Field) -> Field:
    return ramp(4.5 - np.sqrt((side * 1.2) ** 2 + depth**2), 1.5)


def _arteries(pair: Points) -> Field:
    basilar = capsule(pair, (0, -13, -22), (0, -12, -12), (1.6, 1.5))
    carotid = capsule(pair, (9, 4, -18), (10, 5, -11), (1.8, 1.6))
    middle = capsule(pair, (11, 6, -11), (30, 10, -10), (1.3, 1.1))
    return union(basilar, carotid, middle)
