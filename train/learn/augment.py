"""All the randomness that training adds to an image, in Hounsfield units; none elsewhere.

What scanners and patients differ in: side, pose, size, sharpness, noise, calibration. Slices of one
sample are disturbed alike, except for their noise; voxel truth moves along. Everything runs on the
device of the batch and is drawn from one generator there, so that a seed and a step decide it.

Batches are shuffled, so where only some samples are disturbed in a costly way, the first ones of
the batch are as good as any, and no GPU has to wait for the count of those that chance chose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional

from train.learn.drawing import per_sample, spread, uniform
from train.learn.scanner_effects import glow, harden, resharpen, thicken, unrest

AIR_HU = -1024.0
_STATED_PX = 256  # blur and noise are stated for images of this size


@dataclass(frozen=True, slots=True)
class Augmentation:
    """How far images are disturbed; the default is not at all.

    Attributes
    ----------
    mirror : float
        Chance of left for right.
    turn_degrees : float
        Turned by up to this, either way.
    scale, aspect, shift : float
        Larger or smaller, stretched, and moved, by up to this fraction of the image.
    turned_over : float
        Chance of above for below, in the stack of neighbouring slices.
    alone : float
        Chance that the slice stands in for its neighbours, as at the end of a stack.
    blur : float
        Chance of a Gaussian blur of up to `blur_px` (standard deviation at 256 px).
    sharpness : float
        Chance that the image is made softer or sharper, as by another kernel.
    gain, offset_hu : float
        Standard deviation of a wrong calibration; at most twice that.
    noise_hu : float
        Noise of up to this standard deviation at 256 px, fine or grainy; smaller images average
        it away.
    holes : int
        Squares of up to an eighth of the image, cut out of half of the samples, at most so many.
    scanner : bool
        What a simulator lacks: bone that grazes the slice, thick slices, glow beside bone, the
        unrest of real tissue.
    """

    mirror: float = 0.0
    turn_degrees: float = 0.0
    scale: float = 0.0
    aspect: float = 0.0
    shift: float = 0.0
    turned_over: float = 0.0
    alone: float = 0.0
    blur: float = 0.0
    blur_px: float = 0.0
    sharpness: float = 0.0
    gain: float = 0.0
    offset_hu: float = 0.0
    noise_hu: float = 0.0
    holes: int = 0
    scanner: bool = False


_TOWARDS_REAL = Augmentation(
    mirror=0.5,
    turn_degrees=15.0,
    scale=0.12,
    aspect=0.05,
    shift=0.05,
    turned_over=0.3,
    alone=0.08,
    sharpness=0.6,
    gain=0.05,
    offset_hu=3.0,
    noise_hu=6.4,
    scanner=True,
)

PRESETS: Mapping[str, Augmentation] = MappingProxyType(
    {
        "none": Augmentation(),
        "paper": Augmentation(mirror=0.5, turn_degrees=15.0, blur=0.5, blur_px=2.0),
        "recipe": Augmentation(
            mirror=0.5,
            turn_degrees=15.0,
            scale=0.1,
            shift=0.05,
            turned_over=0.25,
            blur=0.2,
            blur_px=1.5,
            sharpness=0.4,
            gain=0.02,
            offset_hu=2.0,
            noise_hu=6.0,
            holes=3,
        ),
        "simulated": _TOWARDS_REAL,
        "single": dataclasses.replace(_TOWARDS_REAL, scale=0.18, alone=0.25),
    }
)
"""``paper``: flip, rotation, blur. ``recipe``: ours. ``simulated``: towards real scans. ``single``:
likewise, and often without neighbours and of another size, as slices that come alone are."""


def disturb(
    hu: Tensor, kinds: Tensor, chance: Generator, how: Augmentation
) -> tuple[Tensor, Tensor]:
    """Return a disturbed copy of a batch.

    Parameters
    ----------
    hu : Tensor, int16 or float, (n, slice, y, x)
        The slice in the middle, its neighbours around it.
    kinds : Tensor, uint8, (n, y, x)
        Which blood is where in the middle slice, moved along with it; empty where nobody asks.
    chance : Generator
        Where the randomness comes from; on the device of `hu`.

    Returns
    -------
    tuple of Tensor
        Float32 (n, slice, y, x) in HU and uint8 (n, y, x).
    """
    hu, kinds = move(hu.float(), kinds, chance, how)
    hu = reorder(hu, chance, how)
    if how.scanner:
        hu = thicken(harden(hu, chance), chance)
    if how.blur:
        hu = blur(hu, chance, how)
    if how.sharpness:
        hu = resharpen(hu, chance, how.sharpness)
    if how.scanner:
        hu = glow(hu, chance)
    hu = recalibrate(hu, chance, how)
    return (cut_out(hu, chance, how.holes) if how.holes else hu), kinds


def move(hu: Tensor, kinds: Tensor, chance: Generator, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Mirror, turn, scale and shift; what comes in from outside is air."""
    if not (how.mirror or how.turn_degrees or how.scale or how.aspect or how.shift):
        return hu, kinds
    size = [len(hu), 1, *hu.shape[-2:]]
    grid = functional.affine_grid(_poses(len(hu), chance, how), size, align_corners=False)
    moved = functional.grid_sample(hu - AIR_HU, grid, align_corners=False) + AIR_HU
    if not kinds.numel():
        return moved, kinds
    places = functional.grid_sample(
        kinds[:, None].float(), grid, mode="nearest", align_corners=False
    )
    return moved, places[:, 0].to(torch.uint8)


def _poses(count: int, chance: Generator, how: Augmentation) -> Tensor:
    """Return where each pixel is taken from, as (n, 2, 3) matrices."""
    turn = math.radians(how.turn_degrees)
    angle = uniform((count,), -turn, turn, chance)
    scale = uniform((count,), 1 - how.scale, 1 + how.scale, chance)
    aspect = uniform((count,), 1 - how.aspect, 1 + how.aspect, chance)
    mirror = torch.where(uniform((count,), 0, 1, chance) < how.mirror, -1.0, 1.0)
    shift = uniform((count, 2), -2 * how.shift, 2 * how.shift, chance)  # the image is 2 wide
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = (
        torch.stack([cos * mirror, -sin * aspect, shift[:, 0]], dim=1),
        torch.stack([sin * mirror, cos * aspect, shift[:, 1]], dim=1),
    )
    return torch.stack(rows, dim=1)


def reorder(hu: Tensor, chance: Generator, how: Augmentation) -> Tensor:
    """Swap above and below now and then, or let the slice stand in for its neighbours."""
    if hu.shape[1] == 1 or not (how.turned_over or how.alone):
        return hu
    middle = hu.shape[1] // 2
    draw = per_sample(uniform((len(hu),), 0, 1, chance))
    hu = torch.where(draw < how.turned_over, hu.flip(1), hu)
    return torch.where(draw > 1 - how.alone, hu[:, middle : middle + 1].expand_as(hu), hu)


def blur(hu: Tensor, chance: Generator, how: Augmentation) -> Tensor:
    """Blur some samples, each by its own amount, as movement and soft kernels do."""
    count, slices, rows, columns = hu.shape
    widest = how.blur_px * columns / _STATED_PX
    sigma = uniform((count,), 0.15 * widest, widest, chance)
    sigma = torch.where(uniform((count,), 0, 1, chance) < how.blur, sigma, 1e-3)
    reach = max(math.ceil(2.5 * widest), 1)
    steps = torch.arange(-reach, reach + 1, device=hu.device, dtype=hu.dtype)
    kernel = torch.exp(-((steps / sigma[:, None]) ** 2) / 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(slices, dim=0)
    flat = functional.pad(
        hu.reshape(1, count * slices, rows, columns), (reach,) * 4, mode="replicate"
    )
    down = functional.conv2d(flat, kernel[:, None, :, None], groups=count * slices)
    across = functional.conv2d(down, kernel[:, None, None, :], groups=count * slices)
    return across.reshape(hu.shape)


def recalibrate(hu: Tensor, chance: Generator, how: Augmentation) -> Tensor:
    """Change gain and offset, add the unrest of real tissue, and noise."""
    count = len(hu)
    if how.gain or how.offset_hu:
        drawn = torch.randn((2, count), generator=chance, device=hu.device).clamp_(-2, 2)
        gain, offset_hu = 1 + how.gain * drawn[0], how.offset_hu * drawn[1]
        hu = torch.addcmul(per_sample(offset_hu), hu, per_sample(gain))
    if how.scanner:
        hu = hu + unrest(hu, chance)
    if not how.noise_hu:
        return hu
    noise = torch.randn(hu.shape, generator=chance, device=hu.device)
    half = count // 2
    noise[:half] = functional.avg_pool2d(noise[:half], 3, stride=1, padding=1).mul_(2)
    highest_hu = how.noise_hu * hu.shape[-1] / _STATED_PX
    return hu.addcmul(noise, spread(count, highest_hu, chance))


def cut_out(hu: Tensor, chance: Generator, holes: int) -> Tensor:
    """Cut squares out of half of the samples, from all slices alike; they are air.

    References
    ----------
    DeVries T, Taylor GW, Improved Regularization of CNNs with Cutout, 2017.
    """
    count, _, rows, columns = hu.shape
    down = torch.arange(rows, device=hu.device)[:, None] / rows
    across = torch.arange(columns, device=hu.device) / columns
    drawn = uniform((holes, 4, count, 1, 1), 0, 1, chance)
    some = uniform((count, 1, 1), 0, 1, chance) < 0.5
    gone = torch.zeros((count, rows, columns), dtype=torch.bool, device=hu.device)
    for row, column, side, there in drawn:
        half = (1 + side) / 32  # a 16th to an 8th of the image across
        inside = ((down - row).abs() < half) & ((across - column).abs() < half)
        gone |= inside & (there < 0.7) & some
    return torch.where(gone[:, None], AIR_HU, hu)


def drop_windows(images: Tensor, windows: int, share: float, chance: Generator) -> Tensor:
    """Blank one window of some samples, in all slices, so that none is relied on alone.

    Parameters
    ----------
    images : Tensor, (n, slice x window, y, x)
        Windows vary fastest.
    share : float
        Of the samples.
    """
    count = len(images)
    lost = torch.randint(windows, (count, 1), generator=chance, device=images.device)
    some = uniform((count, 1), 0, 1, chance) < share
    channel = torch.arange(images.shape[1], device=images.device) % windows
    kept = ~((channel == lost) & some)
    return images * kept[:, :, None, None]
