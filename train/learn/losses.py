"""What the network is taught by: cross-entropy on what is known, and where the blood is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import LABELS, Label

_PLACE_SCALE = 10.0  # few places have blood, so the mean over all of them is small


def label_weights(answers: tuple[Label, ...], any_weight: float) -> Tensor:
    """Return what each answer weighs in the loss; "any" weighs `any_weight`, a subtype 1."""
    return torch.tensor([any_weight if label == LABELS[0] else 1.0 for label in answers])


def masked_cross_entropy(logits: Tensor, truth: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weighted sum of the cross-entropy over what is known, and the sum of weights.

    The loss is one over the other. They come apart so that processes can add up both and get what
    one of them would have got from the whole batch. ``weight``, not ``pos_weight``: the latter
    would shift the probabilities.

    Parameters
    ----------
    logits, truth : Tensor, float32, (n, answer)
        Truth is 1, 0, or NaN where it is not known; that contributes nothing, whatever its logit.
    weights : Tensor, float32, (answer,)
    """
    known = ~torch.isnan(truth)
    each = functional.binary_cross_entropy_with_logits(
        logits, torch.where(known, truth, 0.0), reduction="none"
    )
    shares = weights * known
    return (torch.where(known, each, 0.0) * weights).sum(), shares.sum()


def place_loss(
    places: Tensor, kinds: Tensor, masked: Tensor, answers: tuple[Label, ...]
) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy of each place, and how many places count.

    Parameters
    ----------
    places : Tensor, float32, (n, answer, y, x)
        Evidence for each answer at each place.
    kinds : Tensor, uint8, (n, row, column)
        Voxel truth: 0, or the index of a label.
    masked : Tensor, bool, (n,)
        Where `kinds` says something; the other slices contribute nothing.
    """
    there = torch.stack(
        [kinds > 0 if label == LABELS[0] else kinds == LABELS.index(label) for label in answers],
        dim=1,
    )
    coarse = functional.adaptive_max_pool2d(there.float(), places.shape[-2:])
    each = functional.binary_cross_entropy_with_logits(places, coarse, reduction="none")
    counted = masked[:, None, None, None].expand_as(each)
    total = torch.where(counted, each, 0.0).sum() * _PLACE_SCALE
    return total, counted.sum().to(each.dtype)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """Return ``total / count``, and 0 with gradients of 0 where nothing counts."""
    return total / count.clamp_min(1e-6)
