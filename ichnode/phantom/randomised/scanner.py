"""What the scanner makes of a head: blur, hardening, streaks, noise, motion, the couch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ichnode.phantom.fields import log_uniform
from ichnode.phantom.randomised.realism import WHOLE, Realism
from ichnode.phantom.randomised.space import Geometry


def blur(image: Tensor, sigma_px: float, axes: str = "yx") -> Tensor:
    """Return images (z, y, x) under a Gaussian in the plane; beyond its edge an image goes on."""
    if sigma_px < 0.2:
        return image
    rows, columns = (_bell(n, sigma_px, image.device) for n in image.shape[1:])
    if "y" in axes:
        image = rows @ image
    if "x" in axes:
        image = image @ columns.T
    return image


def _bell(n: int, sigma_px: float, device: torch.device) -> Tensor:
    """Return the matrix (n, n) of a Gaussian: for any width one product, and quick."""
    line = torch.arange(n, device=device, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((line[:, None] - line[None, :]) / sigma_px) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)


def expose(
    rng: np.random.Generator,
    chance: torch.Generator,
    geometry: Geometry,
    hu: Tensor,
    bone: Tensor,
    inside: Tensor,
    body: Tensor,
    *,
    realism: Realism = WHOLE,
) -> tuple[Tensor, float]:
    """Return the images (slice, y, x) as a scanner gives them, and the noise's deviation in HU."""
    px = geometry.pixel_mm
    hu = blur(hu.clamp(-1000, 1800), rng.uniform(0.35, 0.95) * 1.45 / px)
    marred = _streak(rng, px, _harden(rng, px, hu, bone, inside), bone)
    hu = marred if realism.distractors else hu
    noise_hu = log_uniform(rng, 0.7, 5.5)
    grain = rng.uniform(0.45, 1.4) / px
    noise = torch.randn(hu.shape, generator=chance, device=hu.device)
    noise = blur(noise, grain) if realism.grain else noise
    middle = blur(body, 25 / px)
    hu = hu + noise_hu * noise / noise.std() * (0.25 + 0.75 * body) * (0.7 + 0.4 * middle)
    marred = _couch(rng, geometry, _move(rng, chance, px, hu, body), body)
    hu = marred if realism.distractors else hu
    return hu + rng.normal(0, 1.2), noise_hu


def _harden(
    rng: np.random.Generator, px: float, hu: Tensor, bone: Tensor, inside: Tensor
) -> Tensor:
    """Brighten what lies beside bone, and darken or brighten the middle a little.

    A head scanned in life has cortex 10 to 15 HU brighter at 5 mm from the bone than in the depth,
    and 25 to 40 HU near the vertex, where bone is cut at a slant and surrounds a small brain. What
    is blurred bone here grows there likewise.
    """
    near = blur(bone, log_uniform(rng, 4, 16) / px)
    far = blur(bone, 18 / px)
    return hu + (rng.uniform(0, 130) * near + rng.uniform(-12, 12) * far) * inside


def _streak(rng: np.random.Generator, px: float, hu: Tensor, bone: Tensor) -> Tensor:
    """Draw dark and bright bands between dense parts, as between the petrous bones."""
    strength = rng.uniform(0, 1) ** 2 * 30 + (rng.uniform(0, 8) if rng.random() < 0.2 else 0.0)
    along = blur(bone, rng.uniform(22, 60) / px, "x")
    fine = blur(along, rng.uniform(0.9, 2.3) / px, "y")
    fine = fine - blur(fine, rng.uniform(6, 13) / px, "y")
    dense = bone.mean(dim=(1, 2), keepdim=True) * 8  # slices with much bone have more of it
    hu = hu + strength * fine * dense * (1 if rng.random() < 0.67 else -1)
    if rng.random() < 0.04:  # metal
        z, y, x = (int(rng.integers(0, n)) for n in hu.shape)
        if float(bone[z, y, x]) < 2:
            hu = _metal(rng, px, hu, (z, y, x))
    return hu


def _metal(rng: np.random.Generator, px: float, hu: Tensor, at: tuple[int, int, int]) -> Tensor:
    _, rows, columns = hu.shape
    y = (torch.arange(rows, device=hu.device) - at[1])[:, None] * px
    x = (torch.arange(columns, device=hu.device) - at[2])[None, :] * px
    away = torch.sqrt(x * x + y * y) + 0.5
    rays = torch.cos(torch.atan2(y, x) * float(rng.integers(6, 20)) + rng.uniform(0, 6.3))
    change = rays * rng.uniform(200, 1500) / (away + 4)
    hu = hu.clone()
    slices = slice(max(at[0] - 1, 0), at[0] + 2)
    hu[slices] = hu[slices] + change
    hu[at[0]] = torch.where(away < rng.uniform(1, 5), 3000.0, hu[at[0]])
    return hu


def _move(
    rng: np.random.Generator, chance: torch.Generator, px: float, hu: Tensor, body: Tensor
) -> Tensor:
    """Shake some slices: ghosts, or long noise as of a head that turned."""
    if rng.random() < 0.06:
        lines = blur(
            torch.randn(hu.shape, generator=chance, device=hu.device), rng.uniform(6, 28) / px, "x"
        )
        hu = hu + rng.uniform(1, 6) * lines / lines.std() * body
    if rng.random() < 0.06:
        shift = max(1, round(rng.uniform(1, 4) / px))
        ghost = torch.roll(hu, shift, dims=int(rng.integers(1, 3)))
        hit = torch.from_numpy((rng.random(len(hu)) < 0.3).astype(np.float32)).to(hu.device)
        share = hit[:, None, None] * rng.uniform(0.15, 0.45)
        hu = hu + (ghost - hu) * share
    return hu


def _couch(rng: np.random.Generator, geometry: Geometry, hu: Tensor, body: Tensor) -> Tensor:
    """Put holder and couch into the air around the head."""
    if rng.random() > 0.75:
        return hu
    n, px = geometry.size_px, geometry.pixel_mm
    line = (torch.arange(n, device=hu.device) - n / 2 + 0.5) * px
    down, across = line[:, None], line[None, :]
    free = (1 - body).clamp(0, 1)
    for _ in range(int(rng.integers(1, 3))):
        radius, bottom = rng.uniform(60, 150), rng.uniform(85, 125)
        lean, open_ = rng.normal(0, 5), rng.uniform(0.3, 1.9)
        x, y = across - lean, down - (bottom - radius)
        arc = ((torch.sqrt(x * x + y * y) - radius).abs() < rng.uniform(0.6, 2.6)) & (
            torch.atan2(x, y).abs() < open_
        )
        hu = torch.where(arc & (free > 0.9), hu.new_tensor(rng.uniform(-150, 250)), hu)
    return hu
