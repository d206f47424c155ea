"""The paper's pair as a bundle: blood or not on every slice, then its kinds where there is some."""

from __future__ import annotations

from typing import Any

import torch

from train.errors import TrainingError
from train.exporting import export_run
from train.judge.chosen import choose_all, write_chosen
from train.learn.precision import choose_device
from train.learn.run_folder import open_run
from train.measuring import Measuring, load_bundle, measure_bundle, predict_run
from train.paper.networks import Workshop


def make_pair(shop: Workshop, hemorrhage: str, subtypes: str) -> dict[str, Any]:
    """Calibrate the pair on patients of its own, write its bundle, and measure it.

    Where there are too few patients to calibrate on there is no bundle, and the result says why.

    Parameters
    ----------
    hemorrhage, subtypes : str
        Run folders, relative to the output.
    """
    first, second = open_run(shop.out / hemorrhage), open_run(shop.out / subtypes)
    device = choose_device(shop.settings.device)
    try:
        found = predict_run(first, shop.material.to_calibrate, subtypes=second, device=device)
        write_chosen(first.folder, choose_all(found, seed=shop.settings.seed))
    except (TrainingError, ValueError) as error:
        return {"skipped": f"The pair is not calibrated: {error}"}
    manifest = export_run(
        first,
        shop.material.learnt,
        shop.out / "bundle",
        subtypes=second,
        name="ichnode-paper",
        version=str(shop.settings.seed),
    )
    return {
        "model_uid": manifest.model_uid,
        "hemorrhage": hemorrhage,
        "subtypes": subtypes,
        "bundle": "bundle",
    } | _measured(shop, device)


def _measured(shop: Workshop, device: torch.device) -> dict[str, Any]:
    """Measure the bundle on the validation patients, whole series this time."""
    how = Measuring(
        split="validation", draws=200, seed=shop.settings.seed, gallery=0, device=device
    )
    bundle = load_bundle(shop.out / "bundle")
    evaluation, page = measure_bundle(
        bundle, shop.material.whole_validation, shop.out / "evaluation", how
    )
    area = evaluation["labels"]["any"]["series"]["auroc"]
    return {
        "page": str(page.relative_to(shop.out)),
        "series": evaluation["data"]["series"],
        "series_auroc": area["value"] if isinstance(area, dict) else area,
    }
