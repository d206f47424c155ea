"""How the sequence stage is trained: one frozen record, kept with the result."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from ichnode.nets.manifest import canonical
from train.errors import TrainingError


def _set(default: Any, says: str) -> Any:
    return field(default=default, metadata={"help": says})


@dataclass(frozen=True, slots=True)
class ContextRecipe:
    """Everything that decides the sequence stage; with the same features, the same weights."""

    hidden: int = _set(256, "Size of the recurrent layers, in each direction.")
    layers: int = _set(2, "Recurrent layers.")
    dropout: float = _set(0.2, "Between the recurrent layers, and before the heads.")

    epochs: int = _set(20, "Times over the series.")
    batch: int = _set(32, "Series a step.")
    peak_rate: float = _set(3e-4, "Highest learning rate.")
    warm_share: float = _set(0.05, "Share of the run in which the rate rises.")
    weight_decay: float = _set(0.01, "Decoupled; none on normalisation and bias.")
    clip: float = _set(1.0, "Greatest norm of the gradient.")

    slice_weight: float = _set(1.0, "Of the slices in the loss, averaged within each series first.")
    series_weight: float = _set(0.25, "Of the series in the loss.")
    weak_weight: float = _set(0.1, "Of the series as its slices tell it without their order.")
    any_weight: float = _set(2.0, "Of blood or not in each loss; the subtypes weigh 1.")

    noise: float = _set(0.02, "Standard deviation of what is added to each feature.")
    element_dropout: float = _set(0.05, "Chance that a feature of a slice is lost.")
    slice_dropout: float = _set(0.02, "Chance that a slice's features are lost altogether.")

    averaging: float = _set(0.0, "Decay of the averaged weights; 0 for none.")
    seed: int = _set(7, "Of everything that is drawn.")

    def to_json(self) -> str:
        """Return the one text of this recipe; see `nets.manifest.canonical`."""
        return canonical(self)


def read_context_recipe(text: str) -> ContextRecipe:
    """Return a recipe from its JSON text.

    Raises
    ------
    TrainingError
        When it has a field that we do not know.
    """
    content = json.loads(text)
    known = {one.name for one in dataclasses.fields(ContextRecipe)}
    if unknown := sorted(set(content) - known):
        raise TrainingError(f"The recipe has a field of another version, {unknown[0]}.")
    return ContextRecipe(**content)


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
