"""Residual networks that decide by local evidence, and the bodies that they stand on."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.backbones import Backbone
from ichnode.nets.slice_network import Groups, SliceNetwork

STRONGEST = 3  # places that a logit is the mean of
_COMPACT = (24, 48, 80, 128, 160)
_MEDIUM = (32, 64, 128, 224, 320)


@dataclass(frozen=True, slots=True)
class ResidualBody:
    """Images to maps, in five steps.

    Attributes
    ----------
    backbone : str
        torchvision's name of it; "" of one that is ours.
    stem, stages : Sequential
        The stages give maps of a quarter, an eighth, a sixteenth and a 32nd of the image's size.
    widths : tuple of int
        Channels of the maps of each stage.
    """

    backbone: str
    stem: nn.Sequential = field(repr=False)
    stages: nn.Sequential = field(repr=False)
    widths: tuple[int, int, int, int]


def resnet18_body(in_channels: int) -> ResidualBody:
    """Make torchvision's ResNet-18, untrained, for images of any number of channels.

    References
    ----------
    He K et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """
    body = torchvision.models.resnet18(weights=None)
    first = _first_layer(in_channels, 64, kernel=7)
    stem = nn.Sequential(first, body.bn1, body.relu, body.maxpool)
    stages = nn.Sequential(body.layer1, body.layer2, body.layer3, body.layer4)
    return ResidualBody("resnet18", stem, stages, (64, 128, 256, 512))


def compact_body(in_channels: int) -> ResidualBody:
    """Make a body of the same blocks with some 1.7 million weights; a CPU can train it."""
    return _own_body(in_channels, _COMPACT)


def medium_body(in_channels: int) -> ResidualBody:
    """Make a body of the same blocks with some 6 million weights, for what a GPU can train.

    About as much work as ResNet-18, and half the weights: more of it is done on maps of half and a
    quarter of the image's size, where small bleeds still are more than a pixel.
    """
    return _own_body(in_channels, _MEDIUM)


def _own_body(in_channels: int, widths: tuple[int, int, int, int, int]) -> ResidualBody:
    width = widths[0]
    stem = nn.Sequential(
        _first_layer(in_channels, width, kernel=3),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        *_stage(width, width, stride=1),
    )
    steps = itertools.pairwise(widths)
    stages = nn.Sequential(*(_stage(before, after, stride=2) for before, after in steps))
    return ResidualBody("", stem, stages, widths[1:])


def _first_layer(in_channels: int, width: int, *, kernel: int) -> nn.Conv2d:
    made = nn.Conv2d(
        in_channels, width, kernel_size=kernel, stride=2, padding=kernel // 2, bias=False
    )
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made


def _stage(before: int, after: int, *, stride: int) -> nn.Sequential:
    shortcut = None
    if before != after:
        shortcut = nn.Sequential(
            nn.Conv2d(before, after, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(after),
        )
    stage = nn.Sequential(BasicBlock(before, after, stride, shortcut), BasicBlock(after, after))
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return stage


class LocalResNet(SliceNetwork):
    """A residual network over slices that decides by local evidence.

    Its last maps are turned into evidence for each label at each place, a sixteenth of the input's
    size; a label's logit is the mean of its strongest places. A bleed is local, and so is the
    decision: a scan that looks unfamiliar everywhere is not called positive by the sum of it all.
    Its features are the mean of the last maps and, behind them, these logits.

    Parameters
    ----------
    further : int
        Features that a subclass puts between the two.
    """

    def __init__(
        self, body: ResidualBody, in_channels: int, outputs: int, *, further: int = 0
    ) -> None:
        width = body.widths[-1]
        super().__init__(body.backbone, in_channels, outputs, width + further + outputs)
        self.stem, self.stages = body.stem, body.stages
        self.near = nn.Conv2d(body.widths[-2], outputs, kernel_size=1)
        self.far = nn.Conv2d(width, outputs, kernel_size=1)
        self.head = _Last(outputs)

    def maps(self, images: Tensor) -> Tensor:
        """Return the last maps: (n, width, y / 32, x / 32)."""
        found: Tensor = self.stages(self.stem(images))
        return found

    def evidence(self, images: Tensor) -> Tensor:
        """Return what speaks for each label at each place: logits (n, label, y / 16, x / 16)."""
        early = self.stages[:3](self.stem(images))
        return self._evidence(early, self.stages[3](early))

    def _evidence(self, early: Tensor, late: Tensor) -> Tensor:
        places: Tensor = self.near(early) + resized(self.far(late), early)
        return places

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the last maps followed by the logits."""
        early = self.stages[:3](self.stem(images))
        late = self.stages[3](early)
        return torch.cat([late.mean(dim=(2, 3)), strongest(self._evidence(early, late))], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, label) of images (n, channel, y, x)."""
        return strongest(self.evidence(images))

    def activation_maps(self, images: Tensor) -> Tensor:
        """Return the evidence; a logit is the mean of its strongest places."""
        return self.evidence(images)

    def answering(self) -> tuple[nn.Module, ...]:
        """Return the layers whose biases add up to the logits."""
        return self.near, self.far

    def groups(self) -> Groups:
        """Return early body, late body and the layers that turn maps into evidence."""
        stages = list(self.stages)
        return (self.stem, *stages[:2]), tuple(stages[2:]), (self.near, self.far)

    def adopt(self, body: Backbone) -> None:
        """Take over the weights of a residual backbone.

        Raises
        ------
        ModelUnusable
            When the body is our own, of which no trained weights are to be had.
        """
        if not self.backbone:
            raise ModelUnusable("This network has a body of its own; nothing trained fits it.")
        conv, norm, *_, first, second = body.early
        self.stem[0].load_state_dict(conv.state_dict())
        self.stem[1].load_state_dict(norm.state_dict())
        for stage, given in zip(self.stages, (first, second, *body.late), strict=True):
            stage.load_state_dict(given.state_dict())


class _Last(nn.Module):
    """The last columns of the features: there the logits are."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._outputs = outputs

    def forward(self, features: Tensor) -> Tensor:
        return features[:, -self._outputs :]


def strongest(evidence: Tensor) -> Tensor:
    """Return the mean of the three strongest places: (n, label, y, x) to (n, label)."""
    places = evidence.flatten(2)
    return places.topk(min(STRONGEST, places.shape[2]), dim=2).values.mean(dim=2)


def resized(maps: Tensor, like: Tensor) -> Tensor:
    """Return maps (n, channel, y, x) at the size of others."""
    return functional.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
