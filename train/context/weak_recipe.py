"""How labels of whole series teach: one frozen record, kept beside the run's `Recipe`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Literal, get_args, get_type_hints

from ichnode.nets.manifest import canonical
from train.context.pooling import PoolingName
from train.errors import TrainingError
from train.learn.recipe import Recipe, read_record

Learns = Literal["whole", "late", "head"]
_LATE_SPREAD = 100.0  # the late body, halfway between the first layers and the head, at a tenth


@dataclass(frozen=True, slots=True)
class WeakRecipe:
    """What a run on labels of series has beside its `Recipe`.

    Of that, ``batch`` is how many slices are in memory at once, ``epochs`` are times over the
    series, and ``sampling`` is natural or balanced and speaks of series.
    """

    pooling: Annotated[PoolingName, "How the series follows from its slices."] = "log_sum_exp"
    series: Annotated[int, "Series a step."] = 4
    learns: Annotated[
        Learns, "What learns: the whole network, its late layers at a tenth, or the head."
    ] = "whole"

    apart: Annotated[
        float, "Share of the run in which slices are taught apart, each its series' label."
    ] = 0.6

    def to_json(self) -> str:
        """Return the one text of this recipe; see `nets.manifest.canonical`."""
        return canonical(self)

    def applied(self, recipe: Recipe) -> Recipe:
        """Return the `Recipe` of a run that learns so.

        No slice of a series is left out, since nobody knows which of them show it. What is not
        learnt stays as it is altogether: its normalisation keeps its statistics, too.
        """
        whole = dataclasses.replace(recipe, cleaning="none")
        if self.learns == "whole":
            return whole
        return dataclasses.replace(
            whole, rate_spread=_LATE_SPREAD, frozen_epochs=0, bn_stats=False, bn_affine=False
        )


def read_weak_recipe(text: str) -> WeakRecipe:
    """Return a recipe from its JSON text; see `train.learn.recipe.read_record`."""
    return read_record(WeakRecipe, text)


def check_weak(weak: WeakRecipe, recipe: Recipe) -> None:
    """Refuse what fits the form and makes no sense.

    Raises
    ------
    TrainingError
        With the one thing to change.
    """
    hints = get_type_hints(WeakRecipe)
    for name in ("pooling", "learns"):
        if getattr(weak, name) not in (allowed := get_args(hints[name])):
            raise TrainingError(f"{name} is one of {', '.join(allowed)}.")
    rules = {
        "series is above 0": weak.series >= 1,
        "apart is 0 to 1": 0 <= weak.apart <= 1,
        "series teach all labels or any": recipe.labels in ("all", "any"),
        "series are drawn natural or balanced": recipe.sampling in ("natural", "balanced"),
        "where the blood is is not known, so place_weight is 0": recipe.place_weight == 0,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise TrainingError(f"The recipe makes no sense: {sentence}.")
