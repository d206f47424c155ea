"""Rate and momentum over a run, as functions of how far it is. No state.

A run is one cycle, or two: first with a frozen body, then with all of it, as fastai's fine-tuning
does it. Because nothing here counts steps, a run that is resumed, ends by the clock or skips a step
is nowhere else than its progress says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from train.learn.recipe import Recipe

_FROZEN_WARM_SHARE = 0.99  # fastai's fine_tune: the head's rate rises for nearly all of its time
_THAWED_WARM_SHARE = 0.3
_THAWED_FIRST_DIVISOR = 5.0


@dataclass(frozen=True, slots=True)
class Cycle:
    """One cycle of rate and momentum.

    Attributes
    ----------
    start, end : float
        Its part of the run, in 0 to 1.
    frozen : bool
        Whether only the head (and the normalisation of the body) learns.
    peak_rate : float
        Of the head.
    spread : float
        How many times slower the first layers learn.
    """

    start: float
    end: float
    frozen: bool
    peak_rate: float
    spread: float
    warm_share: float
    first_divisor: float


@dataclass(frozen=True, slots=True)
class Pace:
    """What a step uses.

    Attributes
    ----------
    rates : tuple of float
        Of early body, late body and head.
    """

    rates: tuple[float, ...]
    momentum: float
    frozen: bool


def cycles(recipe: Recipe) -> tuple[Cycle, ...]:
    """Return the cycles of a run.

    After a frozen one the whole network learns at half of the peak and starts from a fifth of that,
    as in fastai's ``fine_tune``.
    """
    if not recipe.frozen_epochs:
        whole = (recipe.peak_rate, recipe.rate_spread, recipe.warm_share, recipe.first_divisor)
        return (Cycle(0.0, 1.0, False, *whole),)
    border = recipe.frozen_epochs / (recipe.frozen_epochs + recipe.epochs)
    head = (recipe.peak_rate, 1.0, _FROZEN_WARM_SHARE, recipe.first_divisor)
    thawed = (recipe.peak_rate / 2, recipe.rate_spread, _THAWED_WARM_SHARE, _THAWED_FIRST_DIVISOR)
    return Cycle(0.0, border, True, *head), Cycle(border, 1.0, False, *thawed)


def pace(recipe: Recipe, progress: float, groups: int = 3) -> Pace:
    """Return what the step at this progress uses.

    Parameters
    ----------
    progress : float
        0 at the first step, 1 at the end; the loop knows it.
    groups : int
        How many groups of layers learn at rates of their own, spaced evenly by ratio.
    """
    progress = min(max(progress, 0.0), 1.0)
    cycle = next(c for c in reversed(cycles(recipe)) if progress >= c.start)
    part = (progress - cycle.start) / (cycle.end - cycle.start)
    share = one_cycle(part, cycle.warm_share, cycle.first_divisor, recipe.last_divisor)
    steps = [cycle.spread ** -(1 - g / max(groups - 1, 1)) for g in range(groups)]
    return Pace(
        rates=tuple(cycle.peak_rate * step * share for step in steps),
        momentum=_there_and_back(part, cycle.warm_share, *recipe.momentum),
        frozen=cycle.frozen,
    )


def one_cycle(
    progress: float,
    warm_share: float = 0.25,
    first_divisor: float = 25.0,
    last_divisor: float = 1e5,
) -> float:
    """Return the learning rate as a fraction of its peak.

    Rises from ``1 / first_divisor`` by a cosine over the first part and falls by one to
    ``1 / last_divisor``. torch's ``OneCycleLR`` does the same with ``pct_start`` 0.25,
    ``div_factor`` 25 and ``final_div_factor`` 4000, which it takes from the first rate; its own
    defaults are others.

    Parameters
    ----------
    progress : float
        0 at the first step, 1 at the end.

    References
    ----------
    Smith LN, A disciplined approach to neural network hyper-parameters, 2018.
    """
    first, last = 1 / first_divisor, 1 / last_divisor
    if progress < warm_share:
        return _cosine(first, 1.0, progress / warm_share)
    return _cosine(1.0, last, (progress - warm_share) / (1 - warm_share))


def _there_and_back(progress: float, warm_share: float, high: float, low: float) -> float:
    """Return the momentum: low while the rate is high."""
    if progress < warm_share:
        return _cosine(high, low, progress / warm_share)
    return _cosine(low, high, (progress - warm_share) / (1 - warm_share))


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def size_px(recipe: Recipe, progress: float) -> int:
    """Return how large images are at this progress.

    References
    ----------
    Howard J, Training Imagenet in 3 hours for $25, fast.ai 2018 (progressive resizing).
    """
    reached = 0.0
    for size, share in recipe.first_sizes:
        reached += share
        if progress < reached:
            return size
    return recipe.size_px
