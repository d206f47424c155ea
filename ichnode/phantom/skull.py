"""The cranial cavity, its base with three fossae, the vault's bone and the scalp."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from ichnode.phantom.fields import Field, Points, Texture, Where, as_field, bell, draw_texture, ramp

FLOOR_X_MM = 80  # the floor map spans -80..80 mm in x and -115..105 mm in y, 1 mm a cell
FLOOR_Y_MM = (-115, 105)


@dataclass(frozen=True, slots=True)
class Skull:
    """One drawn skull.

    Attributes
    ----------
    half_width_mm, half_length_mm, top_mm, bottom_mm : float
        Half axes of the cavity's dome, upwards and downwards apart.
    squareness : float
        Exponent of the dome's horizontal outline (2 is an ellipse).
    floor_mm, slope, bone_below_mm : ndarray, float32, (y, x)
        Height of the cavity's floor, its steepness factor and the bone under it.
    """

    half_width_mm: float
    half_length_mm: float
    top_mm: float
    bottom_mm: float
    squareness: float
    taper: float
    thickness_mm: float
    scalp_mm: float
    fat_fraction: float
    diploe_hu: float
    table_hu: float
    floor_mm: Field
    slope: Field
    bone_below_mm: Field
    texture: Texture


def draw_skull(rng: np.random.Generator) -> Skull:
    """Draw a skull's shape."""
    size = rng.normal(1.0, 0.03)
    floor, bone = _draw_floor(rng)
    gy, gx = np.gradient(floor)
    return Skull(
        half_width_mm=float(rng.normal(67, 3.5) * size),
        half_length_mm=float(rng.normal(82, 3.0) * size),
        top_mm=float(rng.normal(72, 2.5) * size),
        bottom_mm=float(rng.normal(88, 4.0)),
        squareness=float(rng.uniform(2.0, 2.5)),
        taper=float(rng.uniform(0.04, 0.16)),
        thickness_mm=float(np.clip(rng.normal(6.0, 1.2), 3.5, 10)),
        scalp_mm=float(np.clip(rng.normal(6.0, 1.5), 3, 11)),
        fat_fraction=float(rng.uniform(0.2, 0.7)),
        diploe_hu=float(rng.uniform(600, 1000)),
        table_hu=float(rng.uniform(1050, 1450)),
        floor_mm=floor,
        slope=np.sqrt(1 + gx**2 + gy**2).astype(np.float32),
        bone_below_mm=bone,
        texture=draw_texture(rng, 8, 0.8),
    )


def _draw_floor(rng: np.random.Generator) -> tuple[Field, Field]:
    y, x = np.mgrid[FLOOR_Y_MM[0] : FLOOR_Y_MM[1] + 1, -FLOOR_X_MM : FLOOR_X_MM + 1].astype(
        np.float32
    )
    x = x + 2.0 * np.sin(y / 40 + rng.uniform(0, 6.3))  # no skull is quite symmetric
    side = np.abs(x)
    wing_y = rng.normal(12, 2) + 0.30 * (side - 10) + 0.006 * (side - 10) ** 2
    petrous_y = rng.normal(-7, 2) - rng.uniform(0.55, 0.72) * (side - 10)
    floor = _fossae(rng, side, y, wing_y, petrous_y)
    petrous = bell(y - petrous_y, 7.5) * ramp(side - 14, 6)
    bone = 3.5 + 3.0 * ramp(-y - 50, 20) + 15.0 * petrous + 9.0 * bell(x, 9) * bell(y + 12, 16)
    bone -= 2.2 * bell(side - 28, 14) * bell(y - 45, 20)
    return _smooth(floor, 2.4), _smooth(bone, 3.0)


def _fossae(
    rng: np.random.Generator, side: Field, y: Field, wing_y: Field, petrous_y: Field
) -> Field:
    front = rng.normal(-18, 1.5) + 12 * bell(side - 29, 9) * bell(y - 47, 15) - 5 * bell(side, 4)
    middle = rng.normal(-36, 2) + 9 * ((side - 34) / 26) ** 2
    back = rng.normal(-57, 2.5) + 10 * ((side / 48) ** 2 + ((y + 50) / 40) ** 2)
    line = np.interp(
        y, [-44, -30, -8, -4, 2, 6, 12, 16, 26], [-80, -56, -19, -13, -14, -22, -21, -16, -17]
    )
    floor = np.where(y > wing_y, front, np.where(y > petrous_y, middle, back))
    central = ramp(13 - side, 3) * ramp(y + 34, 6) * ramp(26 - y, 6)
    floor = floor * (1 - central) + line * central
    wing = rng.normal(-11, 1.5) - 3.0 * np.abs(y - wing_y) * 0.88
    floor = np.where((side > 9) & (side < 60), np.maximum(floor, wing), floor)
    crest = rng.normal(-14, 1.5) - 2.4 * np.maximum(np.abs(y - petrous_y) * 0.85 - 2, 0)
    floor = np.where((side > 13) & (y < 0), np.maximum(floor, crest), floor)
    hole = (side / rng.normal(15, 1)) ** 2 + ((y + 44) / rng.normal(18, 1)) ** 2 < 1
    return np.where(hole, -140.0, floor).astype(np.float32)


def _smooth(field: Field, sigma: float) -> Field:
    return as_field(gaussian_filter(field.astype(np.float32), sigma, mode="nearest"))


def _from_map(points: Points, table: Field) -> Field:
    place = np.stack([points.y - FLOOR_Y_MM[0], points.x + FLOOR_X_MM])
    return as_field(map_coordinates(table, place, order=1, mode="nearest"))


@dataclass(frozen=True, slots=True)
class Vault:
    """Distances in mm at each point, positive inside."""

    dome: Field  # to the inner table, as if the dome went on below the base
    floor: Field  # above the base
    cavity: Field  # inside the cranial cavity
    bone: Field  # inside the outer table and above the base's lower surface
    thickness: Field  # of the vault here

    def where(self, chosen: Where) -> Vault:
        """Return the distances at the chosen points alone."""
        return Vault(
            self.dome[chosen],
            self.floor[chosen],
            self.cavity[chosen],
            self.bone[chosen],
            self.thickness[chosen],
        )


def vault(skull: Skull, points: Points) -> Vault:
    """Measure where `points` lie in the skull."""
    dome = _dome(skull, points)
    slope = _from_map(points, skull.slope)
    floor = (points.z - _from_map(points, skull.floor_mm)) / np.minimum(slope, 2.0)
    below = _from_map(points, skull.bone_below_mm)
    relief = skull.texture.at(points, 5.0)
    occiput = bell(points.x, 14) * ramp(-points.y - 70, 12) * bell(points.z + 8, 12)
    thickness = skull.thickness_mm * (1 + 0.08 * relief) + 5 * occiput
    thickness = thickness * (0.75 + 0.25 * ramp(np.abs(points.y + 5) - 30, 40))
    lower = floor + below * (1 + 0.25 * relief)
    return Vault(
        dome=dome,
        floor=as_field(floor),
        cavity=as_field(np.minimum(dome, floor)),
        bone=np.minimum(dome + thickness, lower),
        thickness=thickness,
    )


def _dome(skull: Skull, points: Points) -> Field:
    u = np.abs(points.x) / np.float32(skull.half_width_mm)
    v = (points.y + 5.0) / np.float32(skull.half_length_mm)
    u = u * (1 + skull.taper * v)  # wider behind than in front
    w = (points.z - 5.0) / np.where(points.z > 5, skull.top_mm - 5, skull.bottom_mm)
    e = skull.squareness
    flat = (u**e + np.abs(v) ** e) ** (2 / e)
    reach = np.sqrt(flat + w * w)
    r = np.sqrt(points.x**2 + (points.y + 5) ** 2 + (points.z - 5) ** 2)
    # The radial distance, shortened where the surface is oblique to the radius.
    return as_field((1 - reach) / np.maximum(reach, 0.05) * r * 0.94)


def bone_hu(skull: Skull, points: Points, place: Vault) -> Field:
    """Return the density of bone: two dense tables, diploe between, marrow in the base."""
    inner = -place.dome
    middle = np.clip(np.minimum(inner, place.thickness - inner) / place.thickness, 0, 0.5)
    grain = skull.texture.at(points, 0.9)
    spongy = ramp(middle - 0.33 + 0.06 * grain, 0.2) * ramp(place.thickness - 4.5, 2.0)
    base = ramp(-place.floor, 4.0)
    hu = skull.table_hu * (1 - spongy) + skull.diploe_hu * spongy + 90 * grain
    return as_field(hu * (1 - 0.3 * base) + base * 160 * grain)


def _muscle_mm(points: Points) -> Field:
    """Return the thickness of muscle on the vault: temporalis at the sides, nape below."""
    temple = 8.0 * ramp(np.abs(points.x) - 48, 30) * bell(points.y - 22, 24)
    nape = 14.0 * ramp(-points.y - 45, 50) * ramp(-points.z - 38, 20)
    return (temple * ramp(14 - points.z, 34) + nape).astype(np.float32)


def scalp_depth(skull: Skull, points: Points, place: Vault) -> Field:
    """Return the depth in mm below the skin of the vault (negative outside)."""
    swell = 1 + 0.10 * skull.texture.at(points, 11.0)
    reach = place.dome + place.thickness + skull.scalp_mm * swell + _muscle_mm(points)
    return np.minimum(reach, (points.z + 62).astype(np.float32))


def scalp_hu(skull: Skull, points: Points, place: Vault, depth: Field) -> Field:
    """Return the density of skin, fat and muscle over the vault."""
    height = -(place.dome + place.thickness)  # above the outer table
    muscle = _muscle_mm(points) + 1.0  # the galea is everywhere
    grain = skull.texture.at(points, 1.5)
    lean = 0.9 * ramp(muscle - height, 1.5)
    lean = np.maximum(lean, 0.8 * ramp(1.8 - depth, 1.2))
    mixed = np.clip(lean + (1 - skull.fat_fraction) * 0.3, 0, 1)
    return as_field(-100 + 155 * mixed + 4 * grain)
