"""What a network starts from: ImageNet's weights where they can be had, a file, or chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.architectures import SliceNetwork, build, load_pretrained
from ichnode.nets.pretrained import InitialWeights
from train.errors import TrainingError
from train.learn.options import FROM_SCRATCH
from train.learn.recipe import Recipe


def starting_weights(
    recipe: Recipe, asked: str
) -> tuple[Recipe, SliceNetwork | None, InitialWeights | None]:
    """Return the recipe that names its start, the network to start from, and whose weights it has.

    Parameters
    ----------
    asked : str
        ``none``; ``auto``, which says so and starts at random where the weights cannot be had; or
        a file, which must be good.

    Raises
    ------
    TrainingError
        When the file is not.
    """
    if asked == "none":
        return recipe, None, None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        network = build(recipe.architecture, recipe.preprocess().channels, len(recipe.answers))
    try:
        origin = load_pretrained(network, None if asked == "auto" else Path(asked))
    except ModelUnusable as error:
        if asked != "auto":
            raise TrainingError(str(error)) from error
        print(f"{error} Going on from random weights.")
        return dataclasses.replace(recipe, **FROM_SCRATCH), None, None
    named = f"{origin.name} {origin.digest[:16]}"
    return dataclasses.replace(recipe, start=named), network, origin
