"""How a network was trained: one frozen record that is kept with the result."""

from __future__ import annotations

from dataclasses import dataclass

from ichnode.nets.manifest import PreprocessSpec


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run.

    With `minutes` the clock may end the run before `epochs` do, so the same recipe gives the same
    weights only where that does not happen.
    """

    architecture: str = "resnet18_local"
    heads: int = 300  # simulated heads to learn from
    tune_heads: int = 80  # for calibration and thresholds
    holdout_heads: int = 80  # measured once, at the end
    size_px: int = 160
    small_px: int = 96  # the first part of the run sees smaller images: quicker steps
    small_part: float = 0.65  # of the run
    epochs: int = 12
    minutes: float = 0.0  # 0: no limit
    batch: int = 32
    peak_rate: float = 1.5e-3
    weight_decay: float = 0.05
    any_weight: float = 2.0  # of "any" in the loss; the subtypes weigh 1
    place_weight: float = 1.0  # of saying where the blood is
    averaging: float = 0.995  # decay of the averaged weights
    seed: int = 7

    def preprocess(self) -> PreprocessSpec:
        """Return the preprocessing that goes into the bundle.

        Three windows: brain, subdural (acute blood against bone is cut off by the first) and bone.
        """
        return PreprocessSpec(
            size_px=self.size_px,
            windows_hu=((0.0, 80.0), (-20.0, 180.0), (-800.0, 2000.0)),
            context_slices=1,
        )
