"""How much of it: the paper's sizes, or as little as shows that everything works."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from train.learn.recipe import PRESETS, Recipe


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for.

    Attributes
    ----------
    quick : bool
        Tiny images and few steps; the figures then say nothing.
    pretrained : str
        ``auto`` or ``none``: whether to try for ImageNet's weights.
    labels : Path, optional
        CSV of labels, where the dataset has none.
    workers : int
        Processes that read the dataset; 0 takes all cores.
    """

    quick: bool = False
    device: str = "auto"
    pretrained: str = "auto"
    labels: Path | None = None
    workers: int = 0
    seed: int = 1

    def text(self) -> str:
        """Return what decides the results, to know an earlier start with others."""
        return f"quick={self.quick} pretrained={self.pretrained} seed={self.seed}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Sizes of one run of everything.

    Attributes
    ----------
    size_px : int
        Of the cache that is made where there is none, and the largest that is used.
    first_sizes : tuple of (int, float)
        Of progressive resizing: size and share of the run.
    timed_steps : int
        Steps of each precision that are timed.
    """

    size_px: int
    batch: int
    epochs: int
    frozen_epochs: int
    first_sizes: tuple[tuple[int, float], ...]
    finder_steps: int
    timed_steps: int
    series: int  # at most so many are used

    def recipe(self, size_px: int) -> Recipe:
        """Return the paper's recipe for blood or not at this scale."""
        return replace(
            PRESETS["paper"],
            size_px=size_px,
            batch=self.batch,
            epochs=self.epochs,
            frozen_epochs=self.frozen_epochs,
            reestimate_batches=min(200, 50 * self.epochs),
        )


FULL = Scale(
    size_px=256,
    batch=256,
    epochs=4,
    frozen_epochs=1,
    first_sizes=((64, 0.3), (128, 0.3)),
    finder_steps=100,
    timed_steps=50,
    series=10**9,
)
QUICK = Scale(
    size_px=64,
    batch=16,
    epochs=1,
    frozen_epochs=1,
    first_sizes=((32, 0.3), (48, 0.3)),
    finder_steps=24,
    timed_steps=3,
    series=60,
)


def scale_of(settings: Settings) -> Scale:
    """Return the scale that is asked for."""
    return QUICK if settings.quick else FULL
