"""The worst cases to look at: bleeds that were nearly or wholly missed, and false alarms.

One slice of each in the brain window, and beside it what the network attended to where it can say
so. Attention, not a segmentation. These are images of patients unless the data are simulated: a
page with a gallery is kept where such images may be kept.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from ichnode.domain.findings import LABELS
from ichnode.nets.architectures import SliceNetwork
from ichnode.nets.manifest import Calibration, PreprocessSpec, Thresholds
from ichnode.nets.preprocess import windows
from train.data.views import Slices
from train.judge.calibrating import series_probabilities, slice_probabilities
from train.judge.triage import bands_of
from train.predictions import Predictions

Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

WORST = 9
"""Of each kind."""
_SIDE_PX = 224
_BRAIN_HU = (0.0, 80.0)
_GLOW = np.array([230.0, 159.0, 0.0])  # orange, which everybody tells from grey
_STRONGEST = 0.65  # opacity


@dataclass(frozen=True, slots=True)
class Case:
    """One series of the gallery.

    Attributes
    ----------
    kind : {"missed", "false alarm"}
        A bleed with a low score, or none with a high one.
    band : str
        Where the node would put it; a "missed" case may still be urgent, where few are missed.
    probability : float
        Of any haemorrhage in the series.
    slice_probability : float
        In the slice that is shown.
    truth : str
        The labels that are known to be there.
    place : str
        "slice 17 of 31".
    png : bytes
        The slice.
    attention : bytes or None
        The same with the attention of the network; None where it offers none.
    """

    kind: str
    series: str
    dataset: str
    slice_key: str
    band: str
    probability: float
    slice_probability: float
    truth: str
    place: str
    png: bytes = field(repr=False)
    attention: bytes | None = field(repr=False)


def worst_cases(
    predictions: Predictions,
    calibration: Calibration,
    thresholds: Thresholds,
    slices: Slices,
    *,
    network: nn.Module | None = None,
    spec: PreprocessSpec | None = None,
    count: int = WORST,
) -> list[Case]:
    """Return the series with the highest loss of either kind, the worst first.

    Parameters
    ----------
    slices : Slices
        Where the images of `predictions` are, with the neighbours that the network looks at.
    network : Module, optional
        Of the bundle: its joint or its hemorrhage network. Any other kind of module than a
        `SliceNetwork` has no attention to show.
    spec : PreprocessSpec, optional
        The bundle's; needed for the attention.
    """
    p = series_probabilities(predictions, calibration)
    bands, truth = bands_of(p, thresholds), predictions.series_truth[:, 0]
    missed = [i for i in np.argsort(p[:, 0]) if truth[i] == 1][:count]
    alarms = [i for i in np.argsort(-p[:, 0]) if truth[i] == 0][:count]
    of_slices = np.split(
        slice_probabilities(predictions, calibration)[:, 0],
        np.cumsum([len(one.slice_logits) for one in predictions.series])[:-1],
    )
    first = _first_slices(slices)
    attending = _Attending(network, spec)
    found = []
    for kind, chosen in (("missed", missed), ("false alarm", alarms)):
        for index in chosen:
            one = predictions.series[index]
            at = _shown_slice(one.slice_truth[:, 0], of_slices[index], kind)
            png, attention = attending.pictures(slices, first[(one.dataset, one.series)] + at)
            found.append(
                Case(
                    kind=kind,
                    series=one.series,
                    dataset=one.dataset,
                    slice_key=one.slice_keys[at],
                    band=str(bands[index]),
                    probability=float(p[index, 0]),
                    slice_probability=float(of_slices[index][at]),
                    truth=_told(one.series_truth),
                    place=f"slice {at + 1} of {len(one.slice_keys)}",
                    png=png,
                    attention=attention,
                )
            )
    return found


def _first_slices(slices: Slices) -> dict[tuple[str, str], int]:
    """Return where each series starts in a view."""
    starts = np.flatnonzero(np.diff(slices.series, prepend=-1))
    rows = slices.table.iloc[starts]
    keys = zip(rows["dataset"], rows["series"], strict=True)
    return {(str(d), str(s)): int(at) for (d, s), at in zip(keys, starts, strict=True)}


def _shown_slice(truth: Floats, p: Floats, kind: str) -> int:
    """Return the slice to look at: of a missed bleed one that shows it, where that is known."""
    there = truth == 1 if kind == "missed" else np.zeros(len(truth), np.bool_)
    return int(np.where(there, p, -1.0).argmax() if there.any() else p.argmax())


def _told(truth: Floats) -> str:
    there = [label for label, value in zip(LABELS[1:], truth[1:], strict=True) if value == 1]
    if truth[0] != 1:
        return "none" if truth[0] == 0 else "unknown"
    return ", ".join(there) if there else "haemorrhage, kind unknown"


@dataclass(frozen=True, slots=True)
class _Attending:
    """Makes the pictures of a slice."""

    network: nn.Module | None
    spec: PreprocessSpec | None

    def pictures(self, slices: Slices, at: int) -> tuple[bytes, bytes | None]:
        """Return a slice of a view as PNG, plain and with the network's attention."""
        stack = slices.stacks(np.array([at], np.int64))
        grey = _in_window(stack[0, stack.shape[1] // 2].numpy())
        colour = np.repeat(grey[:, :, None], 3, axis=2)
        if (glow := self._attention(stack)) is None:
            return _png(colour), None
        opacity = _sized(glow, len(grey))[:, :, None] * _STRONGEST
        mixed = colour * (1 - opacity) + _GLOW * opacity
        return _png(colour), _png(mixed.round().astype(np.uint8))

    @torch.inference_mode()
    def _attention(self, stack: torch.Tensor) -> Floats | None:
        """Return where the network sees most of "any": 0 to 1, (y, x), coarse."""
        if not isinstance(self.network, SliceNetwork) or self.spec is None:
            return None
        shown = windows(stack.flatten(0, 1), self.spec).flatten(0, 1)[None]
        places = self.network.eval().activation_maps(shown)[0, 0].double().numpy()
        above = places - np.median(places)
        return np.asarray(np.clip(above / max(float(above.max()), 1e-9), 0, 1) ** 2)


def _in_window(hu: npt.NDArray[np.int16]) -> Bytes:
    low, high = _BRAIN_HU
    grey = np.clip((hu.astype(np.float64) - low) / (high - low), 0, 1)
    image = Image.fromarray((255 * grey).round().astype(np.uint8))
    side = max(_SIDE_PX, len(hu))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def _sized(glow: Floats, side: int) -> Floats:
    whole = functional.interpolate(
        torch.from_numpy(glow)[None, None], size=(side, side), mode="bilinear", align_corners=False
    )
    return np.asarray(whole[0, 0].numpy(), np.float64)


def _png(pixels: Bytes) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG", optimize=True)
    return target.getvalue()


def kinds_of(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Return the cases by kind, in the order of the gallery."""
    return {kind: [c for c in cases if c.kind == kind] for kind in ("missed", "false alarm")}
