"""Five kinds of bleed, painted into a brain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom.brain import Brain
from ichnode.phantom.fields import (
    Field,
    Points,
    Spot,
    Texture,
    as_field,
    bell,
    draw_texture,
    log_uniform,
    ramp,
)

KINDS: tuple[Label, ...] = LABELS[1:]
FREQUENCY = (0.10, 0.30, 0.13, 0.24, 0.23)  # of KINDS, where the seed decides
DEEP_SITES: tuple[tuple[Spot, float], ...] = (
    ((25, 2, 4), 0.45),  # lentiform nucleus
    ((11, -14, 7), 0.25),  # thalamus
    ((22, -58, -34), 0.18),  # cerebellum
    ((1, -27, -29), 0.12),  # pons
)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a bleed needs to know of the points of the cavity."""

    points: Points
    depth: Field  # mm inside the cavity's wall
    floor: Field  # mm above the base
    mid: Field  # signed distance to the mid-plane, mm
    brain: Brain


@dataclass(frozen=True, slots=True)
class Bleed:
    """One drawn bleed."""

    kind: Label
    hu: float
    volume_ml: float
    site: Spot
    side: int  # 1 left, -1 right
    variant: float  # 0 to 1: chooses among the forms of a kind
    sharpness: float
    oedema_hu: float
    oedema_mm: float
    aspect: float
    unevenness_hu: float
    grain: Texture


def draw_bleeds(
    rng: np.random.Generator, kinds: Sequence[Label] | None, least_ml: float
) -> tuple[Bleed, ...]:
    """Draw bleeds: the named kinds, or with None what chance gives (half the time none)."""
    if kinds is None:
        if rng.random() < 0.5:
            return ()
        count = 1 + int(rng.random() < 0.3) + int(rng.random() < 0.08)
        picked = rng.choice(len(KINDS), size=count, replace=False, p=FREQUENCY)
        kinds = tuple(KINDS[i] for i in picked)
    return tuple(_draw(rng, kind, least_ml) for kind in kinds)


def _draw(rng: np.random.Generator, kind: Label, least_ml: float) -> Bleed:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is not a kind of bleed; the kinds are {', '.join(KINDS)}")
    least = 1.5 if kind == "subarachnoid" else 0.4
    volume = max(log_uniform(rng, least, 70.0), least_ml)
    side = 1 if rng.random() < 0.5 else -1
    return Bleed(
        kind=kind,
        hu=float(np.clip(rng.normal(66, 8), 50, 85)),
        volume_ml=volume,
        site=_site(rng, kind, side),
        side=side,
        variant=float(rng.random()),
        sharpness=float(rng.uniform(1.5, 4.0)),
        oedema_hu=float(rng.uniform(3, 12)),
        oedema_mm=float(rng.uniform(0, 9)),
        aspect=float(rng.uniform(1.0, 1.9)),
        unevenness_hu=float(rng.uniform(0.5, 5)),
        grain=draw_texture(rng, 12, 0.8),
    )


def _site(rng: np.random.Generator, kind: Label, side: int) -> Spot:
    """Return where a bleed sits: a place in the brain, or a direction on the vault."""
    if kind == "intraparenchymal" and rng.random() < 0.6:
        sites = [site for site, _ in DEEP_SITES]
        at = sites[rng.choice(len(sites), p=[share for _, share in DEEP_SITES])]
        jitter = rng.normal(0, 2.5, 3)
        return (side * at[0] + jitter[0], at[1] + jitter[1], at[2] + jitter[2])
    if kind == "intraparenchymal":
        angle, height = rng.uniform(-2.6, 2.6), rng.uniform(-8, 48)
        reach = rng.uniform(0.5, 0.86) * np.sqrt(max(1 - ((height - 5) / 66) ** 2, 0.1))
        return (
            side * abs(np.sin(angle)) * 60 * reach + side * 4,
            np.cos(angle) * 74 * reach,
            height,
        )
    angle = float(np.clip(rng.normal(1.45, 0.6), 0.25, 2.8))  # 0 in front, pi behind
    height = float(rng.uniform(-0.12, 0.55))
    return (side * float(np.sin(angle)), float(np.cos(angle)), height)


def extent(bleed: Bleed, around: Surroundings) -> Field:
    """Return the fraction of each point that blood fills, float32, 0 to 1."""
    painters: dict[Label, Callable[[Bleed, Surroundings], Field]] = {
        "epidural": _epidural,
        "intraparenchymal": _intraparenchymal,
        "intraventricular": _intraventricular,
        "subarachnoid": _subarachnoid,
        "subdural": _subdural,
    }
    return np.clip(painters[bleed.kind](bleed, around), 0.0, 1.0)


def _angle(bleed: Bleed, points: Points) -> Field:
    """Return the angle in radians between each point and the bleed's direction."""
    sx, sy, sz = (float(v) for v in np.asarray(bleed.site) / np.linalg.norm(bleed.site))
    r = np.sqrt(points.x**2 + (points.y + 8) ** 2 + points.z**2) + 1e-3
    cosine = (points.x * sx + (points.y + 8) * sy + points.z * sz) / r
    return as_field(np.arccos(np.clip(cosine, -1, 1)))


def _epidural(bleed: Bleed, around: Surroundings) -> Field:
    # A spherical cap against the inner table: volume = pi/2 h w^2, with w about 1.9 h to 2.6 h.
    ratio = 1.9 + 0.7 * bleed.variant
    height = (2 * bleed.volume_ml * 1000 / (np.pi * ratio**2)) ** (1 / 3)
    wide = ratio * height / 62
    angle = _angle(bleed, around.points)
    lens = height * (1 - (angle / wide) ** 2)
    return ramp(lens * (1 + 0.06 * _grain(bleed, around, 4)) - around.depth, bleed.sharpness)


def _subdural(bleed: Bleed, around: Surroundings) -> Field:
    if bleed.variant < 0.16:
        return _parafalcine(bleed, around)
    if bleed.variant < 0.24:
        return _tentorial(bleed, around)
    # Thin films are pulled together until they can be told from the bone.
    wide = min(0.55 + 0.75 * bleed.variant, (bleed.volume_ml * 1000 / 6.6) ** 0.5 / 66)
    thick = np.clip(bleed.volume_ml * 1000 / (0.6 * np.pi * (wide * 66) ** 2), 3.0, 24)
    angle = _angle(bleed, around.points)
    crescent = thick * np.sqrt(np.clip(1 - (angle / wide) ** 4, 0, 1)) + ramp(angle - wide, 1) * -9
    crescent = crescent * (1 + 0.15 * _grain(bleed, around, 5))
    body = ramp(crescent - around.depth, bleed.sharpness)
    return body * ramp(bleed.side * around.mid + 1, 2) * ramp(crescent - 0.8, 0.8)


def _parafalcine(bleed: Bleed, around: Surroundings) -> Field:
    thick = np.clip(bleed.volume_ml * 0.45, 2.5, 9)
    y, z = around.points.y, around.points.z
    length = 22 + 3 * np.sqrt(bleed.volume_ml)
    middle = -50 + 80 * (bleed.variant / 0.16)
    sheet = ramp(thick * (1 + 0.15 * _grain(bleed, around, 5)) - bleed.side * around.mid, 1.5)
    sheet = sheet * ramp(bleed.side * around.mid + 0.5, 1.0)
    open_ = ramp(-((y + 6) ** 2 / 36**2 + (z - 4) ** 2 / 29**2) * -1 - 1, 0.2)
    return sheet * ramp(length - np.abs(y - middle), 5) * open_ * (1 - around.brain.infratentorial)


def _tentorial(bleed: Bleed, around: Surroundings) -> Field:
    thick = np.clip(bleed.volume_ml * 0.35, 2.5, 7)
    above = around.brain.tentorium_mm
    sheet = ramp(thick - above, 1.5) * ramp(above + 0.5, 1.0)
    y, mid = around.points.y, around.mid
    reach = ramp(-(y + 26), 6) * ramp(bleed.side * mid - 2, 4) * ramp(48 - bleed.side * mid, 14)
    return sheet * reach


def _subarachnoid(bleed: Bleed, around: Surroundings) -> Field:
    points = around.points
    amount = np.float32(np.clip(0.78 + 0.08 * np.log(bleed.volume_ml + 1), 0.78, 1.0))
    if bleed.variant < 0.5:  # from an aneurysm: cisterns, then the fissures
        size = 18 + 6.0 * bleed.volume_ml ** (1 / 2.2)
        centre = (bleed.side * 14 * bleed.variant, 2.0, -10.0)
    else:  # over the convexity
        size = 9 + 5.0 * bleed.volume_ml ** (1 / 2.2)
        x, y, z = np.asarray(bleed.site) / np.linalg.norm(bleed.site)
        centre = (float(x * 58), float(y * 74), float(z * 62))
    away = np.sqrt(
        (points.x - centre[0]) ** 2
        + (points.y - centre[1]) ** 2
        + 1.4 * (points.z - centre[2]) ** 2
    )
    region = ramp(size * (1 + 0.35 * _grain(bleed, around, 5)) - away, 9)
    swollen = np.clip(around.brain.clefts * 1.6, 0, 1)  # blood stands in the sulci and widens them
    return as_field(swollen * region * amount)


def _intraparenchymal(bleed: Bleed, around: Surroundings) -> Field:
    inside = _blob(bleed, around)
    return ramp(inside, bleed.sharpness) * ramp(around.depth - 1.5, 3)


def _blob(bleed: Bleed, around: Surroundings) -> Field:
    """Return the distance in mm to an irregular clot's surface, positive inside."""
    radius = (3 * bleed.volume_ml * 1000 / (4 * np.pi)) ** (1 / 3)
    turn = bleed.variant * np.pi
    dx, dy = around.points.x - bleed.site[0], around.points.y - bleed.site[1]
    dz = (around.points.z - bleed.site[2]) * 1.05
    stretch = np.sqrt(bleed.aspect)
    u = (dx * np.cos(turn) + dy * np.sin(turn)) * stretch
    v = (dy * np.cos(turn) - dx * np.sin(turn)) / stretch
    away = np.sqrt(u * u + v * v + dz * dz)
    rough = 0.22 * radius * _grain(bleed, around, max(radius / 7, 0.8))
    return as_field(radius + rough * bell(away - radius, radius * 0.8) - away)


def _intraventricular(bleed: Bleed, around: Surroundings) -> Field:
    ventricle = around.brain.ventricle
    if bleed.variant < 0.62:  # layers behind, the patient lying on the back
        level = -42 + 9 * np.log(bleed.volume_ml + 0.5) + 6 * (bleed.variant - 0.3)
        fill = ramp(level - around.points.y, 3)
    elif bleed.variant < 0.85:  # one side
        fill = ramp(bleed.side * around.mid + 2, 3)
        fill = fill * ramp(14 + 9 * np.log(bleed.volume_ml + 1) - np.abs(around.points.y + 18), 6)
    else:  # a cast
        fill = ramp(0.6 + _grain(bleed, around, 5), 0.8)
    return ventricle * fill


def _grain(bleed: Bleed, around: Surroundings, voxel_mm: float) -> Field:
    return bleed.grain.at(around.points, voxel_mm)


def oedema(bleed: Bleed, around: Surroundings) -> Field:
    """Return how many HU the brain around an intraparenchymal bleed has lost."""
    if bleed.kind != "intraparenchymal":
        return np.zeros_like(around.depth)
    halo = ramp(_blob(bleed, around) + bleed.oedema_mm, 4.0)
    return bleed.oedema_hu * halo * (0.4 + 0.6 * around.brain.white)


def push(bleed: Bleed, points: Points) -> Points:
    """Move `points` to where their tissue was before the bleed pushed it aside."""
    if bleed.kind in ("subarachnoid", "intraventricular") or bleed.volume_ml < 8:
        return points
    shift = np.float32(min(0.5 * bleed.volume_ml ** (2 / 3), 7.0) * bleed.side)
    centre = bleed.site[2] if bleed.kind == "intraparenchymal" else 20.0 * bleed.site[2] + 8
    amount = shift * bell(points.x - 12 * bleed.side, 34) * bell(points.z - centre, 30)
    return Points(points.x + amount * bell(points.y, 60), points.y, points.z)


def clot_hu(bleed: Bleed, around: Surroundings) -> Field:
    """Return the density of the clot itself, a little uneven."""
    return (bleed.hu + bleed.unevenness_hu * _grain(bleed, around, 2.5)).astype(np.float32)
