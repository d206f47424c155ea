"""From the champion to a candidate: learn from the site's labels, calibrate, choose thresholds.

A site knows of a study whether there is haemorrhage, not on which slice. So the candidate learns
from labels of series, starting from the champion: its last layers alone, gently, unless the whole
network is asked for.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.bundle import Bundle
from ichnode.nets.manifest import CARD, Manifest
from ichnode.spool import write_durable
from train.candidate import (
    Trained,
    TrainedNetwork,
    as_stored,
    predict_with_bundle,
    starting_from,
    trained_on,
    write_candidate,
)
from train.context.weak import fit_weak, series_rule
from train.context.weak_recipe import WeakRecipe
from train.data.views import Slices
from train.errors import TrainingError
from train.judge.aims import USUAL
from train.judge.calibrating import calibrate_and_check
from train.judge.operating_point import choose
from train.learn.predicting import predict
from train.learn.recipe import Recipe
from train.learn.run_folder import open_run

NAME = "ichnode-site"
_TIMED_SERIES, _TIMED_ROUNDS = 5, 7


@dataclass(frozen=True, slots=True)
class Learning:
    """How a candidate learns; part of what is frozen."""

    full: bool = False
    epochs: int = 6
    peak_rate: float = 5e-4
    batch: int = 64
    series: int = 8
    seed: int = 7


def check_champion(manifest: Manifest) -> None:
    """Refuse a champion that no candidate can be made from.

    Raises
    ------
    TrainingError
        When it is no single network: the other one would be left behind or answer for nothing.
    """
    if {network.role for network in manifest.networks} != {"joint"}:
        raise TrainingError(
            f"The champion {manifest.name} consists of several networks; only a single one that "
            "answers for every label can be trained further. Train a bundle with "
            "`python -m train fit` instead."
        )


def learn(
    champion: Bundle,
    train: Slices,
    watch: Slices,
    run: Path,
    learning: Learning,
    device: str,
) -> dict[str, Any]:
    """Train from the champion on labels of series, or go on where that was interrupted."""
    check_champion(champion.manifest)
    weak = WeakRecipe(series=learning.series, learns="whole" if learning.full else "late")
    fit_weak(
        _recipe(champion, learning),
        weak,
        train,
        watch,
        run,
        start=cast(SliceNetwork, copy.deepcopy(champion.networks["joint"])),
        device=device,
        origin=starting_from(champion.manifest),
    )
    return dict(open_run(run).result)


def _recipe(champion: Bundle, learning: Learning) -> Recipe:
    """Return a recipe that sees what the champion sees."""
    spec = champion.manifest.preprocess
    (joint,) = [one for one in champion.manifest.networks if one.role == "joint"]
    recipe = Recipe(
        architecture=joint.architecture,
        start=f"champion {champion.manifest.model_uid}",
        size_px=spec.size_px,
        windows_hu=spec.windows_hu,
        context_slices=spec.context_slices,
        epochs=learning.epochs,
        batch=learning.batch,
        peak_rate=learning.peak_rate,
        averaging=0.98,
        reestimate_batches=0,
        seed=learning.seed,
    )
    return recipe.like(spec)


def bundle_of(
    champion: Bundle,
    run: Path,
    parts: Mapping[str, Slices],
    folder: Path,
    target_sensitivity: float,
    *,
    version: str,
) -> dict[str, Any]:
    """Calibrate what a run made, choose its thresholds, and write the candidate.

    Both are done on the calibration split alone, with the weights as they are stored.
    """
    opened = open_run(run)
    rule = cast(Literal["adjacent_mean", "max", "log_sum_exp"], series_rule(run))
    stored = as_stored(opened.network)
    said = predict(stored, parts["calibration"], opened.spec, rule=rule)
    calibrated = calibrate_and_check(said, rule)
    aims = dataclasses.replace(USUAL, target_sensitivity=target_sensitivity)
    choice = choose(said, calibrated.calibration, aims=aims)
    manifest = write_candidate(
        Trained(
            name=NAME,
            version=version,
            networks={"joint": TrainedNetwork(opened.recipe.architecture, LABELS, stored)},
            spec=opened.spec,
            calibration=calibrated.calibration,
            thresholds=choice.thresholds,
            recipe=opened.recipe.to_json(),
            data=trained_on(parts["train"]),
            initial=starting_from(champion.manifest),
        ),
        folder,
    )
    card = _CARD.format(
        name=NAME,
        version=version,
        uid=manifest.model_uid,
        data=manifest.provenance.data,
        licence=manifest.provenance.licence,
        calibrated=manifest.calibration.how,
        chosen=manifest.thresholds.how,
    )
    write_durable(folder / CARD, card.encode())
    return {"model_uid": manifest.model_uid, "choice": json.loads(json.dumps(choice.report()))}


_CARD = """# {name} {version}

**Not for clinical use without local validation.** This network was trained further on the labelled
studies of one site, from the model that ran there. What was measured on that site's locked holdout,
and which gates it passed, is in the report of the retraining and in `gates.json`.

| | |
|---|---|
| Model UID | {uid} |
| Learnt from | {data} |
| Licence | {licence} |

{calibrated}

{chosen}
"""


def timed(bundles: Mapping[str, Bundle], slices: Slices) -> dict[str, float]:
    """Return the processor time that each model takes for some series on the CPU, in seconds.

    Processor time and not the clock's, since a node has other things to do at the same time. The
    models take turns, and the quickest of several rounds counts: what disturbs only ever adds.
    """
    some = slices.where(np.isin(slices.series, np.unique(slices.series)[:_TIMED_SERIES]))
    best = dict.fromkeys(bundles, float("inf"))
    for _ in range(_TIMED_ROUNDS):
        for name, bundle in bundles.items():
            began = time.process_time()
            predict_with_bundle(bundle, some)
            best[name] = min(best[name], time.process_time() - began)
    return best
