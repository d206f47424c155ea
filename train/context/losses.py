"""What the sequence stage is taught by."""

from __future__ import annotations

import torch
from torch import Tensor

from ichnode.domain.findings import LABELS
from ichnode.nets.context import ContextOutput
from train.context.recipe import ContextRecipe
from train.context.sequences import Batch
from train.learn.losses import label_weights, masked_cross_entropy, mean


def context_loss(found: ContextOutput, batch: Batch, recipe: ContextRecipe) -> Tensor:
    """Return the weighted sum of what slices, series and the weak head got wrong.

    What is not known contributes nothing: with labels of whole series alone the heads of the series
    learn, and the head of the slices does not.
    """
    weights = label_weights(LABELS, recipe.any_weight).to(found.series.device)
    of_slices = slice_loss(found.slices, batch.slice_truth, weights)
    of_series = mean(*masked_cross_entropy(found.series, batch.series_truth, weights))
    weak = mean(*masked_cross_entropy(found.weak, batch.series_truth, weights))
    return (
        recipe.slice_weight * of_slices
        + recipe.series_weight * of_series
        + recipe.weak_weight * weak
    )


def slice_loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return the loss of the slices, averaged within each series first.

    Otherwise a thin series, with twice the slices, would weigh twice as much.

    Parameters
    ----------
    logits, truth : Tensor, float32, (b, L, label)
        Truth is NaN where it is not known and in the padding.
    weights : Tensor, float32, (label,)
    """
    of_each = torch.vmap(masked_cross_entropy, in_dims=(0, 0, None))
    total, count = of_each(logits, truth, weights)
    return mean(mean(total, count).sum(), (count > 0).sum())
