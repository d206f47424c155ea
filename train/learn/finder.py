"""The learning-rate finder: a mock run from a rate that does nothing to one that breaks it.

References
----------
Smith LN, Cyclical Learning Rates for Training Neural Networks, WACV 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track

from ichnode.nets.architectures import SliceNetwork
from train.data.cleaning import clean
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import Team
from train.learn.lesson import Teacher
from train.learn.precision import choose_device
from train.learn.recipe import Recipe, check
from train.learn.schedule import pace

Floats = npt.NDArray[np.float64]

FIRST_RATE, LAST_RATE, STEPS = 1e-7, 10.0, 100
_KEPT = 0.98  # of the smoothed loss
_BROKEN = 4.0  # times the best smoothed loss
_LAST_DROPPED = 5  # points that are already on their way to nowhere


@dataclass(frozen=True, slots=True)
class Sweep:
    """What was seen.

    Attributes
    ----------
    rates : ndarray, float64, (step,)
    losses : ndarray, float64, (step,)
        Smoothed.
    planned : int
        Steps that would have been made, had the loss not broken off.
    """

    rates: Floats = field(repr=False)
    losses: Floats = field(repr=False)
    planned: int = STEPS


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Rates to choose from.

    Attributes
    ----------
    valley : float
        Well into the longest descent: what to take.
    steep : float
        Where the loss falls fastest.
    minimum : float
        A tenth of the rate of the lowest loss.
    """

    valley: float
    steep: float
    minimum: float


def find_rate(
    recipe: Recipe,
    slices: Slices,
    *,
    start: SliceNetwork | None = None,
    device: str = "auto",
    steps: int = STEPS,
    quiet: bool = False,
) -> Sweep:
    """Sweep the learning rate over a network of the recipe, as its first steps would see it.

    It works on a network of its own: `start` and the process's chance stay as they are, bit by bit.

    Raises
    ------
    TrainingError
        When data or recipe make no sense.
    """
    check(recipe)
    slices, _ = clean(slices, recipe.cleaning)
    recipe = replace(recipe, averaging=0.0)
    team = Team(0, 1, choose_device(device))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        learning = new_learning(recipe, team, start)
        feeder = Feeder(slices, plan(slices, recipe), recipe, team.device)
        teacher = Teacher(learning, recipe, team)
        first = pace(recipe, 0.0)
        batches = feeder.batches(0, steps)

        def teach(rate: float) -> float:
            shares = tuple(rate * one / max(first.rates) for one in first.rates)
            return float(teacher.teach(next(batches), replace(first, rates=shares)))

        return sweep(teach, steps=steps, quiet=quiet)


def sweep(
    teach: Callable[[float], float],
    *,
    first: float = FIRST_RATE,
    last: float = LAST_RATE,
    steps: int = STEPS,
    quiet: bool = True,
) -> Sweep:
    """Make steps at rates that grow by ratio, until the loss is four times its best.

    Parameters
    ----------
    teach : callable
        Makes a step at a rate and returns its loss.
    """
    rates: list[float] = []
    losses: list[float] = []
    running = 0.0
    for index in track(range(steps), "Finding a rate", disable=quiet):
        rate = first * (last / first) ** (index / steps)
        loss = teach(rate)
        running = _KEPT * running + (1 - _KEPT) * loss
        rates.append(rate)
        losses.append(running / (1 - _KEPT ** (index + 1)))
        if not math.isfinite(loss) or losses[-1] > _BROKEN * min(losses):
            break
    return Sweep(np.asarray(rates), np.asarray(losses), steps)


def suggest(seen: Sweep) -> Suggestions:
    """Return the rates that a sweep speaks for, by fastai's rules.

    Raises
    ------
    TrainingError
        When the sweep broke off before there was anything to see.
    """
    rates, losses = _usable(seen)
    slope = np.gradient(losses, np.log(rates))
    return Suggestions(
        valley=float(rates[_valley(losses)]),
        steep=float(rates[int(np.argmin(slope))]),
        minimum=float(rates[int(np.argmin(losses))] / 10),
    )


def _usable(seen: Sweep) -> tuple[Floats, Floats]:
    """Leave out the first tenth and the last five, and what follows a loss that is no number."""
    end = len(seen.losses) - _LAST_DROPPED
    part = slice(seen.planned // 10, max(end, 0))
    rates, losses = seen.rates[part], seen.losses[part]
    if (bad := np.flatnonzero(~np.isfinite(losses))).size:
        rates, losses = rates[: bad[0]], losses[: bad[0]]
    if len(losses) < 3:
        raise TrainingError("The loss broke off too early to suggest a rate; look at the data.")
    return rates, losses


def _valley(losses: Floats) -> int:
    """Return a point in the middle third of the longest subsequence that only falls."""
    lengths = np.ones(len(losses), int)
    for index in range(1, len(losses)):
        before = lengths[:index][losses[:index] > losses[index]]
        lengths[index] = 1 + before.max(initial=0)
    end = int(lengths.argmax())
    start = end - int(lengths[end])
    third = (end - start) / 3
    return max(start + int(third) + int(third / 2), 0)


def draw_sweep(path: Path, seen: Sweep, found: Suggestions) -> None:
    """Draw loss over rate with the suggestions as a PNG file."""
    from matplotlib.figure import Figure  # slow to import

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(seen.rates, seen.losses, color="black", linewidth=1)
    colours = {"valley": "tab:green", "steep": "tab:orange", "minimum": "tab:blue"}
    for name, colour in colours.items():
        rate = getattr(found, name)
        loss = np.interp(rate, seen.rates, seen.losses)
        axes.plot(rate, loss, "o", color=colour, label=f"{name} {rate:.1e}")
    finite = seen.losses[np.isfinite(seen.losses)]
    axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
    axes.set_ylim(finite.min() * 0.9, min(finite.max(), 2 * finite[0]) * 1.05)
    axes.grid(alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
