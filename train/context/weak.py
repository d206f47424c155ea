"""Train a slice network from labels of whole series: multiple-instance learning.

A series with blood has at least one slice that shows it, one without has none; nobody says which.
The network reads every slice, the series' logit is pooled from theirs, and the error goes back
through all of them. A network of random weights is taught slices one by one before, each with the
label of its series, so that there is something to pool. What comes of it is a slice classifier like
any other, in a run folder like any other: export, evaluation and sequence stage work on it.

References
----------
Remedios SW et al., Extracting 2D weak labels from volume labels using multiple instance learning in
CT hemorrhage detection, SPIE Medical Imaging 2020: some 400 volumes before it generalises.
Ilse M et al., Attention-based Deep Multiple Instance Learning, ICML 2018.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np

from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.pretrained import InitialWeights
from ichnode.spool import write_durable
from train.context.bag_stage import BagStage
from train.context.bags import bags_of, plan_bags
from train.context.course import Watched, go
from train.context.pooling import SERVED_BY
from train.context.weak_recipe import WeakRecipe, check_weak, read_weak_recipe
from train.data.views import Slices
from train.errors import TrainingError
from train.learn.loop import check_parts, reproducible
from train.learn.precision import choose_device
from train.learn.recipe import Recipe, check
from train.learn.run_folder import SplitKey, begin, describe, finish, kept_result, open_run
from train.learn.watching import watched_part

_WEAK = "weak.json"


def fit_weak(
    recipe: Recipe,
    weak: WeakRecipe,
    train: Slices,
    watch: Slices,
    run: Path,
    *,
    start: SliceNetwork | None = None,
    device: str = "auto",
    split: SplitKey | None = None,
    origin: InitialWeights | None = None,
    quiet: bool = False,
) -> SliceNetwork:
    """Train on labels of series, or go on where an earlier run in that folder stopped.

    No label of a slice is looked at. The weights of the epoch with the lowest loss on the watched
    series are kept.

    Parameters
    ----------
    recipe : Recipe
        Network, preprocessing, rates; see `WeakRecipe` for what is read differently.
    train, watch : Slices
        Whole series to learn from, and to watch the progress on; no patient is in both.
    run : Path
        The run folder, as of `train.learn.loop.fit`, with ``weak.json`` beside.
    start : SliceNetwork, optional
        Weights to start from; by default random ones.

    Raises
    ------
    TrainingError
        When recipe or data make no sense, the folder holds another run, or the loss is no number.
    KeyboardInterrupt
        After a stop was asked for and the checkpoint is written.
    """
    recipe = weak.applied(recipe)
    check(recipe)
    check_weak(weak, recipe)
    if weak.learns != "whole" and start is None:
        raise TrainingError("A network that starts from chance learns as a whole: --learns whole.")
    check_parts(recipe, train, watch)
    bags = bags_of(train, recipe)
    plan = plan_bags(bags, recipe, weak.series)
    _begin_weak(run, recipe, weak, _described(train, watch, plan.negatives_kept), split, origin)
    if kept_result(run) is None:
        with reproducible(recipe):
            looked_at = watched_part(watch, recipe)
            stage = BagStage(recipe, weak, bags, plan, looked_at, run, choose_device(device), start)
            go(stage, quiet=quiet)
            network, found = stage.finished()
        finish(run, network, _result(weak, stage, found, averages=recipe.averaging > 0))
    return open_run(run).network


def kept_weak_recipe(run: Path) -> WeakRecipe | None:
    """Return how a run learnt from labels of series, None where it did not."""
    path = run / _WEAK
    return read_weak_recipe(path.read_text(encoding="utf-8")) if path.is_file() else None


def series_rule(run: Path) -> str:
    """Return by which rule of `ichnode.nets.calibration` the slices of a run speak for a series."""
    weak = kept_weak_recipe(run)
    return "adjacent_mean" if weak is None else SERVED_BY[weak.pooling]


def _begin_weak(
    run: Path,
    recipe: Recipe,
    weak: WeakRecipe,
    data: dict[str, Any],
    split: SplitKey | None,
    origin: InitialWeights | None,
) -> None:
    kept = kept_weak_recipe(run)
    if (run / "recipe.json").is_file() and kept != weak:
        raise TrainingError(f"{run} holds a run of another kind; give another folder.")
    write_durable(run / _WEAK, (weak.to_json() + "\n").encode())
    begin(run, recipe, data, split=split, start=origin)


def _described(train: Slices, watch: Slices, negatives_kept: float) -> dict[str, Any]:
    """Return what the run learns from; labels of series are part of its digest."""
    data = describe(train, watch, negatives_kept)
    digest = hashlib.sha256(data["digest"].encode())
    for part in (train, watch):
        digest.update(np.ascontiguousarray(part.series_labels).tobytes())
    return data | {"digest": digest.hexdigest(), "labels_of": "series"}


def _result(weak: WeakRecipe, stage: BagStage, found: Watched, *, averages: bool) -> dict[str, Any]:
    figures = {
        name: None if math.isnan(value) else round(value, 6)
        for name, value in dataclasses.asdict(found).items()
    }
    return {
        "weights": "averaged" if averages else "learner",
        "epoch": stage.best_epoch,
        "watched": figures,
        "pooling": weak.pooling,
        "series_rule": SERVED_BY[weak.pooling],
        "steps": stage.step,
        "seconds": round(stage.spent_s, 1),
        "precision": stage.precision,
        "device": stage.device.type,
    }
