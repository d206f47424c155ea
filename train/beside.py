"""What a finished bundle says of real scans that it was neither trained nor tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ichnode.imaging.header import read_header
from ichnode.imaging.volume import read_series
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import read, state
from ichnode.nets.preprocess import preprocess


def look_at(bundle: Bundle, folder: Path) -> dict[str, Any]:
    """Return finding and probabilities of the one series whose DICOM files are in a folder.

    Raises
    ------
    NotAnalysable
        When it is no series that the node would analyse.
    """
    files = sorted(folder.glob("*.dcm"))
    volume = read_series([(read_header(file), file) for file in files], complete=True)
    manifest = bundle.manifest
    images = preprocess(
        torch.from_numpy(volume.hu),
        volume.spacing_mm,
        volume.positions_mm.tolist(),
        manifest.preprocess,
    )
    with torch.inference_mode():
        logits = bundle.networks["joint"](images).double().numpy()
    reading = read(logits, manifest.calibration)
    return {
        "name": folder.name,
        "slices": len(files),
        "finding": state(reading.series, manifest.thresholds)[0].value,
        "series_any": round(float(reading.series[0]), 4),
        "highest_slice_any": round(float(reading.slices[:, 0].max()), 4),
        "median_slice_any": round(float(np.median(reading.slices[:, 0])), 4),
    }
