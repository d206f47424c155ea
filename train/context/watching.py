"""How the sequence stage is going: figures of series that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ichnode.nets.context import ContextNet
from train.context.course import Watched
from train.context.features import Features
from train.context.losses import context_loss
from train.context.recipe import ContextRecipe
from train.context.sequences import Batch, SeriesRows, as_batch
from train.judge.metrics import auroc

_BATCH = 64


@torch.inference_mode()
def watch_series(
    network: ContextNet,
    features: Features,
    watch: Sequence[SeriesRows],
    recipe: ContextRecipe,
    device: torch.device,
) -> Watched:
    """Run the network over some series, undisturbed; it is put into evaluation mode."""
    network.eval()
    losses, counts = [], []
    slices: list[torch.Tensor] = []
    series: list[torch.Tensor] = []
    for first in range(0, len(watch), _BATCH):
        batch = as_batch(watch[first : first + _BATCH], features).to(device)
        if not _known(batch):
            continue
        found = network(batch.features, batch.places, batch.present)
        losses.append(float(context_loss(found, batch, recipe)))
        counts.append(len(batch.present))
        slices.append(_beside(found.slices[batch.present], batch.slice_truth[batch.present]))
        series.append(_beside(found.series, batch.series_truth))
    loss = float(np.average(losses, weights=counts)) if losses else float("nan")
    return Watched(loss, _area(slices), _area(series))


def _known(batch: Batch) -> bool:
    """Say whether anything is known of a batch."""
    truths = (batch.slice_truth, batch.series_truth)
    return not all(bool(truth.isnan().all()) for truth in truths)


def _beside(logits: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    return torch.stack([logits[:, 0], truth[:, 0]]).double().cpu()


def _area(parts: list[torch.Tensor]) -> float:
    if not parts:
        return float("nan")
    scores, truth = torch.cat(parts, dim=1).numpy()
    return auroc(scores, truth)
