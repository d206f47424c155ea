"""The arms of an ablation: the whole simulator, and the same without one thing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from ichnode.phantom.randomised.realism import WHOLE, Realism
from train.data.sources.randomised import PICTURE_SHARE, PROCEDURAL_SHARE, Randomised
from train.errors import TrainingError
from train.learn.recipe import BRAIN_HU, Recipe


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """What one network learns from and how; what is not said is as in `FULL`.

    Attributes
    ----------
    name : str
        On the command line, and of its folder.
    what : str
        What is other than in the whole, for people.
    windows_hu : tuple of (float, float), optional
        Of the network, in place of the recipe's.
    series_of : str
        The arm whose simulated series these are as well.
    """

    name: str
    what: str
    realism: Realism = WHOLE
    procedural_share: float = PROCEDURAL_SHARE
    picture_share: float = PICTURE_SHARE
    windows_hu: tuple[tuple[float, float], ...] | None = None
    series_of: str = ""

    @property
    def cache(self) -> str:
        """The name of the cache of its series."""
        return self.series_of or self.name

    def source(self, seeds: range, template: Path, size_px: int) -> Randomised:
        """Return the series that it learns from."""
        return Randomised(
            seeds,
            template,
            size_px,
            picture_share=self.picture_share,
            procedural_share=self.procedural_share,
            realism=self.realism,
        )

    def recipe(self, usual: Recipe) -> Recipe:
        """Return how it learns."""
        if self.windows_hu is None:
            return usual
        return dataclasses.replace(usual, windows_hu=self.windows_hu)


FULL = Arm("full", "the whole simulator")
ARMS = (
    FULL,
    Arm("template-only", "no drawn heads: all anatomy from the template", procedural_share=0.0),
    Arm("procedural-only", "no template: all heads are drawn", procedural_share=1.0),
    Arm("white-noise", "noise without grain, of the same deviation", Realism(grain=False)),
    Arm(
        "no-distractors",
        "no mimics of blood, diseases, surgery, streaks, hardening, motion, couch",
        Realism(distractors=False),
    ),
    Arm("no-pictures", "no series as read from pictures of a window", picture_share=0.0),
    Arm(
        "brain-window",
        "the network sees the window of 0 to 80 HU alone",
        windows_hu=(BRAIN_HU,),
        series_of=FULL.name,
    ),
    Arm(
        "all-blood",
        "every slice with blood is positive, seen or not",
        Realism(visibility=False),
    ),
)


def chosen_arms(names: Sequence[str]) -> tuple[Arm, ...]:
    """Return the arms of these names in their usual order; all of them where none is named.

    Raises
    ------
    TrainingError
        When there is no such arm.
    """
    known = [arm.name for arm in ARMS]
    if unknown := sorted(set(names) - set(known)):
        raise TrainingError(f"There is no arm {unknown[0]}; there are {', '.join(known)}.")
    return tuple(arm for arm in ARMS if not names or arm.name in names)
