"""What every network that reads slices is; which there are, `ichnode.nets.architectures` says."""

from __future__ import annotations

from torch import Tensor, nn

from ichnode.nets.backbones import Backbone

Groups = tuple[tuple[nn.Module, ...], ...]


class SliceNetwork(nn.Module):
    """A network that reads one slice, with its neighbours as channels.

    Attributes
    ----------
    backbone : str
        torchvision's name of its body; "" where it has one of its own.
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

    def areas(self, features: Tensor) -> Tensor | None:  # noqa: ARG002 - for those that draw
        """Return how much of the image each answer covers, out of what `embed` returned.

        Returns
        -------
        Tensor, (n, output), or None
            Fractions of the image, 0 to 1; None of a network that draws no masks.
        """
        return None

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

    def answering(self) -> tuple[nn.Module, ...]:
        """Return the layers whose biases add up to the logits of an untrained network."""
        raise NotImplementedError

    def groups(self) -> Groups:
        """Return its modules as early body, late body and head: to freeze, or to teach apart."""
        raise NotImplementedError

    def adopt(self, body: Backbone) -> None:
        """Take over the weights of a backbone of the same kind."""
        raise NotImplementedError
