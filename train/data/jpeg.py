"""The paper's ``.jpg`` files, for tools that want such: three windows as the colours of a picture.

An export and nothing that our training reads: eight bits and lossy compression lose what a cache
keeps (whole Hounsfield units).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import track

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import windows
from train.data.views import Slices
from train.data.window import WINDOWS
from train.errors import TrainingError

COLOURS = ("brain", "subdural", "soft tissue")
QUALITY = 95
LABELS_FILE = "labels.csv"
_KEYS = ("dataset", "patient", "study", "series", "slab", "slice_key", "brain_fraction")
_PER_FOLDER = 1000


def export_jpegs(slices: Slices, folder: Path, *, colours: Sequence[str] = COLOURS) -> Path:
    """Write each slice as a picture, and the labels of all of them as a CSV.

    Parameters
    ----------
    slices : Slices
    folder : Path
        Created where missing. Pictures are numbered by their row in the cache.
    colours : sequence of 3 str
        The windows (of `train.data.window.WINDOWS`) that become red, green and blue.

    Returns
    -------
    Path
        ``labels.csv``: ``file``, keys, the six labels (blank where not known), and ``kinds``, the
        kinds that are there, parted by semicolons as in the paper.

    Raises
    ------
    TrainingError
        When a window is not known.
    """
    if len(colours) != 3 or (set(colours) - set(WINDOWS)):
        raise TrainingError(f"A picture has three windows, each one of {', '.join(WINDOWS)}.")
    spec = PreprocessSpec(
        size_px=slices.cache.spec.size_px,
        windows_hu=tuple(WINDOWS[name] for name in colours),
        context_slices=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LABELS_FILE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("file", *_KEYS, *LABELS, "kinds"))
        for index in track(range(len(slices)), "Writing pictures", console=Console(stderr=True)):
            name = _picture(slices, index, folder, spec)
            keys = [slices.table[key].iat[index] for key in _KEYS]
            table.writerow((name, *keys, *_cells(slices.labels[index])))
    return folder / LABELS_FILE


def _picture(slices: Slices, index: int, folder: Path, spec: PreprocessSpec) -> str:
    row = int(slices.rows[index])
    name = f"{row // _PER_FOLDER:04d}/{row:07d}.jpg"
    hu = torch.from_numpy(np.array(slices.cache.hu[row]))[None]
    shown = (windows(hu, spec)[0] * 255).round().to(torch.uint8).permute(1, 2, 0)
    (folder / name).parent.mkdir(exist_ok=True)
    Image.fromarray(shown.numpy()).save(folder / name, quality=QUALITY, subsampling=0)
    return name


def _cells(labels: np.ndarray[tuple[int], np.dtype[np.float32]]) -> list[str]:
    there = [label for label, value in zip(LABELS[1:], labels[1:], strict=True) if value == 1]
    return ["" if np.isnan(value) else str(int(value)) for value in labels] + [";".join(there)]
