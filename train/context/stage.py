"""The sequence stage as a whole: features, fit, blend, one folder."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ichnode.domain.findings import LABELS
from train.candidate import as_stored
from train.context.blending import SHARES, Blend, blend, choose_blend
from train.context.features import EXACT, Features, features_of, state_digest
from train.context.fitting import Fitted, fit_context
from train.context.joining import (
    OpenedContext,
    begin_context,
    finish_context,
    has_context,
    open_context,
)
from train.context.reading import read_series
from train.context.recipe import ContextRecipe, check
from train.context.sequences import series_of
from train.context.weak import series_rule
from train.data.views import Slices
from train.errors import TrainingError
from train.judge.metrics import auroc
from train.learn.predicting import Quick
from train.learn.run_folder import OpenedRun, describe, open_run
from train.predictions import Predictions
from train.truth import with_areas

KEPT = "features"
"""Folder beside the files of a cache where features are kept."""


def add_context(
    run: OpenedRun,
    train: Slices,
    selection: Slices,
    out: Path,
    recipe: ContextRecipe,
    *,
    rule: str = "",
    kept: Path | None = None,
    device: torch.device | str = "cpu",
    quiet: bool = False,
) -> OpenedContext:
    """Train a sequence stage on the features of a finished run, and put both into a new run.

    An interrupted stage goes on, its features included; a finished one is opened.

    Parameters
    ----------
    train, selection : Slices
        Whole series to learn from, and to choose epoch and blend on. No patient is in both, and
        the slice network has learnt from none of the latter.
    out : Path
        The new run folder.
    rule : str
        How a series' logit follows from the slice network's; by default as the run has it.
    kept : Path, optional
        Where features are kept; by default beside the cache.

    Raises
    ------
    TrainingError
        When the parts do not fit together, or there is nothing to learn from.
    """
    check(recipe)
    _check_parts(run, train, selection)
    rule = rule or series_rule(run.folder)
    folder = begin_context(out, run, recipe, _asked(run, train, selection, rule))
    if not has_context(out):
        how = dataclasses.replace(EXACT, shown="" if quiet else "Features")
        features = _features(run, (train, selection), kept, device, how)
        fitted = fit_context(
            recipe,
            features,
            series_of(train),
            series_of(selection),
            folder,
            device=device,
            quiet=quiet,
        )
        own, context = read_series(fitted.network, features, selection, rule, device)
        chosen = choose_blend(own, context)
        figures = _figures(fitted, chosen, own, context) | {"series_rule": rule}
        finish_context(out, run, fitted, chosen, figures)
    return open_context(open_run(out))


def predict_in_context(
    run: OpenedRun,
    slices: Slices,
    *,
    rule: str = "",
    kept: Path | None = None,
    device: torch.device | str = "cpu",
    how: Quick = EXACT,
) -> Predictions:
    """Return what a run with a sequence stage says of some whole series, blended, uncalibrated.

    Both networks have their weights rounded as a bundle keeps them.

    Parameters
    ----------
    rule : str
        As in `add_context`; the blend was chosen with the rule of the stage, which is the default.
    """
    context = open_context(run)
    features = _features(run, (slices,), kept, device, how)
    stored = as_stored(context.network)
    own, whole = read_series(stored, features, slices, rule or context.rule, device)
    said = blend(own, whole, context.blend)
    seen = torch.from_numpy(np.asarray(features.features[slices.rows], np.float64))
    areas = run.network.areas(seen)
    return said if areas is None else with_areas(said, slices, areas.numpy())


def _check_parts(run: OpenedRun, train: Slices, selection: Slices) -> None:
    if run.labels != LABELS:
        raise TrainingError(
            f"The network of {run.folder} answers for {', '.join(run.labels)} only; a sequence "
            "stage needs one that answers for all labels."
        )
    if has_context(run.folder):
        raise TrainingError(f"The run {run.folder} has a sequence stage already.")
    if not len(train) or not len(selection):
        which = "learn from" if not len(train) else "choose the blend on"
        raise TrainingError(f"There are no series to {which}; add patients or change the split.")
    if set(train.table["patient"]) & set(selection.table["patient"]):
        raise TrainingError("A patient is among those to learn from and those to choose on.")
    if (
        run.spec.size_px > train.cache.spec.size_px
        or run.recipe.like(train.cache.spec) != run.recipe
    ):
        raise TrainingError(
            "The run and the cache differ in size or in how they cut out the head; give the cache "
            "that the run was made with."
        )


def _features(
    run: OpenedRun,
    parts: tuple[Slices, ...],
    kept: Path | None,
    device: torch.device | str,
    how: Quick,
) -> Features:
    network = as_stored(run.network)
    for part in parts:
        folder = kept or part.cache.folder / KEPT
        features = features_of(network, part, run.spec, folder, device=device, how=how)
    return features


def _asked(run: OpenedRun, train: Slices, selection: Slices, rule: str) -> dict[str, Any]:
    """Return what a stage learns from, and by which it is told from another."""
    data = describe(train, selection, 1.0)
    digest = hashlib.sha256(data["digest"].encode())
    for part in (train, selection):
        digest.update(np.ascontiguousarray(part.series_labels).tobytes())
    data |= {"digest": digest.hexdigest(), "encoder": state_digest(run.network)}
    return data | {"series_rule": rule}


def _figures(
    fitted: Fitted, chosen: Blend, own: Predictions, context: Predictions
) -> dict[str, Any]:
    """Return the figures of the selection split, the slice network's beside the blended ones."""
    both = blend(own, context, chosen.spec)
    said = {"slice_network": own, "context_network": context, "blended": both}
    return {
        "watched": _plain(dataclasses.asdict(fitted.watched)),
        "selection": {name: _areas(predictions) for name, predictions in said.items()},
        "slice_areas": _by_share(chosen.slice_areas),
        "series_areas": _by_share(chosen.series_areas),
    }


def _areas(said: Predictions) -> dict[str, dict[str, float | None]]:
    levels = {
        "slices": (said.slice_logits, said.slice_truth),
        "series": (said.series_logits, said.series_truth),
    }
    return {
        level: _plain({label: auroc(z[:, k], y[:, k]) for k, label in enumerate(LABELS)})
        for level, (z, y) in levels.items()
    }


def _by_share(areas: tuple[tuple[float, ...], ...]) -> dict[str, dict[str, float | None]]:
    return {
        str(share): _plain(dict(zip(LABELS, row, strict=True)))
        for share, row in zip(SHARES, areas, strict=True)
    }


def _plain(figures: dict[Any, float]) -> dict[str, float | None]:
    return {
        str(name): None if math.isnan(value) or math.isinf(value) else round(float(value), 6)
        for name, value in figures.items()
    }
