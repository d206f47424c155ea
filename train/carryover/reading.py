"""A bundle at work on single slices and on series that lie in folders, as serving runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from ichnode.domain.errors import IchnodeError
from ichnode.domain.series import Header
from ichnode.imaging.header import read_header
from ichnode.imaging.headtest import BRAIN_AREA_MM2, find_heads
from ichnode.imaging.volume import read_series
from ichnode.nets.bundle import Bundle
from ichnode.nets.calibration import read, state
from ichnode.nets.manifest import PreprocessSpec
from ichnode.nets.preprocess import Box, head_box, neighbours, standardise, windows
from ichnode.nets.runnable import LARGEST_BATCH, prepare, read_logits
from train.carryover.folders import LeftOut, natural, printable
from train.carryover.pictures import Picturing, is_png, read_png
from train.errors import TrainingError, Unusable
from train.judge.card import LookedAt

LEAST_HEAD_MM = 170.0
"""What a slice by itself is cropped to at least: the head of its series is that large."""

Floats = npt.NDArray[np.float64]
Hu = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Stacked:
    """Slices in Hounsfield units, from the feet to the head.

    Attributes
    ----------
    hu : ndarray, int16, (z, y, x)
    spacing_mm : tuple of float
        (z, y, x).
    positions_mm : tuple of float
        (z,), ascending.
    left_out : tuple of LeftOut
        Files of the series that could not be used.
    """

    hu: Hu = field(repr=False)
    spacing_mm: tuple[float, float, float]
    positions_mm: tuple[float, ...] = field(repr=False)
    left_out: tuple[LeftOut, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What a bundle says.

    Attributes
    ----------
    series : ndarray, float64, (label,)
        Calibrated probability of the whole, be it a series or a slice alone.
    slices : ndarray, float64, (slab, label)
        Calibrated probability of each slice.
    shown : int
        The native slice that shows most of "any".
    """

    series: Floats
    slices: Floats = field(repr=False)
    finding: str
    shown: int


class Reader:
    """The networks of a bundle on a device.

    Parameters
    ----------
    bundle : Bundle
    device : torch.device
    """

    def __init__(self, bundle: Bundle, device: torch.device | str = "cpu") -> None:
        self.manifest = bundle.manifest
        self._parts = prepare(bundle.networks, device)

    def read(self, stack: Stacked, box: Box | None = None) -> Said:
        """Say what the networks see in a series; `box` as for `standardise`."""
        spec = self.manifest.preprocess
        hu = torch.from_numpy(stack.hu).to(self._parts.device)
        sized = standardise(hu, stack.spacing_mm, stack.positions_mm, spec, box)
        shown = windows(sized.hu, spec)
        around = neighbours(sized.positions_mm, spec).to(shown.device)
        batches = (shown[rows].flatten(1, 2) for rows in torch.split(around, LARGEST_BATCH))
        found = read_logits(self._parts, batches, sized.positions_mm, self.manifest)
        reading = read(found.slices, self.manifest.calibration, found.series)
        first, end = sized.slabs[int(reading.slices[:, 0].argmax())]
        return Said(
            series=reading.series,
            slices=reading.slices,
            finding=state(reading.series, self.manifest.thresholds)[0].value,
            shown=(first + end - 1) // 2,
        )

    def read_slice(self, hu: Hu, pixel_mm: tuple[float, float]) -> Said:
        """Say what the networks see in one slice (y, x), as in a series that consists of it.

        It stands in for its own neighbours, as at the ends of a series.
        """
        stack = Stacked(hu[None], (1.0, *pixel_mm), (0.0,))
        return self.read(stack, slice_box(hu, pixel_mm, self.manifest.preprocess))


def slice_box(hu: Hu, pixel_mm: tuple[float, float], spec: PreprocessSpec) -> Box:
    """Return the box of the head in one slice (y, x), not smaller than that of a whole head.

    The section near the vertex is small; in its series it is shown at the scale of the head.
    """
    box = head_box(torch.from_numpy(hu[None]), (1.0, *pixel_mm), spec)
    if spec.crop != "head":
        return box
    least_mm = LEAST_HEAD_MM * (1 + 2 * spec.crop_margin)
    height, width = (max(round(least_mm / mm), 1) for mm in pixel_mm)
    if box.height >= height and box.width >= width:
        return box
    top, left = box.top + (box.height - height) // 2, box.left + (box.width - width) // 2
    return Box(top, left, height, width)


def holds_brain(hu: Hu, pixel_mm: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """Say of each slice (z, y, x) whether 30 cm² of brain within a skull are seen in it."""
    heads = find_heads(hu, pixel_mm)
    return np.asarray(heads.is_head & (heads.brain_area_mm2 >= BRAIN_AREA_MM2))


def read_stack(files: Sequence[Path], assumed: Picturing) -> Stacked:
    """Read the files of one series: DICOM as the node does, PNG in the order of their names.

    Raises
    ------
    Unusable
        When it is no series that the node would analyse, or its pictures do not fit together.
    """
    pictures = [file for file in files if is_png(file)]
    if not pictures:
        return _from_dicom(files)
    if len(pictures) < len(files):
        raise Unusable("PNG and other files in one series")
    return _from_pictures(pictures, assumed)


def _from_dicom(files: Sequence[Path]) -> Stacked:
    headed: list[tuple[Header, Path]] = []
    left_out: list[LeftOut] = []
    for file in files:
        try:
            headed.append((read_header(file), file))
        except (IchnodeError, OSError) as error:
            left_out.append(LeftOut(printable(file.name), _reason(error)))
    if not headed:
        raise Unusable("no DICOM file that can be read")
    try:
        volume = read_series(headed, complete=True)
    except (IchnodeError, OSError) as error:
        raise Unusable(f"not analysed: {_reason(error)}") from error
    if volume.unreadable:
        left_out.append(LeftOut(f"{volume.unreadable} slices", "cannot be decoded"))
    if volume.unplaced:
        left_out.append(LeftOut(f"{volume.unplaced} slices", "have no place"))
    return Stacked(
        volume.hu, volume.spacing_mm, tuple(volume.positions_mm.tolist()), tuple(left_out)
    )


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, IchnodeError) else "The file cannot be read."


def _from_pictures(files: Sequence[Path], assumed: Picturing) -> Stacked:
    """Stack pictures; where one cannot be read, its place stays empty."""
    images: list[tuple[int, Hu]] = []
    left_out: list[LeftOut] = []
    for number, file in enumerate(sorted(files, key=natural)):
        try:
            image = read_png(file, assumed)
        except Unusable as reason:
            left_out.append(LeftOut(printable(file.name), str(reason)))
            continue
        images.append((number, image.hu))
        pixel_mm = image.pixel_mm
    if not images:
        raise Unusable("no picture that can be read")
    if len({hu.shape for _, hu in images}) > 1:
        raise Unusable("pictures of different sizes")
    return Stacked(
        hu=np.stack([hu for _, hu in images]),
        spacing_mm=(assumed.step_mm, *pixel_mm),
        positions_mm=tuple(number * assumed.step_mm for number, _ in images),
        left_out=tuple(left_out),
    )


def look_at(bundle: Bundle, folder: Path) -> LookedAt:
    """Return what a bundle says of the one series whose DICOM files are in a folder, for its card.

    Raises
    ------
    TrainingError
        When it is no series that the node would analyse.
    """
    try:
        stack = _from_dicom(sorted(folder.glob("*.dcm")))
    except Unusable as error:
        raise TrainingError(f"{folder.name} is no series that can be read: {error}") from error
    said = Reader(bundle).read(stack)
    return LookedAt(
        name=folder.name,
        slices=len(stack.hu),
        finding=said.finding,
        series_any=round(float(said.series[0]), 4),
        highest_slice_any=round(float(said.slices[:, 0].max()), 4),
        median_slice_any=round(float(np.median(said.slices[:, 0])), 4),
    )
