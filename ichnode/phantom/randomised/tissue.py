"""Bone, soft tissue, air and brain at the points of a series, crisp from blurred maps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from ichnode.phantom.fields import log_uniform
from ichnode.phantom.randomised.maps import AnatomyMaps
from ichnode.phantom.randomised.space import Space, bend

AIR_HU = -1000.0


@dataclass(eq=False)
class Head:
    """A head in the making; every tensor is float32, (plane, row, column).

    Attributes
    ----------
    hu : Tensor
        Without bone, which is laid over it in the end: what is painted under bone stays hidden.
    bone : Tensor
        Fraction of bone.
    inside : Tensor
        Fraction of cavity that no bone fills.
    depth : Tensor
        Below the inner table, mm.
    spaces : Tensor
        Fraction of fluid where blood can spread over the brain: sulci, fissures, cisterns.
    ventricle, white : Tensor
        Fractions.
    base : Tensor
        1 at the skull base, 0 at the vault.
    """

    space: Space
    hu: Tensor = field(repr=False)
    bone: Tensor = field(repr=False)
    inside: Tensor = field(repr=False)
    depth: Tensor = field(repr=False)
    spaces: Tensor = field(repr=False)
    ventricle: Tensor = field(repr=False)
    white: Tensor = field(repr=False)
    base: Tensor = field(repr=False)
    body: Tensor = field(repr=False)
    grey_hu: float
    fluid_hu: float

    def paint(self, amount: Tensor, hu: Tensor | float) -> None:
        """Put something of a density into the cavity, by its fraction at each point."""
        share = amount.clamp(0, 1) * self.inside
        self.hu = self.hu + (hu - self.hu) * share

    def lift(self, amount: Tensor, hu: float, planes: slice = slice(None)) -> None:
        """Likewise, where it is denser than what is there; of some planes alone."""
        here = self.hu[planes]
        share = amount.clamp(0, 1).mul_(self.inside[planes])
        here += (hu - here).clamp_(min=0).mul_(share)

    def spare(self) -> Head:
        """Return a head to paint what is drawn and not to be kept: `lift` works in place."""
        return replace(self, hu=self.hu.clone())


def draw_head(rng: np.random.Generator, maps: AnatomyMaps, space: Space, tissue: Space) -> Head:
    """Draw the tissues.

    Parameters
    ----------
    tissue : Space
        Where the brain is looked up: `space`, but for what pushes the brain aside.
    """
    draw = space.fields.draw
    head, cavity, depth, under = maps.at(space.points, ("head", "cavity", "depth", "under"))
    base = torch.sigmoid((-space.z - 8) / 8)
    outside = (1.2 - 1.6 * cavity).clamp(0, 1)
    amplitude = rng.uniform(40, 170)
    coarse = draw(17.0, 9.0, 4.5, weights=(1, 0.8, 0.6))
    bone = _bone(rng, head, cavity, base, outside, amplitude * coarse)
    bone = torch.maximum(bone, _shell(rng, space, head, depth, base))
    inside = (2.2 * cavity - 0.6).clamp(0, 1) * (1 - bone)
    soft = _soft(rng, space, head, base, under)
    brain, spaces, ventricle, white, levels = _brain(rng, maps, tissue, depth)
    air = _air(rng, space, head, base, outside, amplitude)
    air = torch.maximum(air * torch.sigmoid((under - 4) / 0.7), _cells(rng, space, head, base))
    air = air * (1 - inside)
    hu = soft + (brain - soft) * torch.sigmoid((cavity - 0.5) * 12)
    hu = hu + (AIR_HU - hu) * air
    body = torch.sigmoid((under + 0.8) / 0.1)
    hu = AIR_HU + (hu - AIR_HU) * body
    return Head(
        space, hu, bone * (1 - air) * body, inside, depth, spaces, ventricle, white, base, body,
        grey_hu=levels[0], fluid_hu=levels[1],
    )  # fmt: skip


def _bone(
    rng: np.random.Generator,
    head: Tensor,
    cavity: Tensor,
    base: Tensor,
    outside: Tensor,
    relief: Tensor,
) -> Tensor:
    """Return the fraction of bone: the average skull, cut at a density that decides its width."""
    level = rng.uniform(170, 330)
    edge = rng.uniform(10, 30)
    rough = head + base * relief * outside * torch.sigmoid((head - 40) / 25)
    cut = level * (1 - 0.55 * base * outside) + 140 * base * cavity
    return torch.sigmoid((rough - cut) / (edge * (1 - 0.5 * base)))


def _shell(
    rng: np.random.Generator, space: Space, head: Tensor, depth: Tensor, base: Tensor
) -> Tensor:
    """Return the thinnest that a skull gets around the cavity, where the average has gaps."""
    thick = rng.uniform(1.2, 3.5) * (1 + 0.3 * space.fields.draw(17.0)).clamp(0.3, 2)
    shell = torch.sigmoid((thick / 2 - (depth + thick / 2).abs()) * rng.uniform(2, 4))
    filled = torch.sigmoid((head - 130) / 15) * torch.sigmoid(-depth / 0.7) * (depth > -9)
    whole = torch.maximum(shell, filled * (1 - base))
    return whole * torch.sigmoid((space.z + 52) / 3)  # the great foramen stays open


def _soft(
    rng: np.random.Generator, space: Space, head: Tensor, base: Tensor, under: Tensor
) -> Tensor:
    """Return the density of muscle, fat and skin outside the skull."""
    draw = space.fields.draw
    border = rng.uniform(-40, 30) + (1 - base) * rng.uniform(0, 160)
    mixed = head + 40 * draw(17.0, 9.0, 4.5) + 25 * draw(12.0, 6.0)
    mixed = mixed + rng.uniform(0, 300) * _temporal(space)
    muscle = rng.uniform(38, 62) + 6 * draw(9.0)
    fat = rng.uniform(-120, -60) + 10 * draw(12.0)
    soft = torch.where(mixed > border, muscle, fat)
    thick = rng.uniform(1.8, 4.0) * (1 + 0.2 * draw(20.0))
    skin = torch.sigmoid((thick - under) / 0.4) * rng.uniform(0.7, 1)
    return soft + (rng.uniform(30, 100) - soft) * skin


def _temporal(space: Space) -> Tensor:
    """Return where the temporal muscles lie on the skull."""
    x, y, z = space.points
    along = torch.sigmoid((38 - (y - 8).abs()) / 6) * torch.sigmoid((28 - (z + 2).abs()) / 6)
    return along * torch.sigmoid((x.abs() - 52) / 4)


def _air(
    rng: np.random.Generator,
    space: Space,
    head: Tensor,
    base: Tensor,
    outside: Tensor,
    amplitude: float,
) -> Tensor:
    relief = base * amplitude * 1.2 * space.fields.draw(24.0, 12.0, 6.0) * (head > -700) * outside
    return torch.sigmoid(-(head + relief + rng.uniform(180, 380)) / 25)


def _cells(rng: np.random.Generator, space: Space, head: Tensor, base: Tensor) -> Tensor:
    """Return the air cells of the mastoids, as far as these are aerated."""
    x, y, z = space.points
    grain = space.fields.draw(10.0, 5.0, 3.5, weights=(1, 1, 0.8))
    there = base * torch.sigmoid((x.abs() - 32) / 5) * torch.sigmoid((-y - 5) / 6)
    there = there * torch.sigmoid((25 - (y + 30).abs()) / 6) * (z < 0) * (head > 80)
    return torch.sigmoid((grain + rng.uniform(-1.2, 0.3)) * 4) * there * rng.uniform(0.6, 1)


def _brain(
    rng: np.random.Generator, maps: AnatomyMaps, tissue: Space, depth: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[float, float]]:
    """Return density, fluid spaces, ventricles and white matter, and HU of grey matter and fluid.

    Blurred fractions become tissues again as their sharpened logits compete, with noise that folds
    the borders.
    """
    near = bend(tissue, coarse_mm=0.0, fine_mm=rng.uniform(0.5, 2.2))
    draw = tissue.fields.draw
    grey, white, fluid, vent = maps.at(near.points, ("grey", "white", "fluid", "ventricle"))
    sharp = rng.uniform(1.5, 3.5)
    deep = (depth / 25 - 0.4).clamp(0, 1)
    sulci = _sulci(rng, tissue)
    wide, open_, deepness = rng.uniform(-1.8, 1.8), rng.uniform(0.3, 1.8), rng.uniform(-1.5, 2.0)
    log_grey = sharp * (grey + 0.02).log() + 0.6 * draw(15.0, 7.5, 3.8)
    log_white = sharp * (white + 0.02).log() + 0.5 * draw(20.0, 10.0, 5.0) + rng.uniform(-0.5, 0.5)
    log_fluid = sharp * (fluid + 0.02).log()
    # An average of old heads has a rim of fluid around the brain; most brains touch the bone.
    tight = rng.uniform(1, 5) if rng.random() < 0.55 else 0.0
    log_fluid = log_fluid - tight * torch.sigmoid((7 - depth) / 2)
    tissue_log = torch.logaddexp(log_grey, log_white)
    here = log_fluid + wide * (1 - deep) + deepness * deep + open_ * sulci * (1 - 0.7 * deep)
    wet = torch.sigmoid(here - tissue_log)
    narrow, ribbon = _folds(rng, tissue, depth)
    wet = torch.maximum(wet, narrow)
    pale = torch.sigmoid(log_white - log_grey)
    outer = rng.uniform(0.2, 1) * torch.sigmoid((24 - depth) / 4)
    pale = (pale + outer * (1 - ribbon - pale)) * (1 - wet)
    empty = ((0.35 - grey - white - fluid) / 0.3).clamp(0, 1)  # in the cavity, outside the brain
    shell = rng.uniform(0, 0.2) if tight else rng.uniform(0, 1)
    white_hu = rng.uniform(23, 32)
    grey_hu, fluid_hu = white_hu + rng.uniform(4, 11), rng.uniform(1, 13)
    hu = grey_hu + (white_hu - grey_hu) * pale + (fluid_hu - grey_hu) * wet
    gap = shell * fluid_hu + (1 - shell) * grey_hu
    hu = (
        hu
        + (gap - hu) * empty
        + rng.uniform(0.3, 1.8) * draw(70.0, 36.0, 18.0, weights=(1, 0.8, 0.6))
    )
    wider = torch.sigmoid(log_fluid + open_ * sulci + rng.uniform(0, 1.6) - tissue_log)
    wider = torch.maximum(wider, narrow)
    spaces = wider * (1 - empty) + empty * (rng.uniform(0, 0.3) if tight else rng.uniform(0.3, 1))
    ventricle = (wet * torch.sigmoid((vent - 0.12) * 30)).clamp(0, 1)
    return hu, spaces * (1 - ventricle), ventricle, pale, (grey_hu, fluid_hu)


def _folds(rng: np.random.Generator, tissue: Space, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fluid of narrow sulci, sheets a millimetre or two wide, and the cortex along them.

    The maps are those of an average and know no single sulcus. Sheets follow the zero lines of a
    field; its steepness, that of white noise under a Gaussian, makes its values distances.
    """
    length = round(rng.uniform(9, 15), 1)
    draw = tissue.fields.draw
    away_mm = 0.38 * length * draw(length, round(length / 2, 1), weights=(1, 0.35)).abs()
    width = log_uniform(rng, 0.2, 1.5) * (0.7 + 0.5 * draw(42.0)).clamp(0, 2)
    reach = torch.sigmoid((rng.uniform(8, 22) - depth) / 2.5)
    narrow = torch.sigmoid((width - away_mm) / 0.35) * reach * rng.uniform(0.3, 1)
    thick = rng.uniform(2.0, 3.5)
    near_mm = torch.minimum(torch.where(reach > 0.5, away_mm, 99.0), depth - rng.uniform(0, 3))
    return narrow * (depth > 0.5), torch.sigmoid((thick - near_mm) / 0.8)


def _sulci(rng: np.random.Generator, tissue: Space) -> Tensor:
    """Return where sulci open: along the zero lines of a field, or at its heights."""
    draw = tissue.fields.draw
    if rng.random() < 0.65:
        length = rng.uniform(9, 17)
        return 1.2 - 2.6 * draw(round(length, 1), round(length / 2, 1), weights=(1, 0.45)).abs()
    return draw(12.0, 6.7, 4.3, weights=(1, 1, 0.8))
