"""What the network is taught by: cross-entropy on what is known, and where the blood is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import LABELS, Label

_PLACE_SCALE = 10.0  # few places have blood, so the mean over all of them is small
_SMOOTH = 1.0  # places: a mask of less than one place is no better known than that


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


def whereabouts(kinds: Tensor, answers: tuple[Label, ...]) -> Tensor:
    """Return where each answer is true: float32, (n, answer, y, x).

    Parameters
    ----------
    kinds : Tensor, uint8, (n, y, x)
        Voxel truth: 0, or the index of a label.
    """
    there = [kinds > 0 if label == LABELS[0] else kinds == LABELS.index(label) for label in answers]
    return torch.stack(there, dim=1).float()


def place_loss(places: Tensor, there: Tensor, located: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy of each place, and how many places count.

    Parameters
    ----------
    places : Tensor, float32, (n, answer, y, x)
        Evidence for each answer at each place.
    there : Tensor, float32, (n, answer, row, column)
        Of `whereabouts`; a place has blood where any voxel of it has.
    located : Tensor, bool, (n, answer)
        Where there is voxel truth and the label is known; the rest contributes nothing.
    """
    return mask_loss(places, functional.adaptive_max_pool2d(there, places.shape[-2:]), located)


def mask_loss(masks: Tensor, covered: Tensor, located: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the cross-entropy of each place of the masks, and how many count.

    Parameters
    ----------
    masks : Tensor, float32, (n, answer, y, x)
        Logits.
    covered : Tensor, float32, (n, answer, y, x)
        Which share of each place has blood; see `shares_of`.
    located : Tensor, bool, (n, answer)
        As in `place_loss`.
    """
    each = functional.binary_cross_entropy_with_logits(masks, covered, reduction="none")
    counted = located[:, :, None, None].expand_as(each)
    total = torch.where(counted, each, 0.0).sum() * _PLACE_SCALE
    return total, counted.sum().to(each.dtype)


def dice_loss(masks: Tensor, covered: Tensor, located: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of one less the soft Dice of each mask that is not empty, and their number.

    Each answer of each slice counts once, so that parts of a batch add up. Parameters are those of
    `mask_loss`.

    References
    ----------
    Milletari F et al., V-Net, 3DV 2016.
    """
    chances = torch.sigmoid(masks)
    common = (chances * covered).sum(dim=(2, 3))
    both = chances.sum(dim=(2, 3)) + covered.sum(dim=(2, 3))
    lost = 1 - (2 * common + _SMOOTH) / (both + _SMOOTH)
    counted = located & (covered.sum(dim=(2, 3)) > 0)
    return torch.where(counted, lost, 0.0).sum(), counted.sum().to(lost.dtype)


def shares_of(there: Tensor, size: tuple[int, int]) -> Tensor:
    """Return which share of each place of a coarser grid is covered: (n, answer, y, x)."""
    return functional.adaptive_avg_pool2d(there, size)


def mean(total: Tensor, count: Tensor) -> Tensor:
    """Return ``total / count``, and 0 with gradients of 0 where nothing counts."""
    return total / count.clamp_min(1e-6)
