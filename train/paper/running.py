"""Everything in the paper, step by step; what is done is kept and not done again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ichnode.spool import write_durable
from train.errors import TrainingError
from train.explore.explored import of_cache
from train.explore.exploring import explore
from train.explore.page import write_page
from train.learn.options import FROM_SCRATCH
from train.learn.starting import starting_weights
from train.paper.material import Material, open_material
from train.paper.networks import (
    SUBTYPE_NETWORKS,
    Workshop,
    found_rate,
    of_subtypes,
    precision_times,
)
from train.paper.pair import make_pair
from train.paper.settings import Settings, scale_of
from train.paper.table import draw_table, markdown

Results = dict[str, dict[str, Any]]


def run_paper(data: str, out: Path, settings: Settings) -> str:
    """Run everything in the paper, or what of it is left, and return its table with ours beside it.

    Writes ``paper.md``, ``paper.json``, ``plots/``, a run folder for each network, the page of the
    exploration, and the pair as a bundle with its evaluation.

    Parameters
    ----------
    data : str
        Folder of a cache, or ``SOURCE:PATH`` of a dataset.
    out : Path
        Folder for all of it; the same command goes on there.

    Raises
    ------
    TrainingError
        When the data cannot be used, or the folder holds results of other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    scale = scale_of(settings)
    _same_settings(out, settings, data)
    material = open_material(data, out, settings, scale)
    shop = Workshop(out, material, settings, scale)
    results = _run(_Steps(out), shop)
    text = markdown(results, quick=settings.quick)
    draw_table(out / "plots" / "paper.png", results)
    write_durable(out / "paper.md", text.encode())
    write_durable(out / "paper.json", (json.dumps(results, indent=1) + "\n").encode())
    return text


class _Steps:
    """Runs named steps and keeps what they gave."""

    def __init__(self, out: Path) -> None:
        self._folder = out / "steps"
        self.results: Results = {}

    def do(self, name: str, says: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what an earlier start of the step gave, or do it."""
        path = self._folder / f"{name}.json"
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        else:
            print(f"{says} ...", flush=True)
            began = time.monotonic()
            found = work() | {"took_s": round(time.monotonic() - began, 1)}
            write_durable(path, (json.dumps(found, indent=1) + "\n").encode())
        self.results[name] = found
        return found


def _run(steps: _Steps, shop: Workshop) -> Results:
    material = shop.material
    steps.do("data", "Cleaning", lambda: _data(material))
    steps.do("metadata", "Exploring, and asking metadata alone", lambda: _explored(shop))
    rate = steps.do("finder", "Finding a learning rate", lambda: found_rate(shop))["taken"]
    start = steps.do("start", "Looking for ImageNet's weights", lambda: _start(shop))["start"]
    shop = replace(shop, rate=rate, start=start)
    _binary(steps, shop)
    for name in SUBTYPE_NETWORKS:
        steps.do(
            f"subtypes-{name}",
            f"{name} on slices with blood",
            lambda name=name: of_subtypes(shop, name),  # type: ignore[misc]
        )
    steps.do("precision", "Timing mixed precision", lambda: precision_times(shop))
    runs = [steps.results[f"subtypes-{name}"] for name in SUBTYPE_NETWORKS]
    best = max(runs, key=lambda one: float(one["accuracy"]["value"]))["run"]
    first = "resnet18" if start == "none" else "resnet18-pretrained"
    steps.do("pair", "Calibrating the pair", lambda: make_pair(shop, f"runs/{first}", best))
    return steps.results


def _binary(steps: _Steps, shop: Workshop) -> None:
    """Train ResNet-18 for blood or not: as it is, and with each of the paper's optimisations."""
    recipe = shop.recipe()
    plain = replace(recipe, **FROM_SCRATCH)
    if shop.start != "none":
        name, says = "resnet18-pretrained", "ResNet-18 from ImageNet's weights"
        steps.do(name, says, lambda: shop.make(name, recipe))
    steps.do(
        "resnet18", "ResNet-18 from random weights", lambda: shop.make("resnet18", plain, "none")
    )
    undecayed, growing = (
        replace(plain, weight_decay=0.0),
        replace(plain, first_sizes=shop.scale.first_sizes),
    )
    steps.do(
        "no-decay",
        "ResNet-18 without weight decay",
        lambda: shop.make("no-decay", undecayed, "none"),
    )
    steps.do(
        "resizing",
        "ResNet-18 with progressive resizing",
        lambda: shop.make("resizing", growing, "none"),
    )


def _data(material: Material) -> dict[str, Any]:
    """Say what was left out, what of it shows blood, and how patients are parted."""
    parts = {
        "learnt": material.learnt,
        "validation": material.validation,
        "to_calibrate": material.to_calibrate,
    }
    return {
        "datasets": sorted(material.cache.slices["dataset"].unique()),
        "simulated": material.simulated,
        "quarantined": len(material.cache.quarantine),
        "cleaning": [report.sentence() for report in material.cleaning],
        "parts": {
            name: {
                "patients": int(part.table["patient"].nunique()),
                "slices": len(part),
                "with_blood": int((part.labels[:, 0] == 1).sum()),
            }
            for name, part in parts.items()
        },
    }


def _explored(shop: Workshop) -> dict[str, Any]:
    """Write the page of the exploration and return what metadata alone can tell of a slice."""
    found = explore(
        of_cache(shop.material.cache),
        key=shop.material.split.key(),
        pictures=not shop.settings.quick,
        seed=shop.settings.seed,
    )
    page = write_page(shop.out / "exploration", found)
    of_slices = next(one for one in found.baselines if one.level == "slice")
    return of_slices.as_json() | {
        "sentence": of_slices.sentence(),
        "page": str(page.relative_to(shop.out)),
    }


def _start(shop: Workshop) -> dict[str, Any]:
    """Try once whether ImageNet's weights can be had; the other networks then do likewise."""
    if shop.settings.pretrained != "auto":
        return {"start": "none", "why": "not asked for"}
    _, network, origin = starting_weights(shop.recipe(), "auto")
    if network is None or origin is None:
        return {"start": "none", "why": "they cannot be had here"}
    return {"start": "auto", "name": origin.name, "licence": origin.licence}


def _same_settings(out: Path, settings: Settings, data: str) -> None:
    path, wanted = out / "settings.txt", f"{settings.text()} data={data}\n"
    if path.is_file() and path.read_text(encoding="utf-8") != wanted:
        raise TrainingError(f"{out} holds results of other settings or data; give another --out.")
    write_durable(path, wanted.encode())
