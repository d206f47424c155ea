"""A made-up site: the export of a node whose studies are simulated heads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.phantom import simulate_head
from ichnode.phantom.identity import MANUFACTURER

SPACING_MM = (8.0, 3.75, 3.75)
SLICES, SIZE_PX = 16, 64


def write_site(folder: Path, seeds: Sequence[int]) -> Path:
    """Write an export with one consecutive, labelled study per seed."""
    (folder / "series").mkdir(parents=True)
    with ProcessPoolExecutor(2) as pool:
        studies = list(pool.map(_write_one, [folder] * len(seeds), seeds, chunksize=8))
    return write_list(folder, studies)


def write_list(folder: Path, studies: Sequence[Mapping[str, Any]]) -> Path:
    """Write the list of an export whose series are there."""
    folder.mkdir(exist_ok=True)
    about = {
        "format": 1,
        "kind": "ichnode export",
        "created": "2026-11-26",
        "models": {},
        "window": {"from": "2026-W01", "to": "2026-W40"},
    }
    (folder / "export.json").write_text(json.dumps(about))
    lines = [json.dumps(study) for study in studies]
    (folder / "studies.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def read_list(folder: Path) -> list[dict[str, Any]]:
    """Read the list of an export back."""
    return [json.loads(line) for line in (folder / "studies.jsonl").read_text().splitlines()]


def _write_one(folder: Path, seed: int) -> dict[str, Any]:
    head = simulate_head(seed, size_px=SIZE_PX, slices=SLICES, spacing_mm=SPACING_MM)
    key = f"k{seed:06d}"
    np.savez(
        folder / "series" / f"{key}.npz",
        hu=head.hu,
        spacing_mm=np.asarray(head.spacing_mm),
        positions_mm=np.arange(len(head.hu)) * head.spacing_mm[0],
    )
    return {
        "study": f"s{seed:06d}",
        "patient": f"p{seed:06d}",
        "arrived_week": f"2026-W{1 + seed % 40:02d}",
        "labels": {name: int(head.labels[:, index].any()) for index, name in enumerate(LABELS)},
        "label_source": "adjudicated",
        "confirmed": True,
        "flagged": bool(head.labels[:, 0].any()),
        "band": "routine",
        "reason": "",
        "series": {
            "key": key,
            "file": f"series/{key}.npz",
            "slices": len(head.hu),
            "facts": {"manufacturer": MANUFACTURER, "thickness_mm": SPACING_MM[0]},
        },
        "champion": None,
    }
