"""A network that draws where the blood is: masks for the volume, and evidence that hears them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ichnode.nets.local import LocalResNet, ResidualBody, resized, strongest
from ichnode.nets.slice_network import Groups

STRIDE = 4  # pixels of the image for one of a mask
COUNTED_CHANCE = 0.1
"""Places below it count for no area: over a whole head their tails would add up to millilitres."""
_RARE = -4.0  # log odds that an untrained network sees blood at a place
_HEARD = 0.5  # how far the masks speak in the evidence at first


class Drawn(NamedTuple):
    """What the network sees in some images.

    Attributes
    ----------
    evidence : Tensor, (n, label, y / 16, x / 16)
        Logits; a label's logit is the mean of its strongest places.
    masks : Tensor, (n, label, y / 4, x / 4)
        Logits of each place being blood of that kind; of "any", of being blood.
    late : Tensor, (n, width, y / 32, x / 32)
        The last maps of the body.
    """

    evidence: Tensor
    masks: Tensor
    late: Tensor


class MaskNetwork(LocalResNet):
    """Local evidence, and masks from a light decoder that goes from the last maps back up.

    Each stage's maps are brought to one small width and added to the enlarged ones from below. The
    masks are read off at a quarter of the image's size. Their highest values are mixed into the
    evidence, so that what is drawn has its say in the decision. The features are the mean of the
    last maps, the area of each label as a fraction of the image, and the logits: one pass gives all
    three.

    References
    ----------
    Lin T-Y et al., Feature Pyramid Networks for Object Detection, CVPR 2017.
    Kirillov A et al., Panoptic Feature Pyramid Networks, CVPR 2019.
    """

    def __init__(self, body: ResidualBody, in_channels: int, outputs: int, *, width: int) -> None:
        super().__init__(body, in_channels, outputs, further=outputs)
        self.sideways = nn.ModuleList(
            nn.Conv2d(channels, width, kernel_size=1) for channels in body.widths
        )
        self.smooth = nn.ModuleList(_smoothing(width) for _ in body.widths[:-1])
        self.draw = nn.Conv2d(width, outputs, kernel_size=1)
        self.hear = nn.Conv2d(outputs, outputs, kernel_size=1)
        with torch.no_grad():
            self.draw.bias.fill_(_RARE)  # type: ignore[union-attr]
            self.hear.weight.copy_(_HEARD * torch.eye(outputs)[:, :, None, None])
            self.hear.bias.fill_(-_HEARD * _RARE)  # type: ignore[union-attr]

    def drawn(self, images: Tensor) -> Drawn:
        """Return evidence, masks and last maps of images (n, channel, y, x)."""
        maps = [self.stem(images)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        quarter, eighth, early, late = maps[1:]
        masks = self.draw(self._upwards((quarter, eighth, early, late)))
        heard = self.hear(functional.adaptive_max_pool2d(masks, early.shape[-2:]))
        return Drawn(self._evidence(early, late) + heard, masks, late)

    def _upwards(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Return maps of a quarter of the image's size that know of all those below."""
        *finer, coarsest = (side(one) for side, one in zip(self.sideways, maps, strict=True))
        known: Tensor = coarsest
        for own, smooth in zip(reversed(finer), reversed(list(self.smooth)), strict=True):
            known = smooth(own + resized(known, own))
        return known

    def evidence(self, images: Tensor) -> Tensor:
        """Return what speaks for each label at each place: logits (n, label, y / 16, x / 16)."""
        return self.drawn(images).evidence

    def masks(self, images: Tensor) -> Tensor:
        """Return the logits of each place being blood: (n, label, y / 4, x / 4)."""
        return self.drawn(images).masks

    def embed(self, images: Tensor) -> Tensor:
        """Return the mean of the last maps, the area of each label, and the logits."""
        seen = self.drawn(images)
        parts = (seen.late.mean(dim=(2, 3)), soft_area(seen.masks), strongest(seen.evidence))
        return torch.cat(parts, dim=1)  # areas keep their full precision

    def areas(self, features: Tensor) -> Tensor:
        """Return the area of each label as a fraction of the image, 0 to 1: (n, label)."""
        return features[:, -2 * self.outputs : -self.outputs]

    def groups(self) -> Groups:
        """Return early body, late body and all that turns maps into masks and evidence."""
        early, late, head = super().groups()
        return early, late, (*head, self.sideways, self.smooth, self.draw, self.hear)


def _smoothing(width: int) -> nn.Sequential:
    made = nn.Sequential(
        nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )
    nn.init.kaiming_normal_(made[0].weight, nonlinearity="relu")  # type: ignore[arg-type]
    return made


def soft_area(masks: Tensor) -> Tensor:
    """Return the sum of the probabilities of a mask as a fraction of the image: (n, label).

    A place at the edge of a bleed counts in part, as it is covered in part. Places that are hardly
    probable do not count, see `COUNTED_CHANCE`. Computed at full precision.

    Parameters
    ----------
    masks : Tensor, (n, label, y, x)
        Logits.
    """
    chances = torch.sigmoid(masks.float())
    return (chances * (chances >= COUNTED_CHANCE)).mean(dim=(2, 3))
