"""All the randomness that training adds to an image, in Hounsfield units; none elsewhere.

What scanners and patients differ in and the simulator may not: side, pose, size, sharpness, noise,
calibration, shading. Slices of one sample are disturbed alike, except for their noise.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.nn import functional

_AIR_HU = -1024.0


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
    hu = resharpen(hu, chance)
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


def resharpen(hu: Tensor, chance: Generator) -> Tensor:
    """Blur or sharpen, as reconstruction kernels and slice profiles differ."""
    smooth = functional.avg_pool2d(hu, 3, stride=1, padding=1, count_include_pad=False)
    amount = _uniform(len(hu), -0.5, 0.9, chance)[:, None, None, None]
    chosen = torch.rand(len(hu), generator=chance)[:, None, None, None] < 0.6
    return torch.where(chosen, hu + (smooth - hu) * amount, hu)


def recalibrate(hu: Tensor, chance: Generator) -> Tensor:
    """Change gain and offset, add slow shading and noise, fine and coarse."""
    count, slices, height, width = hu.shape
    gain = 1 + 0.04 * torch.randn(count, 1, 1, 1, generator=chance).clamp_(-2, 2)
    offset = 2.5 * torch.randn(count, 1, 1, 1, generator=chance).clamp_(-2, 2)
    coarse = torch.randn(count, 1, 4, 4, generator=chance) * _spread(count, 2.5, chance)
    shading = functional.interpolate(coarse, size=(height, width), mode="bicubic")
    fine = torch.randn(count, slices, height, width, generator=chance)
    grain = functional.avg_pool2d(fine, 3, stride=1, padding=1) * 2
    noise = torch.where(torch.rand(count, 1, 1, 1, generator=chance) < 0.5, fine, grain)
    return hu * gain + offset + shading + noise * _spread(count, 4.0, chance)


def _spread(count: int, highest: float, chance: Generator) -> Tensor:
    return _uniform(count, 0.0, highest, chance)[:, None, None, None]


def _uniform(count: int, low: float, high: float, chance: Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=chance)
