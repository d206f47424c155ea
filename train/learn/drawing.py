"""How chance is drawn, on the device of its generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor


def key(*parts: int) -> int:
    """Return one seed of 63 bits for several numbers, such as a run's seed and its step."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device, *parts: int) -> Generator:
    """Return a generator on a device that several numbers decide."""
    return Generator(device).manual_seed(key(*parts))


def uniform(shape: tuple[int, ...], low: float, high: float, chance: Generator) -> Tensor:
    """Draw float32 numbers evenly from low to high."""
    drawn = torch.rand(shape, generator=chance, device=chance.device)
    return low + (high - low) * drawn


def spread(count: int, highest: float, chance: Generator) -> Tensor:
    """Draw one number a sample, evenly from 0 to the highest: (n, 1, 1, 1)."""
    return per_sample(uniform((count,), 0.0, highest, chance))


def chosen(count: int, share: float, chance: Generator) -> Tensor:
    """Draw which samples are meant: bool, (n, 1, 1, 1)."""
    return per_sample(uniform((count,), 0, 1, chance) < share)


def per_sample(values: Tensor) -> Tensor:
    """Return values (n,) as (n, 1, 1, 1)."""
    return values[:, None, None, None]
