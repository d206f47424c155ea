"""What a network says of the slices of a cache; the same path to logits as in serving."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional

from ichnode.domain.findings import LABELS, Label
from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.calibration import NOT_ASKED, series_logits
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import windows
from ichnode.nets.runnable import Runnable, prepare
from train.data.views import Slices
from train.learn.ahead import ahead
from train.predictions import Predictions
from train.truth import beside_truth, whole_series, with_areas

BATCH = 64
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quick:
    """How inference is run while training watches itself; the default is as exact as serving."""

    dtype: torch.dtype = torch.float32
    batch: int = BATCH
    shown: str = ""  # of a progress bar; "" for none


def predict(
    network: SliceNetwork,
    slices: Slices,
    spec: PreprocessSpec,
    *,
    labels: Sequence[Label] = LABELS,
    rule: str = "adjacent_mean",
    device: torch.device | str = "cpu",
    how: Quick = Quick(),
) -> Predictions:
    """Run a network over slices and return what it says of each series, uncalibrated.

    Parameters
    ----------
    labels : sequence of Label
        What the network's outputs are. Subtypes that it does not answer for get the logit
        `NOT_ASKED`; "any", where it answers for subtypes only, that of its strongest subtype.
    rule : str
        How a series' logit follows from its slices; see `nets.calibration.series_logits`.

    Raises
    ------
    ValueError
        When a series is there in part only.
    """
    parts = prepare({"own": network}, device, how.dtype)
    _, logits, areas = _run(parts, "own", slices, spec, how)
    said = as_predictions(slices, _in_our_order(logits, labels, NOT_ASKED), rule)
    if areas is None:
        return said
    return with_areas(said, slices, _in_our_order(areas, labels, np.nan))


def predict_pair(
    hemorrhage: SliceNetwork,
    subtypes: SliceNetwork,
    slices: Slices,
    spec: PreprocessSpec,
    *,
    rule: str = "adjacent_mean",
    device: torch.device | str = "cpu",
    how: Quick = Quick(),
) -> Predictions:
    """Run the paper's pair: the second network only where the first sees blood, as in serving."""
    parts = prepare({"hemorrhage": hemorrhage, "subtypes": subtypes}, device, how.dtype)
    logits = np.full((len(slices), len(LABELS)), NOT_ASKED)
    logits[:, :1] = _run(parts, "hemorrhage", slices, spec, how)[1]
    suspect = logits[:, 0] > 0
    if suspect.any():
        logits[suspect, 1:] = _run(parts, "subtypes", slices.where(suspect), spec, how)[1]
    return as_predictions(slices, logits, rule)


def embed(
    network: SliceNetwork,
    slices: Slices,
    spec: PreprocessSpec,
    *,
    device: torch.device | str = "cpu",
    how: Quick = Quick(),
) -> tuple[npt.NDArray[np.float16], Floats]:
    """Return the features of each slice and the network's own logits.

    Returns
    -------
    ndarray, float16, (slice, feature_width)
    ndarray, float64, (slice, output)
    """
    parts = prepare({"own": network}, device, how.dtype)
    features, logits, _ = _run(parts, "own", slices, spec, how)
    return features, logits


def as_predictions(slices: Slices, logits: Floats, rule: str) -> Predictions:
    """Put logits (slice, label) of whole series together, beside what is true."""
    return Predictions(
        tuple(
            beside_truth(slices, rows, logits[rows], series_logits(logits[rows], rule))
            for rows in whole_series(slices)
        )
    )


def images_of(hu: Tensor, spec: PreprocessSpec) -> Tensor:
    """Turn stacks of slices into the network's input, as `nets.preprocess.channels` does.

    Parameters
    ----------
    hu : Tensor, int16 or float, (n, slice, y, x)
        Hounsfield units, the slice in the middle and its neighbours, on any device.

    Returns
    -------
    Tensor, float32, (n, channel, size_px, size_px)
        Reduced where `spec` is for smaller images than these; equal to serving's input where not.
    """
    if hu.shape[-1] != spec.size_px:
        hu = reduce(hu, spec.size_px).round_()
    count, around = hu.shape[:2]
    shown = windows(hu.flatten(0, 1), spec)
    return shown.reshape(count, around * shown.shape[1], *shown.shape[2:])


def reduce(hu: Tensor, size_px: int) -> Tensor:
    """Return slices (n, slice, y, x) in HU at another size, as float32, without aliasing."""
    return functional.interpolate(
        hu.float(), size=(size_px, size_px), mode="bilinear", antialias=True, align_corners=False
    )


def _run(
    parts: Runnable, role: str, slices: Slices, spec: PreprocessSpec, how: Quick
) -> tuple[npt.NDArray[np.float16], Floats, Floats | None]:
    """Return features, logits and, of a network that draws masks, the areas of each slice."""
    if slices.around.shape[1] != 2 * spec.context_slices + 1:
        raise ValueError("the slices have not the neighbours that the network looks at")
    features, logits, areas = [], [], []
    with torch.inference_mode():
        for stacks in _batches(slices, how):
            images = images_of(stacks.to(parts.device, non_blocking=True), spec)
            found = parts.encoders[role](images)
            features.append(found.half().cpu())
            logits.append(parts.heads[role](found).double().cpu())
            if (covered := parts.areas[role](found)) is not None:
                areas.append(covered.double().cpu())
    drawn = torch.cat(areas).numpy() if areas else None
    return torch.cat(features).numpy(), torch.cat(logits).numpy(), drawn


def _batches(slices: Slices, how: Quick) -> Iterator[Tensor]:
    starts: Sequence[int] = range(0, len(slices), how.batch)
    parts = (np.arange(first, min(first + how.batch, len(slices))) for first in starts)
    read = ahead(slices.stacks, parts)
    yield from track(read, how.shown, total=len(starts)) if how.shown else read


def _in_our_order(values: Floats, labels: Sequence[Label], unknown: float) -> Floats:
    whole = np.full((len(values), len(LABELS)), unknown)
    for column, label in enumerate(labels):
        whole[:, LABELS.index(label)] = values[:, column]
    if LABELS[0] not in labels:
        whole[:, 0] = values.max(axis=1)
    return whole
