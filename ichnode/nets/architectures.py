"""The networks by name. A bundle names one; nothing of a network is ever unpickled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ichnode.domain.errors import ModelUnusable
from ichnode.nets.backbones import BACKBONES, Backbone, backbone, trained_backbone
from ichnode.nets.pretrained import InitialWeights, fetch_weights

STRONGEST = 3  # places that a logit is the mean of
Groups = tuple[tuple[nn.Module, ...], ...]


class SliceNetwork(nn.Module):
    """A network that reads one slice, with its neighbours as channels.

    Attributes
    ----------
    backbone : str
        torchvision's name of its body.
    in_channels, outputs : int
        What it is fed, and how many labels it answers for.
    feature_width : int
        Length of what `embed` returns.
    head : Module
        Features to logits; `classify` applies it.
    """

    head: nn.Module

    def __init__(self, backbone: str, in_channels: int, outputs: int, feature_width: int) -> None:
        super().__init__()
        self.backbone, self.in_channels, self.outputs = backbone, in_channels, outputs
        self.feature_width = feature_width

    def maps(self, images: Tensor) -> Tensor:
        """Return the last maps of images (n, channel, y, x): (n, width, y / 32, x / 32)."""
        raise NotImplementedError

    def embed(self, images: Tensor) -> Tensor:
        """Return one feature vector per image: (n, feature_width)."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """Return logits (n, output) of what `embed` returned."""
        logits: Tensor = self.head(features)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, output) of images (n, channel, y, x)."""
        return self.classify(self.embed(images))

    def activation_maps(self, images: Tensor) -> Tensor:
        """Return what each place speaks for: logits (n, output, y, x), coarser than the images.

        For a linear head their mean over the places is the logit, exactly; attention, and not a
        segmentation. The network must be in evaluation mode.

        References
        ----------
        Zhou B et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
        """
        raise NotImplementedError

    def groups(self) -> Groups:
        """Return its modules as early body, late body and head: to freeze, or to teach apart."""
        raise NotImplementedError

    def adopt(self, body: Backbone) -> None:
        """Take over the weights of a backbone of the same kind."""
        raise NotImplementedError


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


class LocalResNet(SliceNetwork):
    """A residual network over slices, after torchvision, that decides by local evidence.

    Its last maps are turned into evidence for each label at each place, a sixteenth of the input's
    size; a label's logit is the mean of its strongest places. A bleed is local, and so is the
    decision: a scan that looks unfamiliar everywhere is not called positive by the sum of it all.
    Its features are the mean of the last maps and, behind them, these logits.

    References
    ----------
    He K et al., Deep Residual Learning for Image Recognition, CVPR 2016.
    """

    def __init__(self, body: torchvision.models.ResNet, in_channels: int, outputs: int) -> None:
        width = body.fc.in_features
        super().__init__("resnet18", in_channels, outputs, width + outputs)
        stem = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.stem = nn.Sequential(stem, body.bn1, body.relu, body.maxpool)
        self.stages = nn.Sequential(body.layer1, body.layer2, body.layer3, body.layer4)
        self.near = nn.Conv2d(width // 2, outputs, kernel_size=1)
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
        wider = functional.interpolate(
            self.far(late), size=early.shape[-2:], mode="bilinear", align_corners=False
        )
        places: Tensor = self.near(early) + wider
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

    def groups(self) -> Groups:
        """Return early body, late body and the layers that turn maps into evidence."""
        stages = list(self.stages)
        return (self.stem, *stages[:2]), tuple(stages[2:]), (self.near, self.far)

    def adopt(self, body: Backbone) -> None:
        """Take over the weights of a residual backbone."""
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


ResNet = LocalResNet  # the name under which it was known when it was the only one


def strongest(evidence: Tensor) -> Tensor:
    """Return the mean of the three strongest places: (n, label, y, x) to (n, label)."""
    places = evidence.flatten(2)
    return places.topk(min(STRONGEST, places.shape[2]), dim=2).values.mean(dim=2)


def _resnet18_local(in_channels: int, outputs: int) -> SliceNetwork:
    return LocalResNet(torchvision.models.resnet18(weights=None), in_channels, outputs)


_WITH_CONCAT = ("resnet18", "resnet50", "resnet101", "densenet121", "alexnet")

ARCHITECTURES: Mapping[str, Callable[[int, int], SliceNetwork]] = MappingProxyType(
    {"resnet18_local": _resnet18_local}
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
