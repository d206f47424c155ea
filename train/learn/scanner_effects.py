"""What real scanners and heads do to Hounsfield units and a simulator does not.

Bone that a slice only grazes, thick slices, other kernels, the glow beside bone, the unrest of
tissue. Each takes and returns a batch (n, slice, y, x) in HU.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

from train.learn.drawing import chosen, per_sample, spread, uniform

_SPOTS = 2


def harden(hu: Tensor, chance: Generator) -> Tensor:
    """Put bone or calcification into half of the samples: dense spots, cut by slices at any height.

    A slice that only grazes bone shows it as dense as blood; that its neighbour shows it white
    tells it from blood. It is put in whether or not there is blood.
    """
    count, slices, height, width = hu.shape
    rows = torch.arange(height, device=hu.device)[None, :, None]
    columns = torch.arange(width, device=hu.device)[None, None, :]
    inside = hu > -200
    for _ in range(_SPOTS):
        shares = uniform((count, slices), 0, 1, chance) ** 2
        shares = shares / shares.amax(dim=1, keepdim=True).clamp_min(1e-3)
        peak = 300 * 4 ** uniform((count,), 0, 1, chance)
        peak = torch.where(uniform((count,), 0, 1, chance) < 0.3, peak, 0.0)
        place = uniform((4, count, 1, 1), 0, 1, chance)
        down, across = (height * (0.2 + 0.6 * place[0]), width * (0.2 + 0.6 * place[1]))
        tall, wide = 0.8 + 4 * place[2] ** 2, 0.8 + 4 * place[3] ** 2
        spot = torch.exp(-(((rows - down) / tall) ** 2 + ((columns - across) / wide) ** 2) / 2)
        hu = hu + inside * spot[:, None] * (peak[:, None] * shares)[:, :, None, None]
    return hu


def thicken(hu: Tensor, chance: Generator) -> Tensor:
    """Mix the neighbours into the middle slice, as a thicker slice profile does."""
    count, middle = len(hu), hu.shape[1] // 2
    part = spread(count, 0.5, chance) * chosen(count, 0.3, chance)
    mixed = hu[:, middle : middle + 1] * (1 - part) + hu.mean(dim=1, keepdim=True) * part
    return torch.cat([hu[:, :middle], mixed, hu[:, middle + 1 :]], dim=1)


def glow(hu: Tensor, chance: Generator) -> Tensor:
    """Let bone brighten what lies beside it, as hardened beams, scatter and blur do.

    Up to some 15 HU along the inner table, fading within a centimetre or two; brain beside bone is
    then no longer told from a thin bleed by its brightness alone.
    """
    bone = hu.clamp(0, 1500)
    coarse = functional.avg_pool2d(bone, 4)
    near = functional.avg_pool2d(coarse, 3, stride=1, padding=1)
    far = functional.avg_pool2d(functional.avg_pool2d(near, 5, stride=1, padding=2), 3, 1, 1)
    shares = (spread(len(hu), 0.012, chance), spread(len(hu), 0.02, chance))
    halo = near * shares[0] + far * shares[1]
    return hu + functional.interpolate(halo, size=hu.shape[-2:], mode="bilinear")


def resharpen(hu: Tensor, chance: Generator, share: float) -> Tensor:
    """Make the first part of a batch softer or sharper, as kernels and slice profiles differ."""
    count = round(share * len(hu))
    some = hu[:count]
    smooth = functional.avg_pool2d(some, 3, stride=1, padding=1, count_include_pad=False)
    amount = per_sample(uniform((count,), -1.0, 0.9, chance))
    return torch.cat([some.addcmul(smooth.sub_(some), amount), hu[count:]])


def unrest(hu: Tensor, chance: Generator) -> Tensor:
    """Return shading and the slow waves of brightness of real tissue: (n, 1, y, x)."""
    count, size = len(hu), hu.shape[-2:]
    waves = torch.zeros((count, 1, *size), device=hu.device)
    for cells, highest in ((4, 3.0), (16, 2.5), (40, 2.5)):
        field = torch.randn((count, 1, cells, cells), generator=chance, device=hu.device)
        field = field * spread(count, highest, chance)
        waves = waves + functional.interpolate(field, size=size, mode="bilinear")
    return waves
