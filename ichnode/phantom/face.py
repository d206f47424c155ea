"""Below the brain: face, air cells, orbits, jaw and neck. Suggestive, not a portrait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ichnode.phantom.fields import (
    Field,
    Points,
    Spot,
    Texture,
    as_field,
    bell,
    capsule,
    draw_texture,
    ellipsoid,
    mirrored,
    ramp,
    union,
)


@dataclass(frozen=True, slots=True)
class Face:
    """One drawn face."""

    half_width_mm: float
    front_mm: float
    back_mm: float
    aeration: float  # 0 to 1: how much of the mastoids and sinuses holds air
    sinus_scale: float
    frontal_sinus: float
    globe_mm: float
    fat_hu: float
    muscle_hu: float
    cells: Texture
    flesh: Texture


@dataclass(frozen=True, slots=True)
class Flesh:
    """What the face puts at each point."""

    depth: Field  # below the skin, mm
    soft_hu: Field
    bone: Field  # fraction
    air: Field  # fraction


def draw_face(rng: np.random.Generator) -> Face:
    """Draw a face."""
    return Face(
        half_width_mm=float(rng.normal(68, 2.5)),
        front_mm=float(rng.normal(84, 3)),
        back_mm=float(rng.normal(98, 4)),
        aeration=float(rng.beta(4, 1.5)),
        sinus_scale=float(rng.normal(1.0, 0.12)),
        frontal_sinus=float(rng.uniform(0, 1)),
        globe_mm=float(rng.normal(12, 0.5)),
        fat_hu=float(rng.uniform(-110, -85)),
        muscle_hu=float(rng.uniform(45, 65)),
        cells=draw_texture(rng, 6, 0.35),
        flesh=draw_texture(rng, 7, 0.6),
    )


def face_depth(face: Face, points: Points) -> Field:
    """Return the depth in mm below the skin of face and neck (negative outside)."""
    ahead = points.y > -5
    length = np.where(ahead, face.front_mm + 5, face.back_mm - 5)
    width = face.half_width_mm * (1 - 0.2 * ramp(points.y - 30, 90))
    u, v = np.abs(points.x) / width, np.abs(points.y + 5) / length
    reach = (u**2.6 + v**2.2) ** np.float32(1 / 2.4)
    r = np.sqrt(points.x**2 + (points.y + 5) ** 2)
    side = (1 - reach) / np.maximum(reach, 0.05) * r * 0.95
    brow = np.minimum(side, -points.z - 8 + 0.10 * points.y)
    nose = capsule(points, (0, 78, -18), (0, 86, -50), (4, 11))
    return union(brow.astype(np.float32), nose)


def paint_face(face: Face, points: Points) -> Flesh:
    """Return the contents of the face at `points` (all below the brain's middle)."""
    pair = mirrored(points)
    grain = face.flesh.at(points, 3.4)
    cells = face.cells.at(points, 1.5)
    depth = face_depth(face, points)
    # Muscles with thin planes of fat between them, and fat under the skin.
    lean = ramp(np.abs(grain) - 0.15, 0.3) * ramp(depth - 5 + 3 * grain, 4)
    soft = face.fat_hu + (face.muscle_hu - face.fat_hu) * lean
    soft = np.where(depth < 2.0, 25.0, soft).astype(np.float32)
    cavities, walls = _cavities(face, pair, cells)
    bone = np.maximum(walls, _jaw_and_neck(pair))
    soft, orbit_wall, orbit = _orbits(face, pair, soft)
    air = cavities * (1 - orbit)
    bone = np.maximum(bone, orbit_wall) * (1 - orbit)
    bone = bone * ramp(depth - 3, 2)
    return Flesh(
        depth, soft, bone.astype(np.float32), (air * ramp(depth - 2, 1)).astype(np.float32)
    )


def _cavities(face: Face, pair: Points, cells: Field) -> tuple[Field, Field]:
    s = face.sinus_scale
    maxillary = ellipsoid(pair, (27, 52, -56), (13 * s, 17 * s, 17 * s))
    nose = ellipsoid(pair, (0, 58, -50), (13, 32, 24))
    sphenoid = ellipsoid(pair, (6, 16, -31), (9 * s, 11 * s, 8 * s))
    pharynx = ellipsoid(pair, (0, 12, -72), (11, 8, 26))
    ethmoid = ellipsoid(pair, (6, 46, -28), (7.5, 22, 9))
    canal = capsule(pair, (34, -12, -34), (80, -12, -36), (3.0, 3.5))
    septum = bell(pair.x, 1.0) * ramp(nose, 2)
    turbinate = ramp(cells + 0.1, 0.5) * ramp(nose, 3) * ramp(pair.x - 3, 2)
    cell_air = ramp(ethmoid, 1.5) * ramp(np.abs(cells) - 0.35, 0.3)
    hollow = ramp(union(maxillary, sphenoid, pharynx, canal), 1.2)
    hollow = np.maximum(hollow, ramp(nose, 1.2) * (1 - septum) * (1 - turbinate))
    hollow = np.maximum(hollow, cell_air)
    shell = union(maxillary, sphenoid, ethmoid)
    walls = 0.55 * bell(shell + 0.8, 0.9) + 0.5 * ramp(ethmoid, 1.5) * (1 - cell_air) + 0.4 * septum
    return hollow, np.clip(walls, 0, 1) * (1 - hollow)


def _jaw_and_neck(pair: Points) -> Field:
    jaw = capsule(pair, (50, 4, -44), (47, 14, -110), (5.0, 5.5))
    arch = capsule(pair, (62, 8, -40), (50, 52, -46), (3.0, 5.0))
    cheek = capsule(pair, (50, 52, -46), (33, 74, -46), (5.0, 2.5))
    wing = capsule(pair, (18, 26, -42), (17, 24, -75), (3.0, 2.5))
    atlas = np.minimum(
        ellipsoid(pair, (0, -40, -76), (36, 24, 7)), -ellipsoid(pair, (0, -44, -76), (15, 17, 40))
    )
    dens = capsule(pair, (0, -22, -64), (0, -22, -110), (5.5, 7.0))
    condyle = ellipsoid(pair, (19, -34, -63), (7, 13, 7))
    return ramp(union(jaw, arch, cheek, wing, atlas, dens, condyle), 1.5) * 0.8


def _orbits(face: Face, pair: Points, soft: Field) -> tuple[Field, Field, Field]:
    centre: Spot = (31, 53, -26)
    cone = ellipsoid(pair, centre, (18, 26, 18))
    inside = ramp(cone, 1.0)
    globe_at: Spot = (32, 70, -28)
    g = face.globe_mm
    globe = ellipsoid(pair, globe_at, (g, g, g))
    nerve = capsule(pair, (32, 58, -28), (13, 24, -22), (2.0, 2.2))
    muscle = union(
        capsule(pair, (44, 64, -28), (16, 26, -24), (2.0, 1.8)),
        capsule(pair, (19, 64, -28), (14, 26, -24), (2.0, 1.8)),
        capsule(pair, (31, 64, -16), (15, 26, -22), (2.0, 1.8)),
    )
    fill = face.fat_hu + 150 * ramp(union(nerve, muscle), 1.2)
    fill = fill + (14 - fill) * ramp(globe - 1, 1) + (45 - fill) * bell(globe, 0.9)
    lens = ellipsoid(pair, (32, 70 + 0.72 * g, -28), (4.5, 2.2, 4.5))
    fill = fill + (75 - fill) * ramp(lens, 1)
    solid = np.maximum(inside, ramp(globe, 1.0))
    wall = 0.75 * bell(cone + 1.2, 1.1) * ramp(74 - pair.y, 4)
    return (soft * (1 - solid) + fill * solid).astype(np.float32), wall, solid


def mastoid_air(face: Face, points: Points, cells: Field | None = None) -> Field:
    """Return the fraction of air in the mastoid's and the frontal sinus's bone."""
    pair = mirrored(points)
    grain = face.cells.at(points, 1.4) if cells is None else cells
    mastoid = ellipsoid(pair, (52, -30, -36), (10, 17, 22))
    antrum = ellipsoid(pair, (42, -20, -26), (9, 7, 7))
    frontal = ellipsoid(pair, (8, 79, -4), (16, 4.5, 5 + 14 * face.frontal_sinus))
    cellular = ramp(union(mastoid, antrum), 3) * ramp(
        np.abs(grain) - 0.9 + 0.7 * face.aeration, 0.4
    )
    sinus = ramp(frontal, 1.5) * ramp(np.float32(face.frontal_sinus - 0.25) + 0 * frontal, 0.1)
    return as_field(np.maximum(cellular, sinus) * np.float32(0.95))
