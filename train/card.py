"""The model card: what a bundle is, what was measured, what it must not be used for."""

from __future__ import annotations

from typing import Any

from ichnode.nets.manifest import Manifest
from train.recipe import Recipe

_CARD = """# {name} {version}

**Not for clinical use.** This network was trained on simulated head CT scans only: it has never
learned from a scan of a person. It is small, and it ships with ichnode so that the node can be
tried, tested and demonstrated from end to end. A site replaces it before it looks at patients.

| | |
|---|---|
| Model UID | {model_uid} |
| Network | {architecture}, {size_px} px, {slices} slices in {windows} windows (HU): {hu} |
| Trained on | {data} |
| Licence | {licence} |
| Made by | ichnode {code_version}, {created} |

## What it is for

Trying the node out. It looks at a non-contrast head CT of thick slices (thinner ones are averaged
to about {slab:g} mm) and says whether, where and of which kind there is intracranial haemorrhage.

## What it was measured on

{heads} simulated heads ({with_blood} with blood, {slice_count} slices) whose seeds it was neither
trained nor tuned on. They come from the same simulator as the training heads, so the figures say
that the pipeline works, and nothing about patients.

| label | slice AUROC (95 % interval) | slices | series AUROC | series |
|---|---|---|---|---|
{rows}

Called urgent: {tp} of {with_blood} heads with blood, {fp} of {without} without. Called review:
{review_with} and {review_without}. Lowest series probability with blood {lowest}, highest without
{highest}.
{beside}
## How it was calibrated

{calibrated}

{chosen}

## Known limits

* No real scan was learned from; real anatomy, scanners, artefacts and bleeds differ.
* Small, faint and skull-base bleeds are missed most, in simulation already.
* Children, contrast medium, sharp kernels and post-operative heads are out of its scope.
* Probabilities follow the simulator's prevalence (about half the heads), not a hospital's.
"""


def model_card(manifest: Manifest, recipe: Recipe, metrics: dict[str, Any]) -> str:
    """Write the card of a bundle from its manifest and what was measured."""
    spec, found = manifest.preprocess, metrics["findings"]
    return _CARD.format(
        name=manifest.name,
        version=manifest.version,
        model_uid=manifest.model_uid,
        architecture=recipe.architecture,
        size_px=spec.size_px,
        slices=2 * spec.context_slices + 1,
        windows=len(spec.windows_hu),
        hu=", ".join(f"{low:g} to {high:g}" for low, high in spec.windows_hu),
        data=manifest.provenance.data,
        licence=manifest.provenance.licence,
        code_version=manifest.provenance.code_version,
        created=manifest.provenance.created,
        slab=spec.slab_target_mm,
        heads=metrics["heads"],
        with_blood=metrics["heads_with_blood"],
        without=metrics["heads"] - metrics["heads_with_blood"],
        slice_count=metrics["slices"],
        rows="\n".join(_row(label, row) for label, row in metrics["labels"].items()),
        tp=found["with blood"]["positive"],
        fp=found["without"]["positive"],
        review_with=found["with blood"]["review"],
        review_without=found["without"]["review"],
        lowest=metrics["lowest_with_blood"],
        highest=metrics["highest_without"],
        calibrated=manifest.calibration.how,
        chosen=manifest.thresholds.how,
        beside="".join(map(_beside, metrics["beside"])),
    )


def _beside(seen: dict[str, Any]) -> str:
    return (
        f"\nOne real scan, `{seen['name']}` ({seen['slices']} slices, no blood seen), was only "
        f"looked at: {seen['finding']}, series probability {seen['series_any']}, highest slice "
        f"{seen['highest_slice_any']}. One scan says nothing about the rate of false alarms.\n"
    )


def _row(label: str, row: dict[str, Any]) -> str:
    low, high = row["slice_auroc_interval"]
    return (
        f"| {label} | {row['slice_auroc']} ({low} to {high}) | {row['slices']} "
        f"| {row['series_auroc']} | {row['series']} |"
    )
