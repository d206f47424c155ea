"""The bodies of the networks: torchvision's, cut in two for training, with a first layer to fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torchvision
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Backbone:
    """A torchvision network without its head.

    Attributes
    ----------
    early, late : Sequential
        Images to maps, one after the other. Where training goes at different rates, or freezes
        one part, it is at this cut.
    width : int
        Channels of the last maps.
    """

    early: nn.Sequential
    late: nn.Sequential
    width: int


def backbone(name: str, in_channels: int) -> Backbone:
    """Make an untrained backbone for images of any number of channels.

    Parameters
    ----------
    name : str
        One of `BACKBONES`.
    in_channels : int
        Channels of the images.
    """
    body = take_apart(name, torchvision.models.get_model(name, weights=None))
    if in_channels != 3:
        _replace_first(body.early, in_channels)
    return body


def trained_backbone(name: str, state: Mapping[str, Tensor], in_channels: int) -> Backbone:
    """Make a backbone of torchvision's own weights, its first layer inflated to `in_channels`.

    Parameters
    ----------
    state : mapping of str to Tensor
        A state dictionary of torchvision's network of that name, with or without its classifier.

    Raises
    ------
    ValueError
        When they are not the weights of that network.
    """
    plain = torchvision.models.get_model(name, weights=None)
    own = plain.state_dict()
    head = [key for key in own if key.startswith(_CLASSIFIERS.get(name, "classifier."))]
    given = {_today(key): value for key, value in state.items() if key not in head}
    given |= {key: own[key] for key in head}
    try:
        plain.load_state_dict(given)
    except RuntimeError as error:
        raise ValueError(f"these are not the weights of torchvision's {name}") from error
    body = take_apart(name, plain)
    if in_channels != 3:
        colour = first_layer(body.early)
        _replace_first(body.early, in_channels)
        first = first_layer(body.early)
        with torch.no_grad():
            first.weight.copy_(inflate(colour.weight, in_channels))
            if first.bias is not None and colour.bias is not None:
                first.bias.copy_(colour.bias)
    return body


def _today(key: str) -> str:
    """Return a key as torchvision spells it now; its DenseNet files still say ``norm.1``."""
    return re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key)


def inflate(kernels: Tensor, in_channels: int) -> Tensor:
    """Spread kernels for colour images over any number of channels.

    They are repeated for each slice and scaled by ``3 / in_channels``, so that what follows sees
    sums of the size that it was trained on. Where the channels are no multiple of three, each gets
    the mean of the three kernels.

    Parameters
    ----------
    kernels : Tensor, (output, 3, y, x)

    Returns
    -------
    Tensor, (output, in_channels, y, x)
    """
    if in_channels % 3:
        kernels = kernels.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    repeats = -(-in_channels // 3)
    return kernels.repeat(1, repeats, 1, 1)[:, :in_channels] * (3 / in_channels)


def first_layer(early: nn.Module) -> nn.Conv2d:
    """Return the convolution that sees the images."""
    return next(module for module in early.modules() if isinstance(module, nn.Conv2d))


def _replace_first(early: nn.Module, in_channels: int) -> None:
    """Put a fresh first convolution of the same shape in place, for other channels."""
    old = first_layer(early)
    fresh = nn.Conv2d(
        in_channels,
        old.out_channels,
        kernel_size=old.kernel_size,  # type: ignore[arg-type]
        stride=old.stride,  # type: ignore[arg-type]
        padding=old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    nn.init.kaiming_normal_(fresh.weight, mode="fan_out", nonlinearity="relu")
    if fresh.bias is not None:
        nn.init.zeros_(fresh.bias)
    for parent in early.modules():
        for name, child in parent.named_children():
            if child is old:
                setattr(parent, name, fresh)
                return


def take_apart(name: str, whole: nn.Module) -> Backbone:
    """Cut a torchvision network in two, without its head."""
    return BACKBONES[name](whole)


def _resnet(net: torchvision.models.ResNet) -> Backbone:
    early = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2)
    return Backbone(early, nn.Sequential(net.layer3, net.layer4), net.fc.in_features)


def _densenet(net: torchvision.models.DenseNet) -> Backbone:
    parts = dict(net.features.named_children())
    cut = list(parts).index("transition2") + 1
    layers = [*parts.values(), nn.ReLU(inplace=True)]
    return _cut(layers, cut, net.classifier.in_features)


def _alexnet(net: torchvision.models.AlexNet) -> Backbone:
    return _cut(list(net.features), 6, 256)


def _efficientnet(net: torchvision.models.EfficientNet) -> Backbone:
    return _cut(list(net.features), 4, net.classifier[-1].in_features)


def _convnext(net: torchvision.models.ConvNeXt) -> Backbone:
    # Its last normalisation is applied at each place and not after pooling, so that the class
    # activation map of a linear head adds up to the logit.
    return _cut([*net.features, net.classifier[0]], 4, net.classifier[-1].in_features)


def _cut(layers: list[nn.Module], after: int, width: int) -> Backbone:
    return Backbone(nn.Sequential(*layers[:after]), nn.Sequential(*layers[after:]), width)


BACKBONES: Mapping[str, Callable[[nn.Module], Backbone]] = MappingProxyType(
    {
        "resnet18": _resnet,
        "resnet50": _resnet,
        "resnet101": _resnet,
        "densenet121": _densenet,
        "alexnet": _alexnet,
        "efficientnet_v2_s": _efficientnet,
        "convnext_tiny": _convnext,
    }
)
"""torchvision's name to a function that takes such a network apart."""

_CLASSIFIERS = {
    "resnet18": "fc.",
    "resnet50": "fc.",
    "resnet101": "fc.",
    "convnext_tiny": "classifier.2.",
}
