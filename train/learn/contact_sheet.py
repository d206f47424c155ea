"""A picture of what augmentation does, to look at before a night of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from train.data.views import Slices
from train.learn.augment import PRESETS, Augmentation, disturb
from train.learn.drawing import generator
from train.learn.recipe import Augment

_SHOWN_HU = (-20.0, 120.0)
_DRAWS = 4
_ALONE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("mirrored", ("mirror",)),
    ("turned", ("turn_degrees",)),
    ("scaled", ("scale", "aspect")),
    ("shifted", ("shift",)),
    ("blurred", ("blur", "blur_px")),
    ("other kernel", ("sharpness",)),
    ("other calibration", ("gain", "offset_hu")),
    ("noise", ("noise_hu",)),
    ("cut out", ("holes",)),
    ("scanner, tissue", ("scanner",)),
)
"""What is shown by itself, and the fields of `Augmentation` that make it."""
_CHANCES = ("mirror", "blur", "sharpness")  # certain where they are shown by themselves


def draw_contact_sheet(
    path: Path, slices: Slices, name: Augment, *, rows: int = 5, seed: int = 7
) -> None:
    """Draw some slices, each disturbance by itself, and all of them together, as a PNG file.

    Slices with blood first, from as many series as there are; where its place is known it is
    outlined, so that one sees it move along. The window is -20 to 120 HU.

    Parameters
    ----------
    name : str
        The preset.
    rows : int
        How many slices are shown.
    """
    from matplotlib.figure import Figure  # slow to import

    chosen = _some(slices, rows, seed)
    hu, kinds = slices.stacks(chosen), slices.kinds(chosen)
    columns = [("as it is", hu.float(), kinds), *_one_by_one(hu, kinds, name, seed)]
    whole = PRESETS[name]
    for number in range(_DRAWS):
        chance = generator(torch.device("cpu"), seed, number)
        columns.append((f"all, draw {number + 1}", *disturb(hu, kinds, chance, whole)))
    size = (1.5 * len(columns), 1.5 * len(chosen) + 0.4)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    grid = figure.subplots(len(chosen), len(columns), squeeze=False)
    for column, (title, images, places) in enumerate(columns):
        for row, axes in enumerate(grid[:, column]):
            _show(axes, images[row], places[row])
            if row == 0:
                axes.set_title(title, fontsize=8)
    datasets = ", ".join(sorted(slices.table["dataset"].iloc[chosen].unique()))
    figure.suptitle(f"augmentation {name}, slices of: {datasets}", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _some(slices: Slices, rows: int, seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Choose slices, two in three of them with blood, as far as can be each of another series."""
    order = np.random.default_rng(seed).permutation(len(slices))
    blood = order[slices.labels[order, 0] == 1]
    rest = order[slices.labels[order, 0] != 1]
    shown = _of_other_series(slices, blood)[: -(-2 * rows // 3)]
    filled = np.concatenate([shown, _of_other_series(slices, rest), blood])
    picked: np.ndarray[Any, np.dtype[np.int64]] = filled[:rows].astype(np.int64)
    return picked


def _of_other_series(slices: Slices, order: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the first slice of each series, in that order."""
    _, first = np.unique(slices.series[order], return_index=True)
    found: np.ndarray[Any, Any] = order[np.sort(first)]
    return found


def _one_by_one(
    hu: Tensor, kinds: Tensor, name: Augment, seed: int
) -> list[tuple[str, Tensor, Tensor]]:
    whole, nothing = PRESETS[name], Augmentation()
    found: list[tuple[str, Tensor, Tensor]] = []
    for title, names in _ALONE:
        asked = {n: getattr(whole, n) for n in names}
        if asked == {n: getattr(nothing, n) for n in names}:
            continue
        certain = {n: 1.0 for n in names if n in _CHANCES}
        alone = replace(nothing, **(asked | certain))
        chance = generator(torch.device("cpu"), seed, len(found))
        found.append((title, *disturb(hu, kinds, chance, alone)))
    return found


def _show(axes: Any, images: Tensor, places: Tensor) -> None:
    low, high = _SHOWN_HU
    axes.imshow(images[len(images) // 2].numpy(), cmap="gray", vmin=low, vmax=high)
    if bool((places > 0).any()):
        axes.contour((places > 0).numpy(), levels=[0.5], colors="tab:orange", linewidths=0.5)
    axes.set_axis_off()
