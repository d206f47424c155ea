"""The networks by name. A bundle names one; nothing of a network is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torchvision
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ResNet(nn.Module):
    """A residual network over slices, after torchvision, with any number of input channels.

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
        self.head = nn.Linear(body.fc.in_features, outputs)

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the feature maps at a sixteenth and at a thirty-second of the input's size."""
        early = self.stages[:3](self.stem(images))
        return early, self.stages[3](early)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, output) of images (n, channel, y, x)."""
        return self.pool(self.features(images)[1])

    def pool(self, late: Tensor) -> Tensor:
        """Return logits from the last feature maps."""
        logits: Tensor = self.head(late.mean(dim=(2, 3)))
        return logits


def _resnet18(in_channels: int, outputs: int) -> ResNet:
    return ResNet(torchvision.models.resnet18(weights=None), in_channels, outputs)


ARCHITECTURES: Mapping[str, Callable[[int, int], ResNet]] = MappingProxyType(
    {"resnet18": _resnet18}
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
