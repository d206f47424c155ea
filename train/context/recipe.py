"""How the sequence stage is trained: one frozen record, kept with the result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ichnode.nets.manifest import canonical
from train.errors import TrainingError
from train.learn.recipe import read_record


@dataclass(frozen=True, slots=True)
class ContextRecipe:
    """Everything that decides the sequence stage; with the same features, the same weights."""

    hidden: Annotated[int, "Size of the recurrent layers, in each direction."] = 256
    layers: Annotated[int, "Recurrent layers."] = 2
    dropout: Annotated[float, "Between the recurrent layers, and before the heads."] = 0.2

    epochs: Annotated[int, "Times over the series."] = 20
    batch: Annotated[int, "Series a step."] = 32
    peak_rate: Annotated[float, "Highest learning rate."] = 3e-4
    warm_share: Annotated[float, "Share of the run in which the rate rises."] = 0.05
    weight_decay: Annotated[float, "Decoupled; none on normalisation and bias."] = 0.01
    clip: Annotated[float, "Greatest norm of the gradient."] = 1.0

    slice_weight: Annotated[
        float, "Of the slices in the loss, averaged within each series first."
    ] = 1.0
    series_weight: Annotated[float, "Of the series in the loss."] = 0.25
    weak_weight: Annotated[float, "Of the series as its slices tell it without their order."] = 0.1
    any_weight: Annotated[float, "Of blood or not in each loss; the subtypes weigh 1."] = 2.0

    noise: Annotated[float, "Standard deviation of what is added to each feature."] = 0.02
    element_dropout: Annotated[float, "Chance that a feature of a slice is lost."] = 0.05
    slice_dropout: Annotated[float, "Chance that a slice's features are lost altogether."] = 0.02

    averaging: Annotated[float, "Decay of the averaged weights; 0 for none."] = 0.0
    seed: Annotated[int, "Of everything that is drawn."] = 7

    def to_json(self) -> str:
        """Return the one text of this recipe; see `nets.manifest.canonical`."""
        return canonical(self)


def read_context_recipe(text: str) -> ContextRecipe:
    """Return a recipe from its JSON text; see `train.learn.recipe.read_record`."""
    return read_record(ContextRecipe, text)


def check(recipe: ContextRecipe) -> None:
    """Refuse what fits the form and makes no sense.

    Raises
    ------
    TrainingError
        With the one thing to change.
    """
    chances = (recipe.dropout, recipe.element_dropout, recipe.slice_dropout, recipe.averaging)
    weights = (recipe.slice_weight, recipe.series_weight, recipe.weak_weight)
    rules = {
        "hidden is 1 to 9999 and layers 1 to 4": 1 <= recipe.hidden <= 9999
        and 1 <= recipe.layers <= 4,
        "epochs, batch and peak_rate are above 0": min(recipe.epochs, recipe.batch) >= 1
        and recipe.peak_rate > 0,
        "chances and averaging are 0 or more and below 1": all(0 <= c < 1 for c in chances),
        "weights are not below 0, and one is above": min(weights) >= 0 and sum(weights) > 0,
        "warm_share is above 0 and below 1": 0 < recipe.warm_share < 1,
    }
    for sentence, kept in rules.items():
        if not kept:
            raise TrainingError(f"The recipe makes no sense: {sentence}.")
