"""Bleeds of five kinds, from petechial to massive, in every mixture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ichnode.domain.findings import LABELS, Label
from ichnode.phantom.fields import log_uniform
from ichnode.phantom.randomised.maps import AnatomyMaps
from ichnode.phantom.randomised.shapes import Spot, blob, direction_angle, some_place
from ichnode.phantom.randomised.space import CENTRE_MM, Space
from ichnode.phantom.randomised.tissue import Head

KINDS: tuple[Label, ...] = LABELS[1:]
FREQUENCY = (0.13, 0.37, 0.12, 0.18, 0.20)  # of KINDS
DEEP_SITES: tuple[tuple[Spot, float], ...] = (
    ((23, -2, 3), 0.5),  # lentiform nucleus
    ((12, -18, 8), 0.25),  # thalamus
    ((20, -62, -32), 0.15),  # cerebellum
    ((0, -28, -28), 0.10),  # pons
)


@dataclass(frozen=True, slots=True)
class Bleed:
    """One drawn bleed: what is known of it before it is painted."""

    kind: Label
    at: Spot  # of a parenchymal bleed its place, of others a direction
    radius_mm: float  # of a parenchymal bleed; of others how thick it is
    push_mm: float


@dataclass(frozen=True, slots=True)
class Mass:
    """Something that pushes the brain aside."""

    at: Spot
    reach_mm: float
    push_mm: float


def draw_kinds(rng: np.random.Generator) -> tuple[Label, ...]:
    """Draw which kinds there are; none in half of the heads."""
    if rng.random() < 0.5:
        return ()
    count = 1 + int(rng.random() < 0.27) + int(rng.random() < 0.06)
    picked = rng.choice(len(KINDS), size=count, replace=False, p=FREQUENCY)
    return tuple(KINDS[index] for index in picked)


def draw_bleeds(
    rng: np.random.Generator, maps: AnatomyMaps, kinds: Sequence[Label]
) -> tuple[Bleed, ...]:
    """Draw sites and sizes."""
    found = []
    for kind in kinds:
        if kind == "intraparenchymal":
            found += _parenchymal(rng, maps)
        else:
            turn, lift = rng.uniform(-np.pi, np.pi), rng.uniform(-0.25, 0.9)
            way = (float(np.sin(turn)), float(np.cos(turn)), float(lift))
            thick = log_uniform(rng, 4, 25) if kind == "epidural" else log_uniform(rng, 3, 18)
            pushes = kind in ("epidural", "subdural") and rng.random() < 0.7
            push = rng.uniform(0.2, 0.7) * thick if pushes else 0.0
            found.append(Bleed(kind, way, thick, push))
    return tuple(found)


def _parenchymal(rng: np.random.Generator, maps: AnatomyMaps) -> list[Bleed]:
    """Draw one clot, or several near one another: deep, lobar, or contusions at the surface."""
    count = 1 if rng.random() < 0.7 else int(rng.integers(2, 6))
    contusion = rng.random() < 0.28
    found: list[Bleed] = []
    for _ in range(count):
        radius = log_uniform(rng, 2.5, 27) if count == 1 else log_uniform(rng, 2, 14)
        if found and rng.random() < 0.7:
            at = _spot(np.asarray(found[0].at) + rng.normal(0, 9, 3))
        elif contusion:
            at = some_place(rng, maps, 2, 12)
        elif rng.random() < 0.45:
            sites = [site for site, _ in DEEP_SITES]
            site = sites[rng.choice(len(sites), p=[share for _, share in DEEP_SITES])]
            jitter = rng.normal(0, 3, 3)
            side = np.array([rng.choice([-1, 1]), 1, 1])
            at = _spot(side * np.asarray(site, np.float64) + jitter)
        else:
            at = some_place(rng, maps, 5)
        push = min(rng.uniform(0, 0.45) * radius, 9.0)
        found.append(Bleed("intraparenchymal", at, radius, push))
    return found


def _spot(place: npt.NDArray[np.float64]) -> Spot:
    x, y, z = (float(value) for value in place)
    return x, y, z


def draw_masses(rng: np.random.Generator, maps: AnatomyMaps, bleeds: Sequence[Bleed]) -> list[Mass]:
    """Return what pushes the brain: the larger bleeds, and in some heads something unseen."""
    found = []
    for bleed in bleeds:
        if bleed.push_mm < 1:
            continue
        at, reach = bleed.at, 1.4 * bleed.radius_mm
        if bleed.kind != "intraparenchymal":  # from the wall towards the middle
            unit = np.asarray(bleed.at) / np.linalg.norm(bleed.at)
            at = _spot(unit * np.array([60, 75, 65]) + np.array(CENTRE_MM))
            reach = 28.0
        found.append(Mass(at, max(reach, 10.0), bleed.push_mm))
    if rng.random() < 0.25:
        found.append(Mass(some_place(rng, maps, 2), rng.uniform(12, 35), rng.uniform(2, 8)))
    return found


def push(space: Space, masses: Sequence[Mass]) -> Space:
    """Return where the tissue at each point was before it was pushed aside."""
    for mass in masses:
        x, y, z = (axis - centre for axis, centre in zip(space.points, mass.at, strict=True))
        away = torch.sqrt(x * x + y * y + z * z) + 1e-3
        near = away / mass.reach_mm
        share = mass.push_mm * near * torch.exp(0.5 - 0.5 * near**2) / away
        space = space.moved(space.x - x * share, space.y - y * share, space.z - z * share)
    return space


def paint_bleed(rng: np.random.Generator, head: Head, bleed: Bleed) -> tuple[Tensor, Tensor]:
    """Paint one bleed.

    Returns
    -------
    amount : Tensor, float32, (plane, row, column)
        Fraction of each point that it fills.
    lift_hu : Tensor, float32, (plane, row, column)
        By how much it is denser than what was there and than grey matter: a sulcus that blood has
        made as dense as brain is not seen, only missed.
    """
    painters: dict[Label, Callable[[np.random.Generator, Head, Bleed], Tensor]] = {
        "epidural": _epidural,
        "intraparenchymal": _clot,
        "intraventricular": _ventricular,
        "subarachnoid": _subarachnoid,
        "subdural": _subdural,
    }
    amount = (painters[bleed.kind](rng, head, bleed) * head.inside).clamp(0, 1)
    lowest = 44 if bleed.kind == "subarachnoid" else 47
    dense = rng.uniform(lowest, 86)
    texture = rng.uniform(0.5, 5) * head.space.fields.draw(24.0, 12.0, 6.0, weights=(1, 0.8, 0.6))
    before = head.hu
    head.hu = before + (dense + texture - before) * amount
    return amount, (head.hu - before.clamp(min=head.grey_hu)).clamp(min=0)


def _clot(rng: np.random.Generator, head: Head, bleed: Bleed) -> Tensor:
    radius = bleed.radius_mm
    body = blob(rng, head.space, bleed.at, radius)
    sharp = rng.uniform(3, 14) * max(radius / 6, 0.8)
    if rng.random() < 0.75:  # oedema
        wide = rng.uniform(0.1, 1.0) * (min(1, 8 / radius) + 0.4)
        halo = torch.sigmoid((body + wide) * 6) * (0.5 + 0.5 * head.white) * head.inside
        loss = torch.minimum(head.hu - 8, head.hu.new_tensor(rng.uniform(3, 20))).clamp(min=0)
        head.hu = head.hu - halo * loss
    amount = torch.sigmoid(body * sharp)
    if rng.random() < 0.4:  # not solid: petechial, or mixed with brain
        patchy = rng.uniform(0.5, 0.9) + rng.uniform(0.3, 0.6) * head.space.fields.draw(
            14.0, 7.0, 3.5
        )
        amount = amount * patchy.clamp(0, 1)
    if rng.random() < 0.1 and radius > 10:  # a fluid level
        level = head.space.down_mm - rng.uniform(-8, 8) + bleed.at[1] - CENTRE_MM[1]
        amount = amount * (0.45 + 0.55 * torch.sigmoid(level * 0.5))
    return amount


def _epidural(rng: np.random.Generator, head: Head, bleed: Bleed) -> Tensor:
    angle = direction_angle(rng, head.space, bleed.at)
    lens = bleed.radius_mm * (1 - (angle / rng.uniform(0.2, 0.6)) ** 2).clamp(min=0)
    amount = _against_bone(rng, head, lens)
    return amount * _between_sutures(head, bleed.at) if rng.random() < 0.85 else amount


def _between_sutures(head: Head, way: Spot) -> Tensor:
    """Return the part of the vault that lies within the same sutures as a direction from inside.

    There the dura holds to the bone, and an epidural bleed ends: at the coronal and the lambdoid
    suture, which lie about in planes across the head, and at the sagittal one.
    """
    unit = np.asarray(way) / np.linalg.norm(way)
    at = unit * np.array([62.0, 80.0, 65.0]) + np.array(CENTRE_MM)
    x, y, z = head.space.points
    part = torch.ones_like(x)
    for line, here in (
        (y - 16, at[1] - 16),
        (y + 0.35 * z + 68, at[1] + 0.35 * at[2] + 68),
        (x, at[0]),
    ):
        part = part * torch.sigmoid(line * (1.0 if here > 0 else -1.0) / 1.2)
    return part


def _against_bone(rng: np.random.Generator, head: Head, thick: Tensor) -> Tensor:
    thick = thick * (1 + 0.15 * head.space.fields.draw(20.0))
    return torch.sigmoid((thick - head.depth) * rng.uniform(0.8, 2.5)) * (thick > 0.8)


def _subdural(rng: np.random.Generator, head: Head, bleed: Bleed) -> Tensor:
    if rng.random() < 0.28:
        return _along_dura(rng, head)
    angle = direction_angle(rng, head.space, bleed.at)
    wide = (1 - (angle / rng.uniform(0.4, 1.5)) ** rng.uniform(2, 6)).clamp(min=0)
    side = 1.0 if bleed.at[0] > 0 else -1.0
    crescent = bleed.radius_mm * wide ** rng.uniform(0.4, 0.8)
    crescent = crescent * torch.sigmoid((side * head.space.x + 1) / 1.0)  # the falx is its border
    amount = _against_bone(rng, head, crescent)
    if rng.random() < 0.25:  # layered or mixed, old and new
        amount = amount * (0.6 + 0.5 * head.space.fields.draw(24.0)).clamp(0, 1)
    return amount


def _along_dura(rng: np.random.Generator, head: Head) -> Tensor:
    x, y, z = head.space.points
    side = float(rng.choice([-1, 1]))
    if rng.random() < 0.6:
        width, back = log_uniform(rng, 2, 7), rng.uniform(-80, 20)
        front = back + rng.uniform(25, 80)
        sheet = torch.sigmoid((width / 2 - (x - side * width / 2).abs()) * 1.2)
        return sheet * torch.sigmoid((y - back) / 3) * torch.sigmoid((front - y) / 3) * (z > 5)
    leaf = rng.uniform(2, 14) - 0.55 * x.abs() + 1.5 * head.space.fields.draw(28.0)
    middle, reach = rng.uniform(-65, -40), rng.uniform(12, 35)
    thick = log_uniform(rng, 2, 5) * (1 - ((y - middle) / reach) ** 2).clamp(min=0) ** 0.5
    there = torch.sigmoid((x * side - 4) / 1.5) * torch.sigmoid((-22 - y) / 2)
    return torch.sigmoid((thick - (z - leaf).abs()) * 1.2) * there * (thick > 0.5)


def _subarachnoid(rng: np.random.Generator, head: Head, _bleed: Bleed) -> Tensor:
    x, y, z = head.space.points
    draw = head.space.fields.draw
    region = torch.sigmoid(
        (draw(float(rng.choice([42.0, 60.0, 80.0]))) + rng.uniform(-1.2, 0.6)) * 5
    )
    if rng.random() < 0.45:  # from an aneurysm: cisterns and fissures
        cisterns = torch.sigmoid((0.9 - (z + 18).abs() / 20) * 5)
        cisterns = cisterns * torch.sigmoid((45 - torch.sqrt(x**2 + (y + 10) ** 2)) / 6)
        region = torch.maximum(region * rng.uniform(0, 0.5), cisterns)
    spaces = (head.spaces * rng.uniform(1, 2) - 0.15).clamp(0, 1)
    return (spaces * rng.uniform(0.9, 1.3)).clamp(0, 1) * region


def _ventricular(rng: np.random.Generator, head: Head, _bleed: Bleed) -> Tensor:
    ventricle = head.ventricle
    where = ventricle > 0.5
    form = rng.random()
    if form < 0.6 and bool(where.any()):  # it settles, as the patient lies
        down = head.space.down_mm.expand_as(ventricle)[where]
        level = torch.quantile(down[:: max(len(down) // 100_000, 1)], rng.uniform(0.2, 0.9))
        return ventricle * torch.sigmoid((head.space.down_mm - level) * rng.uniform(0.4, 2))
    if form < 0.8:
        return ventricle * (head.space.x * float(rng.choice([-1, 1])) > -2)
    return ventricle * torch.sigmoid((head.space.fields.draw(24.0) + rng.uniform(-0.5, 1.5)) * 3)
