"""A made-up site: the export of a node whose studies are noise, with bright spots for blood.

The spots are of many sizes and contrasts, so that some are easy and some are hardly there: models
of different quality can be told apart. Which kind of haemorrhage it is, nobody says.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec

SIDE_PX, SLICES, STEP_MM = 32, 6, 5.0
PIXEL_MM = 240 / SIDE_PX  # the middle of the image that is taken is 240 mm wide
SPEC = PreprocessSpec(
    size_px=SIDE_PX, windows_hu=((0.0, 80.0),), context_slices=1, crop="middle", slab_below_mm=0.0
)


def write_site(folder: Path, numbers: Sequence[int]) -> Path:
    """Write an export with one consecutive, labelled study per number."""
    (folder / "series").mkdir(parents=True)
    return write_list(folder, [write_study(folder, number) for number in numbers])


def write_study(folder: Path, number: int) -> dict[str, Any]:
    """Write the pixels of one study and return its line; every third one has blood."""
    rng = np.random.default_rng((4, number))
    hu = rng.normal(32, 7, (SLICES, SIDE_PX, SIDE_PX))
    blood = number % 3 == 0
    if blood:
        side, depth = rng.integers(3, 8), rng.integers(1, 4)
        first, row, column = rng.integers([1, 3, 3], [3, SIDE_PX - 11, SIDE_PX - 11])
        place = np.s_[first : first + depth, row : row + side, column : column + side]
        hu[place] += rng.uniform(10, 40)
    key = f"k{number:06d}"
    np.savez(
        folder / "series" / f"{key}.npz",
        hu=np.rint(hu).astype(np.int16),
        spacing_mm=np.asarray([STEP_MM, PIXEL_MM, PIXEL_MM]),
        positions_mm=STEP_MM * np.arange(SLICES, dtype=np.float64),
    )
    return {
        "study": f"s{number:06d}",
        "patient": f"p{number:06d}",
        "arrived_week": f"2026-W{1 + number % 40:02d}",
        "labels": {"any": 1} if blood else dict.fromkeys(LABELS, 0),
        "label_source": "adjudicated",
        "confirmed": True,
        "flagged": blood,
        "band": "urgent" if blood else "routine",
        "reason": "",
        "series": {
            "key": key,
            "file": f"series/{key}.npz",
            "slices": SLICES,
            "facts": {"manufacturer": "made up", "thickness_mm": STEP_MM},
        },
        "champion": None,
    }


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
