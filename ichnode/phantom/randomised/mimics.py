"""What is dense or dark in a head and is no fresh blood: normal, old, or put there by people."""

from __future__ import annotations

import numpy as np
import torch

from ichnode.phantom.fields import log_uniform
from ichnode.phantom.randomised.maps import AnatomyMaps
from ichnode.phantom.randomised.shapes import blob, direction_angle, some_place
from ichnode.phantom.randomised.tissue import AIR_HU, Head


def paint_normal(rng: np.random.Generator, head: Head) -> None:
    """Paint falx, tentorium, sinuses, arteries and the calcifications of age."""
    _falx(rng, head)
    _tentorium(rng, head)
    _sinuses(rng, head)
    _arteries(rng, head)
    _calcifications(rng, head)


def _falx(rng: np.random.Generator, head: Head) -> None:
    if rng.random() > 0.9:
        return
    x, y, z = head.space.points
    width = rng.uniform(0.5, 1.7)
    there = (y > rng.uniform(15, 30)) | (y < rng.uniform(-55, -40)) | (z > rng.uniform(22, 36))
    wave = x + rng.uniform(-1, 1) + 0.8 * head.space.fields.draw(28.0)
    sheet = torch.exp(-0.5 * (wave / width) ** 2) * (there & (z > -5))
    head.lift(sheet * rng.uniform(0.4, 1), rng.uniform(45, 68))
    if rng.random() < 0.2:
        for _ in range(int(rng.integers(1, 4))):
            at = (rng.normal(0, 0.8), rng.uniform(10, 60), rng.uniform(20, 60))
            _dot(rng, head, at, rng.uniform(1, 4), log_uniform(rng, 70, 600))


def _tentorium(rng: np.random.Generator, head: Head) -> None:
    if rng.random() > 0.8:
        return
    x, y, z = head.space.points
    sheet = rng.uniform(2, 14) - rng.uniform(0.4, 0.7) * x.abs() - 0.1 * (-60 - y).clamp(min=0)
    off = z - sheet + 0.8 * head.space.fields.draw(28.0)
    leaf = torch.exp(-0.5 * (off / rng.uniform(0.7, 1.8)) ** 2) * ((y < -22) & (x.abs() > 3))
    head.lift(leaf * rng.uniform(0.2, 0.9), rng.uniform(45, 62))


def _sinuses(rng: np.random.Generator, head: Head) -> None:
    x, y, z = head.space.points
    dense = rng.uniform(42, 70) if rng.random() < 0.93 else rng.uniform(70, 80)
    if rng.random() < 0.85:
        size = rng.uniform(3, 7)
        place = ((y < -50) | (z > 45) | ((y > 40) & (z > 10))) & (z > -15)
        round_ = size - torch.sqrt((x.abs() * 1.1) ** 2 + head.depth**2)
        head.lift(torch.sigmoid(round_) * place, dense)
    if rng.random() < 0.8:
        size, level, side = rng.uniform(2.5, 6.5), rng.uniform(-32, -16), rng.integers(0, 3)
        round_ = size - torch.sqrt(head.depth**2 + 0.6 * (z - level) ** 2)
        place = (y < -28) & (x.abs() > 8)
        if side:
            place &= x > 0 if side == 1 else x < 0
        head.lift(torch.sigmoid(round_) * place, dense)
    if rng.random() < 0.6:  # the straight sinus, and the vein of Galen in front of it
        along = ((y + 42) / -38).clamp(0, 1)
        off = torch.sqrt(x**2 + (z - 8 + 18 * along) ** 2 + 0.02 * ((y + 42).clamp(min=0)) ** 2)
        head.lift(torch.sigmoid((rng.uniform(1.2, 2.4) - off) * 2) * (y < -36) * (y > -84), dense)


def _arteries(rng: np.random.Generator, head: Head) -> None:
    spots = [(0.0, -18.0, -25.0, 2.2), (0.0, rng.uniform(0, 8), -15.0, 1.3)]
    spots += [(s * rng.uniform(8, 28), rng.uniform(-6, 6), -16.0, 1.4) for s in (-1, 1)]
    for at_x, at_y, at_z, radius in spots:
        if rng.random() < 0.5:
            planes = head.space.planes_near(at_z - 10, at_z + 10)
            x, y, z = (axis[planes] for axis in head.space.points)
            off = ((x - at_x) ** 2 + (y - at_y) ** 2) / radius**2
            tube = torch.exp(-0.5 * off) * ((z - at_z).abs() < 10)
            head.lift(tube, rng.uniform(42, 64), planes)


def _calcifications(rng: np.random.Generator, head: Head) -> None:
    if rng.random() < 0.6:  # pineal
        at = (rng.uniform(-2, 2), -27 + rng.uniform(-3, 3), 3 + rng.uniform(-4, 4))
        _dot(rng, head, at, rng.uniform(1.2, 3.2), log_uniform(rng, 60, 300))
    for side in (-1, 1):  # choroid plexus
        if rng.random() < 0.55:
            at = (side * rng.uniform(20, 28), -43 + rng.uniform(-5, 5), 12 + rng.uniform(-9, 9))
            _dot(rng, head, at, rng.uniform(1.5, 4.5), log_uniform(rng, 50, 300))
    if rng.random() < 0.12:  # basal ganglia
        for side in (-1, 1):
            for _ in range(int(rng.integers(1, 5))):
                at = (side * (20 + rng.normal(0, 2)), -4 + rng.normal(0, 3), rng.normal(0, 3))
                _dot(rng, head, at, rng.uniform(1, 3), log_uniform(rng, 42, 120))


def _dot(
    rng: np.random.Generator, head: Head, at: tuple[float, float, float], radius: float, hu: float
) -> None:
    planes = head.space.planes_near(at[2] - 5 * radius, at[2] + 5 * radius)
    x, y, z = (axis[planes] for axis in head.space.points)
    off = ((x - at[0]) ** 2 + (y - at[1]) ** 2 + 0.7 * (z - at[2]) ** 2) / radius**2
    head.lift(torch.exp(-0.5 * off ** rng.uniform(1, 2)), hu, planes)


def paint_diseases(rng: np.random.Generator, maps: AnatomyMaps, head: Head) -> None:
    """Paint old infarcts, small-vessel disease, oedema, collections: whatever is no fresh blood."""
    draw = head.space.fields.draw
    fine = draw(9.0, 4.5)
    if rng.random() < 0.25:
        for _ in range(int(rng.integers(1, 3))):
            radius = log_uniform(rng, 3, 32)
            hole = blob(rng, head.space, some_place(rng, maps, 3), radius, rough=0.35)
            amount = torch.sigmoid(hole * rng.uniform(4, 14))
            head.paint(amount, torch.minimum(head.hu, rng.uniform(4, 24) + 2 * fine))
    if rng.random() < 0.35:  # leukoaraiosis
        patch = (draw(30.0) + rng.uniform(-1, 1)).clamp(0, 1) * (head.depth / 25 - 0.4).clamp(0, 1)
        head.hu = (
            head.hu
            - torch.sigmoid((head.white - 0.6) * 6) * patch * rng.uniform(2, 9) * head.inside
        )
    if rng.random() < 0.15:  # a territory, or oedema around something that is not dense
        patch = blob(rng, head.space, some_place(rng, maps, 5), rng.uniform(15, 45), rough=0.3)
        loss = torch.sigmoid(patch * rng.uniform(3, 10)) * rng.uniform(2, 12)
        head.hu = torch.maximum(
            head.hu - loss * head.inside, torch.minimum(head.hu, head.hu.new_tensor(head.fluid_hu))
        )
    if rng.random() < 0.05:  # a mass that is hardly denser than brain
        patch = blob(rng, head.space, some_place(rng, maps, 4), log_uniform(rng, 5, 20), rough=0.25)
        head.paint(
            torch.sigmoid(patch * rng.uniform(3, 10)), head.grey_hu + rng.uniform(-6, 5) + fine
        )
    if rng.random() < 0.09:  # hygroma or chronic subdural collection
        angle = direction_angle(rng, head.space)
        width = rng.uniform(0.4, 1.5)
        thick = (
            log_uniform(rng, 3, 18) * (1 - (angle / width) ** rng.uniform(2, 6)).clamp(min=0) ** 0.6
        )
        layer = torch.sigmoid((thick - head.depth) * 1.5) * (thick > 0.8)
        head.paint(layer, rng.uniform(4, 32) + 1.5 * fine)
    if rng.random() < 0.08:
        for _ in range(int(rng.integers(1, 4))):
            _dot(
                rng,
                head,
                some_place(rng, maps, 1),
                rng.uniform(0.8, 2.2),
                log_uniform(rng, 90, 600),
            )


def paint_interventions(rng: np.random.Generator, maps: AnatomyMaps, head: Head) -> None:
    """Paint what surgery and accidents leave: air, a catheter, swelling, a missing bone flap."""
    x, y, z = head.space.points
    if rng.random() < 0.04:  # air in front, as the patient lies on the back
        off = torch.atan2(x, y).abs() / rng.uniform(0.2, 0.9)
        thick = log_uniform(rng, 2, 12) * (1 - off**2).clamp(min=0) * (z > 0)
        head.paint(torch.sigmoid((thick - head.depth) * 2) * (thick > 0.5), AIR_HU)
    if rng.random() < 0.05:
        _catheter(rng, maps, head)
    if rng.random() < 0.2:
        _swelling(rng, head)
    if rng.random() < 0.05:
        angle = direction_angle(rng, head.space)
        gap = torch.sigmoid((rng.uniform(0.2, 0.7) - angle) * 25) * rng.uniform(0.8, 1)
        head.bone = head.bone * (1 - gap * (1 - head.base))


def _catheter(rng: np.random.Generator, maps: AnatomyMaps, head: Head) -> None:
    end = np.asarray(some_place(rng, maps, 15))
    way = np.asarray((rng.normal(0, 0.5), rng.normal(0, 0.8), 1.0))
    way = way / np.linalg.norm(way)
    x, y, z = (axis - float(c) for axis, c in zip(head.space.points, end, strict=True))
    along = x * float(way[0]) + y * float(way[1]) + z * float(way[2])
    aside = torch.sqrt((x**2 + y**2 + z**2 - along**2).clamp(min=0))
    tube = torch.sigmoid((rng.uniform(0.9, 1.8) - aside) * 3) * (along > 0)
    head.paint(tube, rng.uniform(120, 900))


def _swelling(rng: np.random.Generator, head: Head) -> None:
    angle = direction_angle(rng, head.space)
    thick = log_uniform(rng, 3, 14) * (1 - (angle / rng.uniform(0.3, 1)) ** 2).clamp(min=0)
    # Above the bone: as deep outside the inner table as the skull is thick, and further.
    height = -head.depth - rng.uniform(4, 8)
    x, y, _ = head.space.points
    mapped = (x.abs() < 86) & (y > -122) & (y < 86)  # beyond, the maps know no depth
    amount = torch.sigmoid((thick - height) * 1.5) * (thick > 0.5) * (height > -2)
    amount = amount * (head.inside < 0.1) * mapped
    dense = rng.uniform(25, 75) + 4 * head.space.fields.draw(9.0, 4.5)
    head.hu = head.hu + (dense - head.hu) * amount
    head.body = torch.maximum(head.body, amount)
