"""How a run is going: figures of slices that it does not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from ichnode.nets.architectures import SliceNetwork
from train.data.views import Slices
from train.judge.metrics import accuracy_multi, auroc
from train.learn.batches import answer_columns
from train.learn.distributed import Team
from train.learn.losses import label_weights, masked_cross_entropy, mean
from train.learn.predicting import Quick, embed
from train.learn.recipe import Recipe

_SERIES = 400  # watched at most: enough to see how it goes
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Watched:
    """Figures of the watched slices; NaN where they cannot be given.

    Attributes
    ----------
    loss : float
        The cross-entropy that training minimises, corrected for negatives that were left out.
    auroc : float
        Of "any"; for a network of subtypes the mean over those with both classes.
    accuracy : float
        ``accuracy_multi`` at 0.5, as fastai and the paper have it.
    """

    loss: float
    auroc: float
    accuracy: float


def watched_part(watch: Slices, recipe: Recipe) -> Slices:
    """Return the slices that are watched: evenly chosen series; for subtypes those with blood."""
    series = np.unique(watch.series)
    step = max(len(series) / _SERIES, 1.0)
    some = series[np.arange(0, len(series), step).astype(int)]
    kept = np.isin(watch.series, some)
    return watch.where(kept & (watch.labels[:, 0] == 1) if recipe.labels == "subtypes" else kept)


def look(
    network: SliceNetwork,
    watch: Slices,
    recipe: Recipe,
    team: Team,
    *,
    dtype: torch.dtype = torch.float32,
    negatives_kept: float = 1.0,
) -> Watched:
    """Run the network over the watched slices, each process over its part.

    It runs on a copy with folded normalisation, made anew each time: a network that was compiled or
    folded for inference once would go on with the weights of that moment.
    """
    part = watch.where(watch.series % team.world == team.rank)
    width = len(recipe.answers)
    logits = np.empty((0, width))
    if len(part):
        how = Quick(dtype=dtype, batch=_BATCH)
        logits = embed(network, part, recipe.preprocess(), device=team.device, how=how)[1]
    rows = np.concatenate([logits, part.labels[:, answer_columns(recipe)]], axis=1)
    everyone = team.gather(rows)
    return figures(everyone[:, :width], everyone[:, width:], recipe, negatives_kept)


def figures(
    logits: npt.NDArray[np.float64],
    truth: npt.NDArray[np.float64],
    recipe: Recipe,
    negatives_kept: float = 1.0,
) -> Watched:
    """Return the figures of logits and truth (slice, answer)."""
    if not len(logits):
        return Watched(float("nan"), float("nan"), float("nan"))
    corrected = logits.copy()
    if recipe.labels != "subtypes":
        corrected[:, 0] += np.log(negatives_kept)
    weights = label_weights(recipe.answers, recipe.any_weight)
    stated = torch.from_numpy(truth).float()
    loss = mean(*masked_cross_entropy(torch.from_numpy(corrected).float(), stated, weights))
    areas = [auroc(z, y) for z, y in zip(logits.T, truth.T, strict=True)]
    whole = [areas[0]] if recipe.labels != "subtypes" else [a for a in areas if not np.isnan(a)]
    chances = functional.sigmoid(torch.from_numpy(corrected)).numpy()
    return Watched(
        loss=float(loss),
        auroc=float(np.mean(whole)) if whole else float("nan"),
        accuracy=accuracy_multi(chances, truth),
    )
