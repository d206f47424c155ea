"""A slice network and a pooling as one: series in, logits of series out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ichnode.nets.architectures import SliceNetwork, build
from train.context.bags import embed_parts, padded
from train.context.pooling import make_pooling
from train.context.weak_recipe import WeakRecipe
from train.learn.groups import by_decay, freeze, make_optimizer, set_modes
from train.learn.recipe import Recipe


class BagReader(nn.Module):
    """What learns from labels of series; its network is what is kept in the end.

    Parameters
    ----------
    truth : ndarray, float32, (series, answer)
        Of the series that are learnt from, for the first guess of a network of random weights.
    start : SliceNetwork, optional
        A network to start from.
    """

    def __init__(
        self,
        recipe: Recipe,
        weak: WeakRecipe,
        truth: npt.NDArray[np.float32],
        start: SliceNetwork | None = None,
    ) -> None:
        super().__init__()
        torch.manual_seed(recipe.seed)
        fresh = build(recipe.architecture, recipe.preprocess().channels, len(recipe.answers))
        self.network = fresh if start is None else copy.deepcopy(start)
        if start is None:
            start_at_prevalence(fresh, truth)
        self.pooling = make_pooling(weak.pooling, self.network.feature_width, self.network.outputs)

    def embed(self, parts: Sequence[Tensor], places: Tensor) -> Tensor:
        """Return the features (slice, width) of images in parts, in the order of the series."""
        return embed_parts(self.network, parts)[places]

    def speak(self, features: Tensor, lengths: Sequence[int]) -> Tensor:
        """Return logits (series, answer) from the features of the slices of some series."""
        by_series, present = padded(features, lengths)
        logits = self.network.classify(features)
        pooled: Tensor = self.pooling(by_series, padded(logits, lengths)[0], present)
        return pooled


@torch.no_grad()
def start_at_prevalence(network: SliceNetwork, truth: npt.NDArray[np.float32]) -> None:
    """Let an untrained network say of everything what share of the series shows it.

    Otherwise it spends its first epochs on learning no more than that.

    Parameters
    ----------
    truth : ndarray, float32, (series, answer)
        1, 0, or NaN where it is not known.

    References
    ----------
    Lin T-Y et al., Focal Loss for Dense Object Detection, ICCV 2017: a prior for rare classes.
    """
    shown, absent = ((truth == value).sum(axis=0) + 0.5 for value in (1, 0))
    log_odds = torch.from_numpy(np.log(shown / absent))
    answering = network.answering()
    for layer in answering:  # of several, as in resnet18_local, the logit is the sum
        layer.bias.copy_(log_odds / len(answering))  # type: ignore[operator]


def bag_optimizer(reader: BagReader, recipe: Recipe) -> torch.optim.AdamW:
    """Make the optimizer of the network, with the pooling as a fourth group of layers."""
    optimizer = make_optimizer(reader.network, recipe)
    decayed, free = by_decay((reader.pooling,))
    optimizer.add_param_group({"params": decayed, "weight_decay": recipe.weight_decay})
    optimizer.add_param_group({"params": free, "weight_decay": 0.0})
    return optimizer


def set_learning(reader: BagReader, recipe: Recipe, weak: WeakRecipe, *, frozen: bool) -> None:
    """Let learn what the recipe says, and keep the rest as it is, its statistics included."""
    network = reader.network
    frozen = frozen or weak.learns == "head"
    freeze(network, recipe, frozen=frozen)
    set_modes(network, recipe, frozen=frozen)
    reader.pooling.train()
    if weak.learns == "late":
        for module in network.groups()[0]:
            module.requires_grad_(requires_grad=False).eval()
