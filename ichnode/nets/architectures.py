"""The networks by name. A bundle names one; nothing of a network is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.backbones import BACKBONES, Backbone, backbone, trained_backbone
from ichnode.nets.local import LocalResNet, compact_body, medium_body, resnet18_body
from ichnode.nets.mask_network import MaskNetwork
from ichnode.nets.pretrained import InitialWeights, fetch_weights
from ichnode.nets.slice_network import Groups, SliceNetwork

__all__ = (
    "ARCHITECTURES",
    "LocalResNet",
    "MaskNetwork",
    "PooledNetwork",
    "SliceNetwork",
    "build",
    "fold_batch_norm",
    "load_pretrained",
)


class PooledNetwork(SliceNetwork):
    """A torchvision body, one vector per image by pooling, and a head.

    With the plain head the features are the mean of the maps, and one linear layer follows. With
    the concatenating head they are mean and maximum, and two layers with batch normalisation
    follow, as in fastai.

    References
    ----------
    Howard J, Gugger S, fastai: A Layered API for Deep Learning, Information 2020.
    """

    def __init__(self, backbone_name: str, in_channels: int, outputs: int, *, concat: bool) -> None:
        body = backbone(backbone_name, in_channels)
        width = 2 * body.width if concat else body.width
        super().__init__(backbone_name, in_channels, outputs, width)
        self.early, self.late = body.early, body.late
        self.head = concat_head(width, outputs) if concat else linear_head(width, outputs)
        self._concat = concat

    def maps(self, images: Tensor) -> Tensor:
        """Return the last maps: (n, width, y / 32, x / 32)."""
        found: Tensor = self.late(self.early(images))
        return found

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the maps, with the concatenating head followed by their maximum."""
        return self._pool(self.maps(images))

    def _pool(self, maps: Tensor) -> Tensor:
        mean = maps.mean(dim=(2, 3))
        return torch.cat([mean, maps.amax(dim=(2, 3))], dim=1) if self._concat else mean

    def activation_maps(self, images: Tensor) -> Tensor:
        """Return the head's answer at each place, as if the image were that place alone.

        Their mean over the places is the logit with the plain head; with the concatenating head
        they are a likeness of it.
        """
        maps = self.maps(images)
        count, _, rows, columns = maps.shape
        places = maps.permute(0, 2, 3, 1).flatten(0, 2)
        answers = self.classify(torch.cat([places, places], dim=1) if self._concat else places)
        return answers.reshape(count, rows, columns, -1).permute(0, 3, 1, 2)

    def answering(self) -> tuple[nn.Module, ...]:
        """Return the last layer."""
        return (self.head[-1],)  # type: ignore[index]

    def groups(self) -> Groups:
        """Return early body, late body and head."""
        return (self.early,), (self.late,), (self.head,)

    def adopt(self, body: Backbone) -> None:
        """Take over the weights of a backbone of the same kind; the head stays as it is."""
        self.early.load_state_dict(body.early.state_dict())
        self.late.load_state_dict(body.late.state_dict())


def linear_head(width: int, outputs: int) -> nn.Sequential:
    """Make dropout and one linear layer."""
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Dropout(0.2), last)


def concat_head(width: int, outputs: int) -> nn.Sequential:
    """Make the two-layer head that fastai puts on mean and maximum; Kaiming-normal weights."""
    head = nn.Sequential(
        nn.BatchNorm1d(width),
        nn.Dropout(0.25),
        nn.Linear(width, 512, bias=False),
        nn.ReLU(inplace=True),
        nn.BatchNorm1d(512),
        nn.Dropout(0.5),
        nn.Linear(512, outputs),
    )
    for layer in head:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
    nn.init.zeros_(head[-1].bias)  # type: ignore[arg-type]
    return head


def _resnet18_local(in_channels: int, outputs: int) -> SliceNetwork:
    return LocalResNet(resnet18_body(in_channels), in_channels, outputs)


def _resnet18_mask(in_channels: int, outputs: int) -> SliceNetwork:
    return MaskNetwork(resnet18_body(in_channels), in_channels, outputs, width=64)


def _compact_mask(in_channels: int, outputs: int) -> SliceNetwork:
    return MaskNetwork(compact_body(in_channels), in_channels, outputs, width=48)


def _medium_mask(in_channels: int, outputs: int) -> SliceNetwork:
    return MaskNetwork(medium_body(in_channels), in_channels, outputs, width=64)


_WITH_CONCAT = ("resnet18", "resnet50", "resnet101", "densenet121", "alexnet")

ARCHITECTURES: Mapping[str, Callable[[int, int], SliceNetwork]] = MappingProxyType(
    {
        "resnet18_local": _resnet18_local,
        "resnet18_mask": _resnet18_mask,
        "compact_mask": _compact_mask,
        "medium_mask": _medium_mask,
    }
    | {name: partial(PooledNetwork, name, concat=False) for name in BACKBONES}
    | {f"{name}_concat": partial(PooledNetwork, name, concat=True) for name in _WITH_CONCAT}
)
"""Name to a function of (input channels, outputs) that makes the network, untrained."""


def build(architecture: str, in_channels: int, outputs: int) -> SliceNetwork:
    """Make an untrained network.

    Raises
    ------
    KeyError
        When there is no architecture of that name.
    """
    return ARCHITECTURES[architecture](in_channels, outputs)


def load_pretrained(network: SliceNetwork, source: Path | None = None) -> InitialWeights:
    """Start the body of a network from weights that were trained on ImageNet.

    The first layer's kernels are repeated for each slice and scaled, see
    `ichnode.nets.backbones.inflate`; the head stays as it is.

    Parameters
    ----------
    source : Path, optional
        A state dictionary of torchvision's network as .pth or .safetensors; by default torchvision
        fetches its own, or takes the one that it fetched before.

    Returns
    -------
    InitialWeights
        What a bundle must say of them: their terms follow the network.

    Raises
    ------
    ModelUnusable
        When they cannot be had or are not the weights of this body; the message says what to do.
    """
    if not network.backbone:
        raise ModelUnusable(
            "There are no trained weights for this network's own body; start from random ones "
            "with `--weights none`."
        )
    state, origin = fetch_weights(network.backbone, source)
    try:
        body = trained_backbone(network.backbone, state, network.in_channels)
    except ValueError as error:
        raise ModelUnusable(f"{source or network.backbone}: {error}.") from error
    network.adopt(body)
    return origin


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch normalisation into the convolution right before it, in place.

    The network must be in evaluation mode and is good for inference only afterwards. One that
    follows anything else (a dense layer's input, a head) stays as it is.
    """
    for parent in network.modules():
        previous: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and previous is not None:
                setattr(parent, previous[0], fuse_conv_bn_eval(previous[1], child))
                setattr(parent, name, nn.Identity())
            previous = (name, child) if isinstance(child, nn.Conv2d) else None
