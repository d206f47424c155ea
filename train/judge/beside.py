"""What a finished bundle says of real scans that it was neither trained nor tuned on.

Only looked at: one scan says nothing about rates, but a false alarm on it says a lot.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ichnode.domain.errors import IchnodeError
from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import read, state
from ichnode.nets.preprocess import neighbours, standardise, windows
from ichnode.nets.runnable import LARGEST_BATCH, prepare, read_logits
from train.errors import TrainingError


@dataclass(frozen=True, slots=True)
class LookedAt:
    """What was said of one series."""

    name: str  # of its folder
    slices: int
    finding: str
    series_any: float
    highest_slice_any: float
    median_slice_any: float


def look_at(bundle: Bundle, folder: Path) -> LookedAt:
    """Return what a bundle says of the one series whose DICOM files are in a folder.

    Raises
    ------
    TrainingError
        When it is no series that the node would analyse.
    """
    files = sorted(folder.glob("*.dcm"))
    try:
        volume = read_series([(read_header(file), file) for file in files], complete=True)
    except (IchnodeError, OSError) as error:
        raise TrainingError(f"{folder.name} is no series that can be read: {error}") from error
    manifest = bundle.manifest
    stack = standardise(
        torch.from_numpy(volume.hu),
        volume.spacing_mm,
        volume.positions_mm.tolist(),
        manifest.preprocess,
    )
    shown = windows(stack.hu, manifest.preprocess)
    around = neighbours(stack.positions_mm, manifest.preprocess)
    batches = (shown[rows].flatten(1, 2) for rows in torch.split(around, LARGEST_BATCH))
    parts = prepare(bundle.networks, "cpu")
    found = read_logits(parts, batches, stack.positions_mm, manifest)
    reading = read(found.slices, manifest.calibration, found.series)
    return LookedAt(
        name=folder.name,
        slices=len(files),
        finding=state(reading.series, manifest.thresholds)[0].value,
        series_any=round(float(reading.series[0]), 4),
        highest_slice_any=round(float(reading.slices[:, 0].max()), 4),
        median_slice_any=round(float(np.median(reading.slices[:, 0])), 4),
    )
