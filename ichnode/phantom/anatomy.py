"""The anatomy of one head: what is drawn for it, and its tissues at any points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ichnode.phantom import bleeds as blood
from ichnode.phantom.bleeds import Bleed, Surroundings
from ichnode.phantom.brain import BrainPlan, draw_brain, dural_hu, midline_mm, paint_brain
from ichnode.phantom.distractors import Distractors, draw_distractors, paint_distractors
from ichnode.phantom.face import Face, draw_face, mastoid_air, paint_face
from ichnode.phantom.fields import Field, Points, Where, as_field, ramp
from ichnode.phantom.skull import Skull, Vault, bone_hu, draw_skull, scalp_depth, scalp_hu, vault

AIR_HU = np.float32(-1000)
FACE_TOP_MM = 22.0


@dataclass(frozen=True, slots=True)
class Anatomy:
    """All that is drawn for one head."""

    skull: Skull
    face: Face
    brain: BrainPlan
    distractors: Distractors
    warp_mm: tuple[tuple[float, float, float, float, float], ...]


@dataclass(frozen=True, slots=True)
class Cranium:
    """Distances in mm at points of the cavity."""

    depth: Field
    floor: Field


@dataclass(frozen=True, slots=True)
class Outside:
    """Everything but the cavity's contents, at each point."""

    hu: Field  # with nothing (0 HU, weight `share`) in the cavity
    body: Field  # fraction inside the skin
    bone: Field  # fraction of bone
    share: Field  # fraction of cavity
    cranium: Cranium

    def cranium_at(self, chosen: Where) -> Cranium:
        """Return the distances at the chosen points."""
        return Cranium(self.cranium.depth[chosen], self.cranium.floor[chosen])


@dataclass(frozen=True, slots=True)
class Contents:
    """The cavity's contents at each point."""

    hu: Field
    lifts: tuple[Field, ...]  # by how much each bleed stands out of the brain, HU


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw a head."""
    brain = draw_brain(rng)
    return Anatomy(
        skull=draw_skull(rng),
        face=draw_face(rng),
        brain=brain,
        distractors=draw_distractors(rng, brain.age_years),
        warp_mm=tuple(
            (rng.uniform(0.5, 1.6), *rng.normal(0, 1 / 34, 3), rng.uniform(0, 6.3))
            for _ in range(6)
        ),
    )


def _warped(anatomy: Anatomy, points: Points) -> Points:
    """Bend space a little, so that no head is a mirror image of itself."""
    moved = [points.x, points.y, points.z]
    for index, (amount, a, b, c, phase) in enumerate(anatomy.warp_mm):
        wave = np.sin(
            points.x * np.float32(a)
            + points.y * np.float32(b)
            + points.z * np.float32(c)
            + np.float32(phase)
        )
        moved[index % 3] = moved[index % 3] + np.float32(amount) * wave
    return Points(*moved)


def paint_outside(anatomy: Anatomy, points: Points) -> Outside:
    """Return skull, face, scalp and the air around the head."""
    points = _warped(anatomy, points)
    place = vault(anatomy.skull, points)
    share = ramp(place.cavity, 1.2)
    shell = share < 1  # deep inside the cavity there is nothing of all this
    hu, body, bone = np.zeros_like(share), np.ones_like(share), np.zeros_like(share)
    part = points.where(shell)
    hu[shell], body[shell], bone[shell] = _paint_shell(anatomy, part, place.where(shell))
    share = share * body
    return Outside(
        hu=hu * (1 - share),
        body=body,
        bone=bone * (1 - share),
        share=share,
        cranium=Cranium(place.cavity, place.floor),
    )


def _paint_shell(anatomy: Anatomy, points: Points, place: Vault) -> tuple[Field, Field, Field]:
    """Return density, fraction of body and fraction of bone outside the cavity."""
    skull = anatomy.skull
    depth = scalp_depth(skull, points, place)
    soft = scalp_hu(skull, points, place, depth)
    bone = ramp(place.bone, 1.2)
    air = np.zeros_like(bone)
    low = points.z < FACE_TOP_MM
    under = place.floor < 0  # below the base there is face, whatever the vault's scalp would be
    _put_face(anatomy, points, low, under, (depth, soft, bone, air))
    body = ramp(depth, 1.5)
    solid = bone > 0
    soft[solid] += (bone_hu(skull, points.where(solid), place.where(solid)) - soft[solid]) * bone[
        solid
    ]
    tissue = soft + (AIR_HU - soft) * air
    return AIR_HU + (tissue - AIR_HU) * body, body, bone * (1 - air) * body


def _put_face(
    anatomy: Anatomy,
    points: Points,
    low: Where,
    under: Where,
    parts: tuple[Field, Field, Field, Field],
) -> None:
    """Write the face into depth, soft tissue, bone and air at the low points."""
    depth, soft, bone, air = parts
    here = points.where(low)
    face = paint_face(anatomy.face, here)
    base_bone = bone[low]
    deeper = (face.depth > depth[low]) | (under[low] & (depth[low] > 5))
    cells = mastoid_air(anatomy.face, here) * ramp(base_bone - 0.5, 0.5)
    soft[low] = np.where(deeper, face.soft_hu, soft[low])
    depth[low] = np.maximum(depth[low], face.depth)
    air[low] = np.maximum(cells, face.air * (1 - base_bone))
    bone[low] = np.maximum(base_bone, face.bone)


def paint_cavity(
    anatomy: Anatomy, points: Points, cranium: Cranium, drawn: tuple[Bleed, ...]
) -> Contents:
    """Return brain, dura, distractors and bleeds at points of the cavity."""
    points = _warped(anatomy, points)
    still = points
    for bleed in drawn:
        points = blood.push(bleed, points)
    plan = anatomy.brain
    brain = paint_brain(plan, points, cranium.depth)
    hu = paint_distractors(anatomy.distractors, points, cranium.depth, brain, plan.csf_hu)
    dura = dural_hu(plan, points, cranium.depth, brain, anatomy.distractors.sinus_hu)
    hu = np.maximum(hu, dura)
    around = Surroundings(still, cranium.depth, cranium.floor, midline_mm(plan, points), brain)
    for bleed in drawn:
        hu = np.maximum(hu - blood.oedema(bleed, around), np.minimum(hu, plan.csf_hu + 4))
    lifts = []
    for bleed in drawn:
        amount = blood.extent(bleed, around)
        bled = hu + np.maximum(blood.clot_hu(bleed, around) - hu, 0) * amount
        # A sulcus that blood has made as dense as brain is not seen, only missed.
        excess = np.maximum(bled - np.maximum(hu, plan.grey_hu), 0)
        lifts.append(np.where(amount > 0.05, excess, 0).astype(np.float32))
        hu = as_field(bled)
    return Contents(hu.astype(np.float32), tuple(lifts))
