"""From a run or a bundle, and a cache, to what was chosen or what was measured.

`train.judge` judges predictions and knows no networks; here they are run.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ichnode.domain.errors import ModelUnusable
from ichnode.domain.findings import LABELS
from ichnode.nets.bundle import Bundle, write_bundle
from ichnode.nets.manifest import Manifest
from ichnode.spool import write_durable
from train.candidate import as_stored, predict_with_bundle
from train.context.joining import has_context
from train.context.stage import predict_in_context
from train.data.cache import Cache
from train.data.splits import SHARES, SPLITS, split_slices
from train.data.views import Slices, all_slices
from train.errors import TrainingError
from train.judge.bootstrap import DRAWS
from train.judge.calibrating import Rule, series_probabilities
from train.judge.card import LookedAt, write_card
from train.judge.chosen import Chosen
from train.judge.evaluation import evaluate
from train.judge.gallery import WORST, Case, worst_cases
from train.judge.page import about_bundle, write_page
from train.judge.triage import bands_of
from train.learn.predicting import Quick, predict, predict_pair
from train.learn.run_folder import OpenedRun
from train.predictions import Predictions, write_predictions
from train.truth import whole_series

WHOLE = "all"
"""In place of a split: every series of the cache, for data that nothing was learnt from."""
SERIES, PREDICTIONS = "series.csv", "predictions.jsonl"
_ALL_SLICES = Quick(shown="Reading slices")


@dataclasses.dataclass(frozen=True, slots=True)
class Measuring:
    """How a bundle is measured.

    Attributes
    ----------
    split : str
        What `slices` are, for people: "holdout", or "all".
    gallery : int
        Worst cases of each kind to show; 0 for none, where images may not be kept.
    beside : sequence of LookedAt
        Real scans that were only looked at, for the card.
    uses : sequence of mapping
        The bundle's ledger of real scans that it was measured on, for the card.
    """

    split: str
    draws: int = DRAWS
    seed: int = 1
    gallery: int = WORST
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    beside: Sequence[LookedAt] = ()
    uses: Sequence[Mapping[str, Any]] = ()


def part_of(
    cache: Cache,
    context_slices: int,
    split: str,
    key: bytes | None,
    shares: tuple[float, ...] = SHARES,
) -> Slices:
    """Return the slices of one split of a cache, or all of them.

    Raises
    ------
    TrainingError
        When there is no such split, no key to tell it by, or nothing in it.
    """
    slices = all_slices(cache, context_slices)
    if split == WHOLE:
        return slices
    if split not in SPLITS:
        raise TrainingError(f"A split is one of {', '.join(SPLITS)}, or {WHOLE}.")
    if key is None:
        raise TrainingError(
            f"Which patients are {split} is told by a key: give --run or --key, or --split {WHOLE} "
            "for data that nothing was learnt from."
        )
    part = split_slices(slices, key, shares)[split]
    if not len(part):
        raise TrainingError(
            f"There is no patient in the split {split}; add more patients to the cache."
        )
    return part


def predict_run(
    run: OpenedRun,
    slices: Slices,
    *,
    subtypes: OpenedRun | None = None,
    rule: Rule = "adjacent_mean",
    device: torch.device | str = "cpu",
) -> Predictions:
    """Return what a run's networks say, their weights rounded as a bundle will keep them.

    Parameters
    ----------
    subtypes : OpenedRun, optional
        The second network of the paper's pair; `run` is then the first.
    """
    if subtypes is None and has_context(run.folder):
        return predict_in_context(run, slices, rule=rule, device=device, how=_ALL_SLICES)
    network = as_stored(run.network)
    if subtypes is None:
        return predict(
            network,
            slices,
            run.spec,
            labels=run.labels,
            rule=rule,
            device=device,
            how=_ALL_SLICES,
        )
    if subtypes.spec != run.spec:
        raise TrainingError("Both networks of a pair must be fed the same images.")
    return predict_pair(
        network,
        as_stored(subtypes.network),
        slices,
        run.spec,
        rule=rule,
        device=device,
        how=_ALL_SLICES,
    )


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle.

    Raises
    ------
    TrainingError
        When it is missing or damaged.
    """
    try:
        return Bundle.load(folder)
    except ModelUnusable as error:
        raise TrainingError(str(error)) from error


def predict_bundle(bundle: Bundle, slices: Slices, device: torch.device) -> Predictions:
    """Return what a bundle says of some series, with a bar that says how long it takes."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        shown = bar.add_task("Reading series", total=len(whole_series(slices)))
        return predict_with_bundle(bundle, slices, device, advance=lambda: bar.advance(shown))


def recalibrated(
    bundle: Bundle, chosen: Chosen, folder: Path, *, volume_shown: bool | None = None
) -> Manifest:
    """Write the same networks with another calibration and other thresholds: another model.

    Where no voxel truth let choose how volumes are made, what the bundle says of it stays, but for
    its being shown.
    """
    volume = chosen.volume or bundle.manifest.volume
    if volume is not None and volume_shown is False:
        volume = dataclasses.replace(volume, shown=())
    manifest = dataclasses.replace(
        bundle.manifest,
        calibration=chosen.calibration,
        thresholds=chosen.thresholds,
        volume=volume,
    )
    states = {role: network.state_dict() for role, network in bundle.networks.items()}
    return write_bundle(folder, manifest, states)


def measure_bundle(
    bundle: Bundle, slices: Slices, folder: Path, how: Measuring
) -> tuple[dict[str, Any], Path]:
    """Measure a bundle and write page, figures, card and tables; return figures and page.

    Parameters
    ----------
    folder : Path
        Created where it is missing.
    """
    manifest = bundle.manifest
    found = predict_bundle(bundle, slices, how.device)
    evaluation = evaluate(
        found,
        manifest.calibration,
        manifest.thresholds,
        volume=manifest.volume,
        seed=how.seed,
        draws=how.draws,
    )
    evaluation |= {"model_uid": manifest.model_uid, "split": how.split}
    folder.mkdir(parents=True, exist_ok=True)
    page = write_page(
        folder,
        evaluation,
        found,
        manifest.calibration,
        manifest.thresholds,
        volume=manifest.volume,
        about=about_bundle(manifest, split=how.split, measured=_today()),
        cases=_gallery(bundle, found, slices, how.gallery),
    )
    write_card(folder, manifest, evaluation, how.beside, how.uses)
    write_predictions(folder / PREDICTIONS, found)
    write_durable(folder / SERIES, series_table(found, manifest).encode())
    return evaluation, page


def _gallery(bundle: Bundle, found: Predictions, slices: Slices, count: int) -> list[Case]:
    if not count:
        return []
    networks = bundle.networks
    return worst_cases(
        found,
        bundle.manifest.calibration,
        bundle.manifest.thresholds,
        slices,
        network=networks.get("joint", networks.get("hemorrhage")),
        spec=bundle.manifest.preprocess,
        count=count,
    )


def series_table(predictions: Predictions, manifest: Manifest) -> str:
    """Return one line a series as CSV: band, calibrated probabilities, truth, ml of any blood."""
    p = series_probabilities(predictions, manifest.calibration)
    bands = bands_of(p, manifest.thresholds)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    said = [f"p_{label}" for label in LABELS]
    table.writerow(
        ["dataset", "patient", "study", "series", "band", *said, *LABELS, "said_ml", "true_ml"]
    )
    for one, row, band in zip(predictions.series, p, bands, strict=True):
        truth = ["" if value != value else int(value) for value in one.series_truth]
        keys = (one.dataset, one.patient, one.study, one.series, str(band))
        scale = float("nan") if manifest.volume is None else manifest.volume.scale[0]
        volumes = (one.raw_ml[0] * scale, one.true_ml[0])
        told = ["" if ml != ml else f"{ml:.3f}" for ml in volumes]
        table.writerow([*keys, *(f"{value:.5f}" for value in row), *truth, *told])
    return text.getvalue()


def _today() -> str:
    return datetime.datetime.now(datetime.UTC).date().isoformat()
