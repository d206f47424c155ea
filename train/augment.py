"""All the randomness that training adds to an image, in Hounsfield units; none elsewhere.

What scanners and patients differ in and the simulator may not: side, pose, size, sharpness, noise,
calibration, shading. Slices of one sample are disturbed alike, except for their noise.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

_AIR_HU = -1024.0
_SPOTS = 2


def disturb(hu: Tensor, kinds: Tensor, chance: Generator) -> tuple[Tensor, Tensor]:
    """Return a disturbed copy of a batch.

    Parameters
    ----------
    hu : Tensor, int16, (n, slice, y, x)
        The slice in the middle, its neighbours around it.
    kinds : Tensor, uint8, (n, y, x)
        Which blood is where in the middle slice; moved along with it.
    chance : Generator
        Where the randomness comes from.

    Returns
    -------
    tuple of Tensor
        Float32 (n, slice, y, x) in HU and uint8 (n, y, x).
    """
    hu, kinds = move(hu.float(), kinds, chance)
    hu = reorder(hu, chance)
    hu = harden(hu, chance)
    hu = thicken(hu, chance)
    hu = resharpen(hu, chance)
    hu = glow(hu, chance)
    return recalibrate(hu, chance), kinds


def move(hu: Tensor, kinds: Tensor, chance: Generator) -> tuple[Tensor, Tensor]:
    """Mirror, turn by up to 15 degrees, scale by up to 12 % and shift by up to 5 %."""
    count = len(hu)
    angle = _uniform(count, -0.26, 0.26, chance)
    scale = _uniform(count, 0.88, 1.12, chance)
    aspect = _uniform(count, 0.95, 1.05, chance)
    mirror = torch.where(torch.rand(count, generator=chance) < 0.5, -1.0, 1.0)
    shift = _uniform(count * 2, -0.1, 0.1, chance).reshape(count, 2)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    matrix = torch.stack(
        [
            torch.stack([cos * mirror, -sin * aspect, shift[:, 0]], dim=1),
            torch.stack([sin * mirror, cos * aspect, shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(matrix, [count, 1, *hu.shape[-2:]], align_corners=False)
    moved = functional.grid_sample(hu - _AIR_HU, grid, align_corners=False) + _AIR_HU
    places = functional.grid_sample(
        kinds[:, None].float(), grid, mode="nearest", align_corners=False
    )
    return moved, places[:, 0].to(torch.uint8)


def reorder(hu: Tensor, chance: Generator) -> Tensor:
    """Swap above and below now and then, or let the slice stand in for its neighbours."""
    middle = hu.shape[1] // 2
    draw = torch.rand(len(hu), generator=chance)[:, None, None, None]
    hu = torch.where(draw < 0.3, hu.flip(1), hu)
    return torch.where(draw > 0.92, hu[:, middle : middle + 1].expand_as(hu), hu)


def harden(hu: Tensor, chance: Generator) -> Tensor:
    """Put bone or calcification into half of the samples: dense spots, cut by slices at any height.

    A slice that only grazes bone shows it as dense as blood; that its neighbour shows it white
    tells it from blood. It is put in whether or not there is blood.
    """
    count, slices, height, width = hu.shape
    rows = torch.arange(height)[None, :, None]
    columns = torch.arange(width)[None, None, :]
    inside = hu > -200
    for _ in range(_SPOTS):
        shares = torch.rand(count, slices, generator=chance) ** 2
        shares = shares / shares.amax(dim=1, keepdim=True).clamp_min(1e-3)
        peak = 300 * 4 ** torch.rand(count, generator=chance)
        peak = torch.where(torch.rand(count, generator=chance) < 0.3, peak, 0.0)
        place = _uniform(4 * count, 0.0, 1.0, chance).reshape(4, count, 1, 1)
        down, across = (height * (0.2 + 0.6 * place[0]), width * (0.2 + 0.6 * place[1]))
        tall, wide = 0.8 + 4 * place[2] ** 2, 0.8 + 4 * place[3] ** 2
        spot = torch.exp(-(((rows - down) / tall) ** 2 + ((columns - across) / wide) ** 2) / 2)
        hu = hu + inside * spot[:, None] * (peak[:, None] * shares)[:, :, None, None]
    return hu


def thicken(hu: Tensor, chance: Generator) -> Tensor:
    """Mix the neighbours into the middle slice, as a thicker slice profile does."""
    middle = hu.shape[1] // 2
    part = _spread(len(hu), 0.5, chance)
    part = torch.where(torch.rand(len(hu), 1, 1, 1, generator=chance) < 0.3, part, 0.0)
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
    shares = (_spread(len(hu), 0.012, chance), _spread(len(hu), 0.02, chance))
    halo = near * shares[0] + far * shares[1]
    return hu + functional.interpolate(halo, size=hu.shape[-2:], mode="bilinear")


def resharpen(hu: Tensor, chance: Generator) -> Tensor:
    """Blur or sharpen, as reconstruction kernels and slice profiles differ."""
    smooth = functional.avg_pool2d(hu, 3, stride=1, padding=1, count_include_pad=False)
    amount = _uniform(len(hu), -1.0, 0.9, chance)[:, None, None, None]
    chosen = torch.rand(len(hu), generator=chance)[:, None, None, None] < 0.6
    return torch.where(chosen, hu + (smooth - hu) * amount, hu)


def recalibrate(hu: Tensor, chance: Generator) -> Tensor:
    """Change gain and offset, add shading, the unrest of real tissue, and noise."""
    count, slices, height, width = hu.shape
    gain = 1 + 0.05 * torch.randn(count, 1, 1, 1, generator=chance).clamp_(-2, 2)
    offset = 3.0 * torch.randn(count, 1, 1, 1, generator=chance).clamp_(-2, 2)
    unrest = torch.zeros(count, 1, height, width)
    for cells, highest in ((4, 3.0), (16, 2.5), (40, 2.5)):
        field = torch.randn(count, 1, cells, cells, generator=chance)
        field = field * _spread(count, highest, chance)
        unrest = unrest + functional.interpolate(field, size=(height, width), mode="bilinear")
    fine = torch.randn(count, slices, height, width, generator=chance)
    grain = functional.avg_pool2d(fine, 3, stride=1, padding=1) * 2
    noise = torch.where(torch.rand(count, 1, 1, 1, generator=chance) < 0.5, fine, grain)
    return hu * gain + offset + unrest + noise * _spread(count, 4.0, chance)


def _spread(count: int, highest: float, chance: Generator) -> Tensor:
    return _uniform(count, 0.0, highest, chance)[:, None, None, None]


def _uniform(count: int, low: float, high: float, chance: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=chance)
