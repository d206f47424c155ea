"""The model card: what a bundle is, what was measured, and what it must not be used for.

References
----------
Mitchell M et al., Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import CARD, Manifest
from ichnode.spool import write_durable
from train.candidate import SIMULATED_ONLY
from train.judge.amount_card import amounts
from train.judge.evaluation import EXTRA_AXIAL
from train.judge.page import number, percent, span_number, span_percent
from train.judge.real_card import on_real_scans

_CARD = """# {name} {version}

{warning}

| | |
|---|---|
| Model UID | {model_uid} |
| Networks | {networks} |
| Input | {size_px} px, {slices} slices in {windows} windows (HU): {hu} |
| Trained on | {data} |
| Licence | {licence} |
| Made by | ichnode {code_version}, {created} |

## What it is for

It looks at a non-contrast head CT of an adult (slices closer than {thin:g} mm are averaged to
about {slab:g} mm) and says whether there is intracranial haemorrhage, where and of which kind, so
that such studies are read first. It orders a list: every study on it is to be read, in the usual
time.

## What it must not be used for

* To diagnose, to rule haemorrhage out, or to leave a study unread.
* At a site that has not validated it on its own labelled studies (`ichnode validate`).
* On children, on scans with contrast medium, of other regions, or after surgery: none of that was
  measured here unless a subgroup below says so.
{terms}
## What was measured

{measured}

{triage}

### By label

| level | label | positives | AUROC | sensitivity | specificity | ECE |
|---|---|---|---|---|---|---|
{labels}

Intervals are 95 %, from drawing whole patients {draws} times; those marked * are exact, where fewer
than five of a kind were seen. Weighted log loss of slices: {log_loss}. What is not labelled is left
out.

### Subgroups, any haemorrhage by series

| by | group | series | positives | AUROC | sensitivity | specificity |
|---|---|---|---|---|---|---|
{subgroups}
{amounts}{real}{beside}
## Calibration

{calibrated}

Series, any: slope {slope}, intercept {intercept}.

## Thresholds

{chosen}

{cuts}

## Known limits

{limits}
"""


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What a bundle said of one real series that it was neither trained nor tuned on.

    Only looked at: one scan says nothing about rates, but a false alarm on it says a lot.
    """

    name: str  # of its folder
    slices: int
    finding: str
    series_any: float
    highest_slice_any: float
    median_slice_any: float


def model_card(
    manifest: Manifest,
    evaluation: Mapping[str, Any],
    beside: Sequence[LookedAt] = (),
    uses: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Write the card of a bundle from its manifest and what was measured of it.

    Parameters
    ----------
    evaluation : mapping
        From `evaluation.evaluate`.
    beside : sequence of LookedAt
        Real scans that were only looked at.
    uses : sequence of mapping
        The bundle's ledger of real scans that it was measured on.
    """
    spec, made = manifest.preprocess, manifest.provenance
    of_any = evaluation["labels"]["any"]["series"]
    return _CARD.format(
        name=manifest.name,
        version=manifest.version,
        warning=_warning(manifest, evaluation),
        model_uid=manifest.model_uid,
        networks=", ".join(f"{one.role} {one.architecture}" for one in manifest.networks),
        size_px=spec.size_px,
        slices=2 * spec.context_slices + 1,
        windows=len(spec.windows_hu),
        hu=", ".join(f"{low:g} to {high:g}" for low, high in spec.windows_hu),
        data=made.data,
        licence=made.licence,
        code_version=made.code_version,
        created=made.created,
        thin=spec.slab_below_mm,
        slab=spec.slab_target_mm,
        terms=_terms(manifest),
        measured=_measured(evaluation["data"], evaluation.get("split", "")),
        triage=_triage(evaluation["triage"]),
        labels="\n".join(_label_rows(evaluation)),
        draws=evaluation["draws"],
        log_loss=_number(evaluation["weighted_log_loss"]["slice"]),
        subgroups="\n".join(_group_row(row) for row in evaluation["subgroups"]),
        amounts=amounts(evaluation),
        real=on_real_scans(uses, manifest.model_uid),
        beside="".join(map(_beside, beside)),
        calibrated=manifest.calibration.how,
        slope=_number(of_any["calibration_slope"]),
        intercept=_number(of_any["calibration_intercept"]),
        chosen=manifest.thresholds.how,
        cuts=_cuts(manifest),
        limits="\n".join(f"* {one}" for one in _limits(manifest, evaluation)),
    )


def write_card(
    folder: Path,
    manifest: Manifest,
    evaluation: Mapping[str, Any],
    beside: Sequence[LookedAt] = (),
    uses: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write ``MODEL_CARD.md`` into a folder and return its path."""
    path = folder / CARD
    write_durable(path, model_card(manifest, evaluation, beside, uses).encode())
    return path


def simulated_only(manifest: Manifest) -> bool:
    """Say whether a bundle has never learned from a scan of a person."""
    return manifest.provenance.data.startswith(SIMULATED_ONLY) or (
        manifest.provenance.data == "nothing"
    )


def _warning(manifest: Manifest, evaluation: Mapping[str, Any]) -> str:
    if simulated_only(manifest):
        return (
            "**Not for clinical use.** This network was trained on simulated head CT scans only: "
            "it has never learned from a scan of a person. A site replaces it before it looks at "
            "patients."
        )
    told = "**Not for clinical use without local validation.**"
    if evaluation["data"]["kind"] != "scans":
        told += " The figures below are of simulated scans and say nothing about patients."
    return told


def _terms(manifest: Manifest) -> str:
    terms = manifest.provenance.restrictions
    return f"* Commercially: {terms}.\n" if terms else ""


_HELD_OUT = "that it was neither trained, chosen nor calibrated on"
_WHICH = {
    "": _HELD_OUT,
    "holdout": _HELD_OUT,
    "all": "that are new to it, as whoever measured says",
}


def _measured(data: Mapping[str, Any], split: str) -> str:
    sources = ", ".join(f"{name} ({count} series)" for name, count in data["datasets"].items())
    which = _WHICH.get(split, f"of its own {split} split, which flatters it")
    told = (
        f"{data['series']} series of {data['patients']} patients {which}: {sources}. "
        f"{data['series_with_haemorrhage']} have haemorrhage, {data['series_without']} have none, "
        f"of {data['series_unknown']} it is unknown."
    )
    if data["kind"] == "scans":
        return told
    return (
        f"{told} These data are {data['kind']}: the figures say that the pipeline works, and "
        "nothing about patients."
    )


def _triage(triage: Mapping[str, Any]) -> str:
    lines = []
    for name, key in (("Urgent", "urgent"), ("Urgent or review", "urgent_or_review")):
        row = triage[key]
        lines.append(
            f"* {name}: sensitivity {_rate(row['sensitivity'])}, specificity "
            f"{_rate(row['specificity'])}."
        )
    lines += [
        f"* At a prevalence of {percent(row['prevalence'])}: PPV {_rate(row['ppv'])}, NPV "
        f"{_rate(row['npv'])}, {row['alerts_per_1000']['value']:.0f} alerts per 1,000."
        for row in triage["at_prevalences"]
        if "npv" in row
    ]
    return "\n".join(lines)


def _label_rows(evaluation: Mapping[str, Any]) -> list[str]:
    rows = []
    for level in ("series", "slice"):
        for label in (*LABELS, EXTRA_AXIAL):
            row = evaluation["labels"].get(label, evaluation.get(label))[level]
            rows.append(
                f"| {level} | {label.replace('_', '-')} | {row['positives']} of {row['n']} | "
                f"{_number(row['auroc'])} | {_rate(row['sensitivity'])} | "
                f"{_rate(row['specificity'])} | {_number(row['ece'])} |"
            )
    return rows


def _group_row(row: Mapping[str, Any]) -> str:
    figures = (_number(row["auroc"]), _rate(row["sensitivity"]), _rate(row["specificity"]))
    counts = f"{row['series']} | {row['positives']}"
    return f"| {row['by']} | {row['group']} | {counts} | {' | '.join(figures)} |"


def _beside(seen: LookedAt) -> str:
    return (
        f"\nOne real scan, `{seen.name}` ({seen.slices} slices), was only looked at: "
        f"{seen.finding}, series probability {seen.series_any:.4f}, highest slice "
        f"{seen.highest_slice_any:.4f}. One scan says nothing about rates.\n"
    )


def _cuts(manifest: Manifest) -> str:
    cuts = zip(LABELS, manifest.thresholds.urgent, strict=True)
    told = ", ".join(f"{label} {cut:.4f}" for label, cut in cuts)
    return f"Urgent, or present, from {told}; review from {manifest.thresholds.review:.4f} of any."


def _limits(manifest: Manifest, evaluation: Mapping[str, Any]) -> list[str]:
    found = ["Small, faint and skull-base bleeds are missed most, as by every such network."]
    if simulated_only(manifest):
        found.append("Real anatomy, scanners, artefacts and bleeds differ from simulated ones.")
    rare = [
        label for label in LABELS[1:] if evaluation["labels"][label]["series"]["positives"] < _RARE
    ]
    if rare:
        found.append(f"Fewer than {_RARE} series show {', '.join(rare)}: those figures are loose.")
    small = sum(row["too_small"] for row in evaluation["subgroups"])
    if small:
        found.append(f"{small} subgroups were too small to judge.")
    found.append(
        "A new scanner, protocol or mix of patients may change every figure; measure again then."
    )
    return found


_RARE = 30


def _rate(one: Mapping[str, Any]) -> str:
    if one["value"] is None:
        return str(one["why"])
    of = f", {one['hits']} of {one['of']}" if "of" in one else ""
    return f"{percent(one['value'])} ({span_percent(one)}{of})"


def _number(one: Mapping[str, Any]) -> str:
    return (
        str(one["why"]) if one["value"] is None else f"{number(one['value'])} ({span_number(one)})"
    )
