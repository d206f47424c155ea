"""One page that says how good a model is: no other file, no network, nothing to install."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from ichnode import __version__
from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import Calibration, Manifest, Thresholds, VolumeSpec
from ichnode.spool import write_durable
from train.data.splits import SPLITS
from train.judge.aims import LOCAL, NOT_LOCAL
from train.judge.amount_plots import amount_pictures
from train.judge.band_plots import bands_picture, subgroup_picture
from train.judge.calibrating import series_probabilities, slice_probabilities
from train.judge.drawing import Picture
from train.judge.evaluation import EXTRA_AXIAL
from train.judge.gallery import Case, kinds_of
from train.judge.plots import (
    Seen,
    precision_picture,
    reliability_picture,
    roc_picture,
    score_picture,
)
from train.predictions import Predictions

PAGE, METRICS, PLOTS = "evaluation.html", "metrics.json", "plots"
Figure = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What the page says of the model beside its figures.

    Attributes
    ----------
    facts : sequence of (str, str)
        Further lines, such as ("Licence", "Apache-2.0").
    restrictions : str
        Why it may not be used for everything; "" where it may.
    split : str
        Which part of the data was measured.
    measured : str
        The date.
    """

    name: str
    version: str = ""
    facts: Sequence[tuple[str, str]] = ()
    restrictions: str = ""
    split: str = ""
    measured: str = ""
    code_version: str = field(default=__version__)


def about_bundle(manifest: Manifest, *, split: str = "", measured: str = "") -> About:
    """Return what a bundle says of itself."""
    spec, made = manifest.preprocess, manifest.provenance
    windows = ", ".join(f"{low:g} to {high:g}" for low, high in spec.windows_hu)
    networks = ", ".join(f"{one.role} {one.architecture}" for one in manifest.networks)
    return About(
        name=manifest.name,
        version=manifest.version,
        restrictions=made.restrictions or "",
        split=split,
        measured=measured,
        facts=(
            ("Model UID", manifest.model_uid),
            ("Networks", networks),
            (
                "Input",
                f"{spec.size_px} px, {2 * spec.context_slices + 1} slices, windows of {windows} HU",
            ),
            ("Trained on", made.data),
            ("Licence", made.licence),
            *((("Restrictions", made.restrictions),) if made.restrictions else ()),
            ("Made", f"{made.created}, ichnode {made.code_version}"),
        ),
    )


def write_page(
    folder: Path,
    evaluation: dict[str, Any],
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Thresholds,
    *,
    about: About,
    volume: VolumeSpec | None = None,
    cases: Sequence[Case] = (),
) -> Path:
    """Write ``evaluation.html``, ``metrics.json`` and the plots; return the page.

    Parameters
    ----------
    folder : Path
        Created where it is missing.
    evaluation : dict
        From `evaluation.evaluate`, of the same predictions, calibration, thresholds and volume.
    cases : sequence of Case
        The gallery; none where images may not be kept.
    """
    pictures = draw_all(evaluation, predictions, calibration, thresholds, volume)
    plots = folder / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    for picture in pictures.values():
        (plots / f"{picture.name}.svg").write_bytes(picture.svg)
    text = json.dumps(evaluation, indent=1, allow_nan=False) + "\n"
    write_durable(folder / METRICS, text.encode())
    page = folder / PAGE
    write_durable(page, render(evaluation, pictures, about, cases).encode())
    return page


def draw_all(
    evaluation: dict[str, Any],
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Thresholds,
    volume: VolumeSpec | None = None,
) -> dict[str, Picture]:
    """Return every picture of the page by name; those of amounts where these are known."""
    series = Seen(
        "series", series_probabilities(predictions, calibration), predictions.series_truth
    )
    slices = Seen("slice", slice_probabilities(predictions, calibration), predictions.slice_truth)
    levels = (series, slices)
    pictures = (
        bands_picture(evaluation),
        score_picture(series, thresholds),
        roc_picture(levels, evaluation),
        precision_picture(levels, evaluation),
        reliability_picture(levels, evaluation),
        subgroup_picture(evaluation),
        *amount_pictures(evaluation, predictions, volume),
    )
    return {picture.name: picture for picture in pictures}


def render(
    evaluation: dict[str, Any],
    pictures: Mapping[str, Picture],
    about: About,
    cases: Sequence[Case] = (),
) -> str:
    """Return the page as text."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(_FILTERS)
    source = resources.files("train.judge").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source).render(
        about=about,
        badges=badges(evaluation, about),
        summary=summary(evaluation),
        tiles=tiles(evaluation),
        triage=evaluation["triage"],
        evaluation=evaluation,
        pictures=pictures,
        label_rows=label_rows(evaluation),
        cases=kinds_of(cases) if cases else None,
        attention=any(case.attention for case in cases),
        simulated=evaluation["data"]["kind"] == "simulated",
    )


def label_rows(evaluation: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return level, label and figures of each row of the tables."""
    return [
        (level, label, evaluation["labels"].get(label, evaluation.get(label))[level])
        for level in ("series", "slice")
        for label in (*LABELS, EXTRA_AXIAL)
    ]


def badges(evaluation: dict[str, Any], about: About) -> list[dict[str, str]]:
    """Return what nobody may overlook."""
    kind = evaluation["data"]["kind"]
    found = [{"tone": "bad", "text": "Not for clinical use without local validation"}]
    if kind != "scans":
        found.insert(0, {"tone": "bad", "text": f"{kind.capitalize()} data"})
    if about.restrictions:
        found.append({"tone": "warn", "text": about.restrictions.partition(":")[0].capitalize()})
    if LOCAL not in evaluation["thresholds"]["how"]:
        found.append({"tone": "warn", "text": NOT_LOCAL.capitalize()})
    if about.split in SPLITS[:-1]:
        found.append({"tone": "bad", "text": "Not held out: the model was made with these series"})
    if about.split:
        found.append({"tone": "plain", "text": f"Split: {about.split}"})
    return found


def summary(evaluation: dict[str, Any]) -> str:
    """Say in two sentences what was measured and what came out."""
    data, urgent = evaluation["data"], evaluation["triage"]["urgent"]
    scans = "simulated head CT" if data["kind"] == "simulated" else "head CT"
    what = (
        f"Measured on {data['series']} series of {scans} from {data['patients']} patients; "
        f"{data['series_with_haemorrhage']} have haemorrhage."
    )
    found, clear = urgent["sensitivity"], urgent["specificity"]
    if found["value"] is None or clear["value"] is None:
        return what
    return (
        f"{what} The model calls {found['hits']} of {found['of']} of those urgent "
        f"({percent(found['value'])}, 95 % interval {span_percent(found)}), and "
        f"{clear['of'] - clear['hits']} of {clear['of']} of the others."
    )


def tiles(evaluation: dict[str, Any]) -> list[dict[str, str]]:
    """Return the figures that are read first."""
    urgent, both = (evaluation["triage"][key] for key in ("urgent", "urgent_or_review"))
    of_any = evaluation["labels"]["any"]
    return [
        _tile("Sensitivity, urgent", urgent["sensitivity"], percent, span_percent),
        _tile("Specificity, urgent", urgent["specificity"], percent, span_percent),
        _tile("Found, urgent or review", both["sensitivity"], percent, span_percent),
        _tile("AUROC of any, series", of_any["series"]["auroc"], number, span_number),
        _tile("AUROC of any, slices", of_any["slice"]["auroc"], number, span_number),
        _tile("Calibration error, series", of_any["series"]["ece"], number, span_number),
    ]


def _tile(what: str, one: Figure, value: Any, span: Any) -> dict[str, str]:
    if one["value"] is None:
        return {"what": what, "value": "–", "of": one["why"]}
    of = f"95 % interval {span(one)}"
    if "of" in one:
        of += f", {one['hits']} of {one['of']}"
    return {"what": what, "value": value(one["value"]), "of": of}


def percent(value: float) -> str:
    """Return a fraction as per cent with one decimal."""
    return f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Return a number with three decimals."""
    return "unknown" if value is None else f"{value:.3f}"


def _one(value: float) -> str:
    return f"{value:.1f}"


def _span(one: Figure, shown: Any) -> str:
    if one["low"] is None:
        return "no interval"
    return f"{shown(one['low'])} to {shown(one['high'])}"


def _mark(one: Figure) -> str:
    return "*" if one.get("method") == "exact" else ""


def span_percent(one: Figure) -> str:
    """Return the interval of a fraction; an exact one is marked."""
    unit = " %" if one["low"] is not None else ""
    return _span(one, lambda value: f"{100 * value:.1f}") + unit + _mark(one)


def span_number(one: Figure) -> str:
    """Return the interval of a number; an exact one is marked."""
    return _span(one, number) + _mark(one)


_FILTERS = {
    "pct": percent,
    "num": number,
    "one": _one,
    "ml": lambda one: "unknown" if one["value"] is None else f"{one['value']:.2f} ml",
    "span_ml": lambda one: _span(one, lambda value: f"{value:.2f}"),
    "span_pct": span_percent,
    "span_num": span_number,
    "span_one": lambda one: _span(one, _one) + _mark(one),
    "pct_or_unknown": lambda value: "unknown" if value is None else percent(value),
    "base64": lambda raw: base64.b64encode(raw).decode("ascii"),
    "sentences": lambda text: re.split(r"(?<=\.) (?=[A-Z])", text),
    "words": lambda label: label.replace("_", "-"),
}
