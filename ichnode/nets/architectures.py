"""The networks by name. A bundle names one; nothing of a network is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

STRONGEST = 3  # places that a logit is the mean of


class ResNet(nn.Module):
    """A residual network over slices, after torchvision, that decides by local evidence.

    Its last maps are turned into evidence for each label at each place, a sixteenth of the input's
    size; a label's logit is the mean of its strongest places. A bleed is local, and so is the
    decision: a scan that looks unfamiliar everywhere is not called positive by the sum of it all.

    References
    ----------
    He K et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, body: torchvision.models.ResNet, in_channels: int, outputs: int) -> None:
        super().__init__()
        stem = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.stem = nn.Sequential(stem, body.bn1, body.relu, body.maxpool)
        self.stages = nn.Sequential(body.layer1, body.layer2, body.layer3, body.layer4)
        width = body.fc.in_features
        self.near = nn.Conv2d(width // 2, outputs, kernel_size=1)
        self.far = nn.Conv2d(width, outputs, kernel_size=1)

    def evidence(self, images: Tensor) -> Tensor:
        """Return what speaks for each label at each place: logits (n, label, y / 16, x / 16)."""
        early = self.stages[:3](self.stem(images))
        far = self.far(self.stages[3](early))
        wider = functional.interpolate(
            far, size=early.shape[-2:], mode="bilinear", align_corners=False
        )
        places: Tensor = self.near(early) + wider
        return places

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, label) of images (n, channel, y, x)."""
        return strongest(self.evidence(images))


def strongest(evidence: Tensor) -> Tensor:
    """Return the mean of the three strongest places: (n, label, y, x) to (n, label)."""
    places = evidence.flatten(2)
    return places.topk(min(STRONGEST, places.shape[2]), dim=2).values.mean(dim=2)


def _resnet18_local(in_channels: int, outputs: int) -> ResNet:
    return ResNet(torchvision.models.resnet18(weights=None), in_channels, outputs)


ARCHITECTURES: Mapping[str, Callable[[int, int], ResNet]] = MappingProxyType(
    {"resnet18_local": _resnet18_local}
)
"""Name to a function of (input channels, outputs) that makes the network, untrained."""


def build(architecture: str, in_channels: int, outputs: int) -> ResNet:
    """Make an untrained network.

    Raises
    ------
    KeyError
        When there is no architecture of that name.
    """
    return ARCHITECTURES[architecture](in_channels, outputs)


def fold_batch_norm(network: nn.Module) -> None:
    """Fold each batch normalisation into the convolution before it, in place.

    The network must be in evaluation mode and is good for inference only afterwards.
    """
    for parent in network.modules():
        previous: tuple[str, nn.Conv2d] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d) and previous is not None:
                setattr(parent, previous[0], fuse_conv_bn_eval(previous[1], child))
                setattr(parent, name, nn.Identity())
            if isinstance(child, nn.Conv2d):
                previous = (name, child)
            elif not isinstance(child, nn.ReLU):
                previous = None
