"""From the slices of a series to the series: what labels of whole series teach through.

Maximum and smooth maximum are those of serving (`ichnode.nets.calibration.series_logits`), so that
a slice classifier that is taught through them is served by the same rule. Attention learns which
slices to listen to; it is a teacher, and serving keeps the classifier of slices.

References
----------
Remedios SW et al., Extracting 2D weak labels from volume labels using multiple instance learning in
CT hemorrhage detection, SPIE Medical Imaging 2020.
Pinheiro P, Collobert R, From Image-level to Pixel-level Labeling, CVPR 2015.
Ilse M et al., Attention-based Deep Multiple Instance Learning, ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor, nn

from ichnode.nets.calibration import SHARPNESS

PoolingName = Literal["max", "log_sum_exp", "attention"]
_ATTENTION = 128


def strongest_slice(logits: Tensor, present: Tensor) -> Tensor:
    """Return the highest logit of each series.

    Parameters
    ----------
    logits : Tensor, float32, (b, L, label)
        Of the slices, padded to one length.
    present : Tensor, bool, (b, L)
        Which are slices and not padding.

    Returns
    -------
    Tensor, float32, (b, label)
    """
    return _without_padding(logits, present).amax(dim=1)


def smooth_maximum(logits: Tensor, present: Tensor, sharpness: float = SHARPNESS) -> Tensor:
    """Return ``log(mean(exp(r z))) / r``: every slice learns, the highest most.

    Parameters
    ----------
    logits, present : Tensor
        As in `strongest_slice`.
    sharpness : float
        r; towards 0 it is the mean, towards infinity the maximum.
    """
    total = (sharpness * _without_padding(logits, present)).logsumexp(dim=1)
    count = present.sum(dim=1, keepdim=True).to(logits.dtype)
    return (total - count.log()) / sharpness


def _without_padding(logits: Tensor, present: Tensor) -> Tensor:
    return logits.masked_fill(~present[..., None], -math.inf)


class Pooling(nn.Module):
    """Features and logits of the slices of some series to logits of the series."""

    def forward(self, features: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """Return logits (b, label).

        Parameters
        ----------
        features : Tensor, float32, (b, L, width)
        logits : Tensor, float32, (b, L, label)
        present : Tensor, bool, (b, L)
            Every series has a slice.
        """
        raise NotImplementedError


class MaximumPooling(Pooling):
    """The strongest slice speaks for the series: one slice learns from each label."""

    def forward(self, features: Tensor, logits: Tensor, present: Tensor) -> Tensor:  # noqa: ARG002 - the form of every pooling
        """Return the highest logits (b, label)."""
        return strongest_slice(logits, present)


class SmoothMaximumPooling(Pooling):
    """The slices speak for the series, the stronger the louder."""

    def forward(self, features: Tensor, logits: Tensor, present: Tensor) -> Tensor:  # noqa: ARG002 - the form of every pooling
        """Return the smooth maxima (b, label)."""
        return smooth_maximum(logits, present)


class AttentionPooling(Pooling):
    """A weighted mean of the slices' logits, with weights for each label that are learnt.

    The gate lets a slice be passed over whatever its features' sign.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.LayerNorm(width)
        self.look = nn.Linear(width, _ATTENTION)
        self.gate = nn.Linear(width, _ATTENTION)
        self.choose = nn.Linear(_ATTENTION, outputs, bias=False)

    def forward(self, features: Tensor, logits: Tensor, present: Tensor) -> Tensor:
        """Return the weighted means (b, label)."""
        weighted: Tensor = (self.shares(features, present) * logits).sum(dim=1)
        return weighted

    def shares(self, features: Tensor, present: Tensor) -> Tensor:
        """Return how much each slice counts for each label: (b, L, label), 1 over a series."""
        seen = self.even(features.masked_fill(~present[..., None], 0.0))
        scores = self.choose(torch.tanh(self.look(seen)) * torch.sigmoid(self.gate(seen)))
        return _without_padding(scores, present).softmax(dim=1)


SERVED_BY: Mapping[PoolingName, str] = MappingProxyType(
    {"max": "max", "log_sum_exp": "log_sum_exp", "attention": "max"}
)
"""By which rule of `ichnode.nets.calibration` a slice classifier taught so speaks for a series."""


def make_pooling(name: PoolingName, width: int, outputs: int) -> Pooling:
    """Make a pooling by its name, for features of a width and so many labels."""
    if name == "max":
        return MaximumPooling()
    if name == "log_sum_exp":
        return SmoothMaximumPooling()
    return AttentionPooling(width, outputs)
