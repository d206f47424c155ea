"""Weights averaged over the last steps: steadier than those of any one of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def average(averaged: nn.Module, learner: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights and statistics a little towards the learner's.

    The first steps count more, so that the random start is soon forgotten. Statistics of batch
    normalisation are averaged too: they belong to the weights.

    Parameters
    ----------
    decay : float
        What is kept of the average at a late step.
    step : int
        How many steps were made before.

    References
    ----------
    Polyak BT, Juditsky AB, Acceleration of stochastic approximation by averaging, 1992.
    """
    decay = min(decay, (1 + step) / (10 + step))
    current = learner.state_dict()
    kept: list[Tensor] = []
    new: list[Tensor] = []
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            kept.append(value)
            new.append(current[name])
        else:
            value.copy_(current[name])
    torch._foreach_lerp_(kept, new, 1 - decay)
