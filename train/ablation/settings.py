"""How much of everything: the same for all arms, so that they differ by what they leave out."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ichnode
from ichnode.nets.manifest import PreprocessSpec
from ichnode.phantom.randomised.realism import REVISION
from ichnode.phantom.studies import HOLDOUT_SEEDS, TRAINING_SEEDS
from train.data.sources.randomised import SIZE_PX, template_digest
from train.errors import TrainingError
from train.learn.precision import choose_device
from train.learn.recipe import PRESETS, Recipe

LEAST_SERIES, LEAST_PX = 10, 32
WATCHED_EVERY = 10  # series, of which one is watched and not learnt from
_USUAL_PX = 192  # of a cache of scans of `SIZE_PX`


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for.

    Attributes
    ----------
    template : Path
        Folder of the average head, see `train.data.sources.randomised`.
    series, holdout : int
        Simulated series to learn from, and others to measure on.
    size_px : int
        Rows and columns of what networks see.
    simulated_px : int
        Of the simulated scans; 0 for a little more than `size_px`, as for a usual cache.
    steps : int
        Of each training; 0 for as many as fit into `minutes` here.
    minutes : float
        Of each training.
    seed : int
        Of the trainings.
    workers : int
        Processes that simulate; 0 takes all cores.
    """

    template: Path
    series: int = 250
    holdout: int = 100
    size_px: int = 96
    simulated_px: int = 0
    steps: int = 0
    minutes: float = 3.0
    seed: int = 7
    device: str = "auto"
    workers: int = 0

    def __post_init__(self) -> None:
        for name, kept in {
            f"--series is {LEAST_SERIES} to {len(TRAINING_SEEDS)}": LEAST_SERIES
            <= self.series
            <= len(TRAINING_SEEDS),
            f"--holdout is 2 to {len(HOLDOUT_SEEDS)}": 2 <= self.holdout <= len(HOLDOUT_SEEDS),
            f"--size-px is {LEAST_PX} or more": self.size_px >= LEAST_PX,
            "--simulated-px is 0, or not below --size-px": self.simulated_px == 0
            or self.simulated_px >= self.size_px,
            "--minutes are above 0, and --steps not below": self.minutes > 0 <= self.steps,
        }.items():
            if not kept:
                raise TrainingError(f"{name}.")

    @property
    def scan_px(self) -> int:
        """Rows and columns of the simulated scans."""
        return self.simulated_px or round(self.size_px * SIZE_PX / _USUAL_PX)

    @property
    def seeds(self) -> range:
        """Of the series to learn from: the same for all arms."""
        return TRAINING_SEEDS[: self.series]

    @property
    def holdout_seeds(self) -> range:
        """Of the series to measure on."""
        return HOLDOUT_SEEDS[: self.holdout]

    def spec(self) -> PreprocessSpec:
        """Return how the caches are made."""
        return PreprocessSpec(size_px=self.size_px, windows_hu=((0.0, 80.0),))

    def recipe(self, steps: int) -> Recipe:
        """Return how all of them learn: a small network that draws, for a short time."""
        usual = dataclasses.replace(
            PRESETS["mask"],
            size_px=self.size_px,
            steps=steps,
            averaging=0.99,
            reestimate_batches=50,
            seed=self.seed,
        )
        return usual.like(self.spec())

    def as_json(self) -> dict[str, Any]:
        """Return what decides the figures."""
        return {
            "template": template_digest(self.template),
            "architecture": self.recipe(0).architecture,
            "series": self.series,
            "holdout": self.holdout,
            "size_px": self.size_px,
            "scan_px": self.scan_px,
            "steps": self.steps,
            "minutes": 0.0 if self.steps else self.minutes,
            "seed": self.seed,
            "code_version": ichnode.__version__,
            "simulator": REVISION,
            "recipe": self.recipe(0).to_json(),
            "device": choose_device(self.device).type,
        }
