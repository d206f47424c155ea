"""A contact sheet of a source: a row of slices for each series, blood outlined where known."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

from ichnode.domain.findings import LABELS
from train.data.records import Source, SourceSeries, series_truth
from train.errors import TrainingError, Unusable

TILE_PX, MARGIN_PX = 192, 14
OUTLINE = (255, 80, 60)
Bytes = npt.NDArray[np.uint8]


def draw_sheet(
    path: Path,
    source: Source,
    *,
    series: int = 12,
    columns: int = 7,
    window_hu: tuple[float, float] = (0.0, 80.0),
) -> int:
    """Write the first series of a source as one PNG file and return how many are on it.

    A row's slices lie evenly over the scan; where voxel truth shows blood, every second of them is
    one with blood, the same slice outlined in the next column.

    Raises
    ------
    TrainingError
        When no series can be read, or the file cannot be written.
    """
    rows = list(itertools.islice(_rows(source, columns, window_hu), series))
    if not rows:
        raise TrainingError("No series of this source can be read.")
    try:
        Image.fromarray(np.vstack(rows)).save(path)
    except (OSError, ValueError) as error:
        raise TrainingError(f"{path} cannot be written as a picture.") from error
    return len(rows)


def _rows(source: Source, columns: int, window_hu: tuple[float, float]) -> Iterator[Bytes]:
    for job in source.jobs():
        try:
            yield _row(source.read(job), columns, window_hu)
        except Unusable:
            continue


def _row(series: SourceSeries, columns: int, window_hu: tuple[float, float]) -> Bytes:
    kinds = np.zeros(series.hu.shape, np.uint8) if series.kinds is None else series.kinds
    bled = np.flatnonzero(kinds.any(axis=(1, 2)))
    if len(bled):
        tiles = [
            _tile(series.hu[place], window_hu, marked)
            for place in _evenly(bled, columns // 2)
            for marked in (None, kinds[place] > 0)
        ]
    else:
        every = np.arange(len(series.hu))
        tiles = [_tile(series.hu[place], window_hu, None) for place in _evenly(every, columns)]
    blank = np.zeros((TILE_PX, TILE_PX, 3), np.uint8)
    row = np.hstack((tiles + [blank] * columns)[:columns])
    return np.vstack([_title(series, row.shape[1]), row])


def _evenly(places: npt.NDArray[np.int64], count: int) -> list[int]:
    return [int(places[int(at)]) for at in np.linspace(0, len(places) - 1, count + 2)[1:-1]]


def _tile(
    hu: npt.NDArray[np.int16], window_hu: tuple[float, float], marked: npt.NDArray[np.bool_] | None
) -> Bytes:
    low, high = window_hu
    grey = np.clip((hu.astype(np.float32) - low) / (high - low), 0, 1) * 255
    tile = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize((TILE_PX, TILE_PX)))
    colour = np.repeat(tile[:, :, None], 3, axis=2)
    if marked is not None:
        large = Image.fromarray(marked.astype(np.uint8) * 255).resize((TILE_PX, TILE_PX))
        body = np.asarray(large) > 127
        colour[body & ~ndimage.binary_erosion(body)] = OUTLINE
    return colour


def _title(series: SourceSeries, width: int) -> Bytes:
    strip = Image.new("RGB", (width, MARGIN_PX))
    seen = np.nansum(series.slice_labels == 1, axis=0)
    told = ", ".join(
        f"{label} in {int(count)}" for label, count in zip(LABELS, seen, strict=True) if count
    )
    text = f"{series.series}: {len(series.hu)} slices of {series.spacing_mm[0]:.1f} mm; "
    whole = {0.0: "no blood", 1.0: "blood somewhere"}
    told = told or whole.get(float(series_truth(series)[0]), "not labelled")
    ImageDraw.Draw(strip).text((4, 1), text + told, fill=(180, 180, 180))
    return np.asarray(strip)
