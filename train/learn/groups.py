"""Which weights learn, how fast, and what keeps them small."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ichnode.nets.architectures import SliceNetwork
from train.learn.recipe import Recipe
from train.learn.schedule import Pace

NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.LayerNorm,
    nn.GroupNorm,
)


def make_optimizer(network: SliceNetwork, recipe: Recipe) -> torch.optim.AdamW:
    """Make Adam with decoupled weight decay: ``p *= 1 - rate x decay``, none on norm and bias.

    It has two groups, with and without decay, for each group of layers, the first layers first.

    References
    ----------
    Loshchilov I, Hutter F, Decoupled Weight Decay Regularization, ICLR 2019.
    """
    parameters = []
    for modules in network.groups():
        decayed, free = by_decay(modules)
        parameters.append({"params": decayed, "weight_decay": recipe.weight_decay})
        parameters.append({"params": free, "weight_decay": 0.0})
    return torch.optim.AdamW(
        parameters,
        lr=recipe.peak_rate,
        betas=(recipe.momentum[0], recipe.square_momentum),
        eps=recipe.epsilon,
        fused=True,
    )


def by_decay(
    modules: tuple[nn.Module, ...],
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the parameters of modules that decay and those that do not: norms and biases."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in (one for whole in modules for one in whole.modules()):
        for name, parameter in module.named_parameters(recurse=False):
            plain = isinstance(module, NORMS) or name == "bias" or parameter.ndim <= 1
            (free if plain else decayed).append(parameter)
    return decayed, free


def keep_pace(optimizer: torch.optim.Optimizer, now: Pace) -> None:
    """Set rates and momentum of an optimizer of `make_optimizer`."""
    for index, group in enumerate(optimizer.param_groups):
        group["lr"] = now.rates[index // 2]
        group["betas"] = (now.momentum, group["betas"][1])


def freeze(network: SliceNetwork, recipe: Recipe, *, frozen: bool) -> None:
    """Let only the head learn, or all of it.

    The scales and shifts of a frozen body's normalisation go on learning with ``bn_affine``, as in
    fastai and in the paper.
    """
    for module in _body(network):
        learns = not frozen or (recipe.bn_affine and isinstance(module, NORMS))
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(learns)


def set_modes(network: SliceNetwork, recipe: Recipe, *, frozen: bool) -> None:
    """Put the network into training mode, and what must not move out of it.

    Gradients that are off do not keep batch normalisation still: its statistics follow every batch
    that a training-mode forward pass sees. Without ``bn_stats`` those of the body stay as they
    are, and with them a body that is frozen altogether does not move by a bit.
    """
    network.train()
    for module in _body(network):
        still = isinstance(module, NORMS) or frozen
        if still and not recipe.bn_stats:
            module.training = False


def _body(network: SliceNetwork) -> Iterator[nn.Module]:
    """Yield every module before the head, each of their children too."""
    for modules in network.groups()[:-1]:
        for module in modules:
            yield from module.modules()
