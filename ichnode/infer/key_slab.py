"""What is drawn on the slice that shows "any" best: the outline, and how much speaks for it where.

References
----------
Zhou B et al., Learning Deep Features for Discriminative Localization, CVPR 2016.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from ichnode.imaging.masks import LEAST_CHANCE, PLACES, Heat, Mask
from ichnode.nets.manifest import Manifest
from ichnode.nets.preprocess import Stack, channels, neighbours
from ichnode.nets.runnable import Runnable
from ichnode.nets.volume import onto_slice

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class KeySlab:
    """One slab of a series, to be looked at once more.

    Attributes
    ----------
    parts : Runnable
        The networks.
    stack : Stack
        All slabs, from `standardise`.
    index : int
        Which of them it is.
    """

    parts: Runnable = field(repr=False)
    manifest: Manifest = field(repr=False)
    stack: Stack = field(repr=False)
    index: int

    @torch.inference_mode()
    def mask(self, shape: tuple[int, ...]) -> Mask | None:
        """Draw blood of any kind: bool, of the native slice's (y, x).

        None of a model whose volumes are not shown.
        """
        spec, drawing = self.manifest.volume, self.parts.masks.get("joint")
        if spec is None or not spec.shown or drawing is None:
            return None
        rows, columns = shape
        chances = torch.sigmoid(drawing(self._images())[0, 0])
        return np.asarray(
            onto_slice(chances, self.stack.box, (rows, columns)).cpu() >= spec.contour
        )

    @torch.inference_mode()
    def heat(self, logits: Floats) -> Heat | None:
        """Say how much speaks for blood of any kind at each place.

        What the masks say of each place, of a model whose masks are good enough for volumes, unless
        they cover nothing here. Otherwise the local evidence, with the slice's own calibration;
        what a context network adds is added at every place. Attention, and no segmentation.

        Parameters
        ----------
        logits : ndarray, float64, (slab, label)
            What the model says of each slab.

        Returns
        -------
        Heat or None
            None where no place reaches `LEAST_CHANCE`, and of networks that cannot say it.
        """
        images, box = self._images(), self.stack.box
        chances = self._drawn(images)
        if chances is None or not _shows(chances):
            chances = self._evidence(images, float(logits[self.index, 0]))
        if chances is None or not _shows(chances):
            return None
        places = (255 * _sized(chances)).round().byte().cpu().numpy()
        return Heat(places, (box.top, box.left, box.height, box.width))

    def _images(self) -> Tensor:
        """Return what the networks are fed: float32, (1, channel, y, x)."""
        spec = self.manifest.preprocess
        around = neighbours(self.stack.positions_mm, spec)[self.index]
        return channels(self.stack.hu[around], torch.arange(len(around))[None], spec)

    def _drawn(self, images: Tensor) -> Tensor | None:
        """Return the chance of each place being blood, (y, x), of masks that are good enough."""
        spec, drawing = self.manifest.volume, self.parts.masks.get("joint")
        if spec is None or not spec.shown or drawing is None:
            return None
        return torch.sigmoid(drawing(images)[0, 0])

    def _evidence(self, images: Tensor, said: float) -> Tensor | None:
        """Return the evidence at each place as a chance, (y, x), in line with the slice's logit."""
        role = "joint" if "joint" in self.parts.encoders else "hemorrhage"
        if (evidence := self.parts.evidence.get(role)) is None:
            return None
        own = self.parts.heads[role](self.parts.encoders[role](images))[0, 0]
        calibration = self.manifest.calibration
        logits = evidence(images)[0, 0] + (said - own)
        return torch.sigmoid(logits / calibration.slice_temperature[0] + calibration.slice_bias[0])


def _shows(chances: Tensor) -> bool:
    """Whether anything speaks for blood anywhere; what is no number does not."""
    return float(chances.max()) >= LEAST_CHANCE


def _sized(chances: Tensor) -> Tensor:
    """Return chances on `PLACES` a side: coarse ones smoothly, and of fine ones the highest.

    Between coarse places nothing speaks louder than the loudest of them, and no edge arises that
    could be taken for that of a bleed. A single fine place, a small bleed, keeps its chance.
    """
    if len(chances) >= PLACES // 2:
        finer = chances.repeat_interleave(2, dim=0).repeat_interleave(2, dim=1)
        return functional.adaptive_max_pool2d(finer[None], PLACES)[0]
    smooth = functional.interpolate(
        chances[None, None], size=(PLACES, PLACES), mode="bicubic", align_corners=False
    )[0, 0]
    return smooth.clamp(min=0.0, max=float(chances.max()))
