"""How learning from labels of series is going: figures of series that it does not learn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.context.bag_reader import BagReader
from train.context.bags import Bags
from train.context.course import Watched
from train.judge.metrics import auroc
from train.learn.losses import label_weights, masked_cross_entropy, mean
from train.learn.predicting import Quick, embed
from train.learn.recipe import Recipe


@torch.inference_mode()
def watch_bags(
    reader: BagReader,
    watch: Bags,
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Watched:
    """Run a reader over some series, as the network would be served.

    Labels of slices, where there are any, are for the figure of the slices alone: nothing is
    chosen by it.
    """
    reader.eval()
    order = np.concatenate(list(watch.members))
    kept = np.zeros(len(watch.slices), bool)
    kept[order] = True
    part = watch.slices.where(kept)
    how = Quick(dtype=dtype, batch=recipe.batch)
    seen, said = embed(reader.network, part, recipe.preprocess(), device=device, how=how)
    features = torch.from_numpy(seen.astype(np.float32)).to(device)
    found = reader.speak(features, [len(one) for one in watch.members]).cpu()
    truth = torch.from_numpy(watch.truth)
    loss = mean(
        *masked_cross_entropy(found, truth, label_weights(recipe.answers, recipe.any_weight))
    )
    return Watched(
        loss=float(loss) if not bool(truth.isnan().all()) else float("nan"),
        slice_auroc=auroc(said[:, 0], part.labels[:, 0]),
        series_auroc=auroc(_doubles(found)[:, 0], watch.truth[:, 0]),
    )


def _doubles(logits: Tensor) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = logits.double().numpy()
    return found
