"""The paper's networks: each with the recipe that the paper has for it, in a run folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from train.data.views import Slices
from train.errors import TrainingError
from train.learn.batches import Feeder, plan
from train.learn.checkpoint import new_learning
from train.learn.distributed import Team
from train.learn.finder import draw_sweep, find_rate, suggest
from train.learn.lesson import Teacher
from train.learn.loop import Conditions, fit
from train.learn.options import FROM_SCRATCH
from train.learn.precision import arithmetic, choose_device
from train.learn.recipe import Precision, Recipe
from train.learn.run_folder import CHECKPOINT, open_run
from train.learn.schedule import pace
from train.learn.starting import starting_weights
from train.paper.figures import figures_of
from train.paper.material import Material
from train.paper.settings import Scale, Settings

RATES = (1e-4, 3e-3)
"""A suggested rate outside of these is not believed."""
SUBTYPE_NETWORKS = ("resnet50", "resnet101", "densenet121", "alexnet")


@dataclass(frozen=True, slots=True)
class Workshop:
    """Where networks are made.

    Attributes
    ----------
    start : str
        ``auto`` where ImageNet's weights can be had and are wanted, else ``none``.
    rate : float
        The highest learning rate, from the finder.
    """

    out: Path
    material: Material
    settings: Settings
    scale: Scale
    start: str = "none"
    rate: float = 1e-3

    def recipe(self) -> Recipe:
        """Return the paper's recipe for blood or not, fitted to the cache."""
        spec = self.material.cache.spec
        recipe = self.scale.recipe(min(self.scale.size_px, spec.size_px)).like(spec)
        return replace(recipe, peak_rate=self.rate, seed=self.settings.seed)

    def make(self, name: str, recipe: Recipe, start: str | None = None) -> dict[str, Any]:
        """Train a network unless it is there already, and measure it."""
        run = self.out / "runs" / name
        recipe = replace(recipe, batch=_batch(self.material.learnt, recipe))
        recipe, network, origin = starting_weights(recipe, start or self.start)
        if recipe.start == Recipe().start:
            recipe = replace(recipe, **FROM_SCRATCH)
        conditions = Conditions(device=self.settings.device)
        fit(
            recipe,
            self.material.learnt,
            self.material.validation,
            run,
            start=network,
            conditions=conditions,
            split=self.material.split,
            origin=origin,
        )
        (run / CHECKPOINT).unlink(missing_ok=True)  # large, and of no use to a finished run
        opened = open_run(run)
        device = choose_device(self.settings.device).type
        found = figures_of(opened, self.material.validation, device, self.settings.seed)
        return found.as_json() | {
            "run": f"runs/{name}",
            "start": opened.recipe.start,
            "seconds": opened.result["seconds"],
            "steps": opened.result["steps"],
            "batch": recipe.batch,
            "size_px": recipe.size_px,
        }


def found_rate(shop: Workshop) -> dict[str, Any]:
    """Sweep the learning rate of ResNet-18 and return what is suggested, and what is taken."""
    recipe = replace(shop.recipe(), **FROM_SCRATCH)
    recipe = replace(recipe, batch=_batch(shop.material.learnt, recipe))
    seen = find_rate(
        recipe,
        shop.material.learnt,
        device=shop.settings.device,
        steps=shop.scale.finder_steps,
    )
    try:
        found = suggest(seen)
    except TrainingError as error:
        return {"taken": Recipe().peak_rate, "why": str(error)}
    draw_sweep(shop.out / "plots" / "finder.png", seen, found)
    taken = float(np.clip(found.valley, *RATES))
    suggested = {name: getattr(found, name) for name in ("valley", "steep", "minimum")}
    return suggested | {"taken": taken}


def of_subtypes(shop: Workshop, architecture: str) -> dict[str, Any]:
    """Train one of the multi-label networks on slices with blood; DenseNet by half batches."""
    batch = shop.scale.batch // 2 if architecture == "densenet121" else shop.scale.batch
    recipe = replace(
        shop.recipe(), architecture=f"{architecture}_concat", labels="subtypes", batch=batch
    )
    return shop.make(f"subtypes-{architecture}", recipe)


def precision_times(shop: Workshop) -> dict[str, Any]:
    """Time a step of ResNet-18 in float32 and in mixed precision."""
    recipe = replace(shop.recipe(), **FROM_SCRATCH)
    recipe = replace(recipe, batch=_batch(shop.material.learnt, recipe))
    device = choose_device(shop.settings.device)
    quick = arithmetic("auto", device).name
    mixed: Precision = "float16" if quick == "float16" else "bfloat16"
    steps = shop.scale.timed_steps
    learnt = shop.material.learnt
    kinds: tuple[Precision, ...] = ("float32", mixed)
    seconds = {kind: _seconds(recipe, kind, learnt, device.type, steps) for kind in kinds}
    rates = {kind: round(recipe.batch * steps / s, 2) for kind, s in seconds.items()}
    return {
        "device": device.type,
        "mixed": mixed,
        "hardware": quick != "float32",
        "images_per_s": rates,
        "saved": round(1 - seconds[mixed] / seconds["float32"], 4),
    }


def _seconds(recipe: Recipe, kind: Precision, slices: Slices, device: str, steps: int) -> float:
    """Return the seconds of so many steps; two before them warm up."""
    recipe = replace(recipe, precision=kind, averaging=0.0)
    team = Team(0, 1, choose_device(device))
    learning = new_learning(recipe, team, None)
    feeder = Feeder(slices, plan(slices, recipe), recipe, team.device)
    teacher, now = Teacher(learning, recipe, team), pace(recipe, 0.0)
    batches = feeder.batches(0, steps + 2)
    for _ in range(2):
        float(teacher.teach(next(batches), now))
    began = time.perf_counter()
    losses = [teacher.teach(batch, now) for batch in batches]
    float(losses[-1])  # waits for a GPU
    return time.perf_counter() - began


def _batch(slices: Slices, recipe: Recipe) -> int:
    """Return the recipe's batch, or where there are few slices one that fills four steps."""
    made = plan(slices, replace(recipe, batch=1))
    most = max(made.per_epoch // 4, 2)
    return min(recipe.batch, 1 << (most.bit_length() - 1))
