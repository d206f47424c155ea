"""What scanners send beside the head: localizer, dose report, another part of the body."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage
from scipy.ndimage import gaussian_filter

from ichnode.phantom.anatomy import AIR_HU, draw_anatomy, paint_outside
from ichnode.phantom.dose import dose_sr
from ichnode.phantom.fields import Points
from ichnode.phantom.identity import Identity, new_object, save
from ichnode.phantom.objects import PixelStyle, Plane, Technique, ct_image

_UNPADDED = PixelStyle(padding=None)
_DOSE_LINES = (
    "SIMULATED DOSE REPORT",
    "",
    "1  Scout        CTDIvol 0.1 mGy   DLP 2 mGy.cm",
    "2  Head axial   CTDIvol 52.3 mGy  DLP 812 mGy.cm",
    "",
    "Total DLP 814 mGy.cm",
)


def write_localizer(
    folder: Path, *, identity: Identity, series_number: int = 1, seed: int = 0
) -> list[Path]:
    """Write the scout view that precedes a scan: one lateral CT image of the same head."""
    view = Plane(
        position_mm=(0.0, -127.5, 127.5),
        row_direction=(0.0, 1.0, 0.0),
        column_direction=(0.0, 0.0, -1.0),
        spacing_mm=(1.0, 1.0),
        thickness_mm=1.0,
    )
    technique = Technique(
        kernel="STANDARD",
        image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
        current_ma=30,
        window=(200, 1500),
    )
    image = ct_image(
        identity, _lateral_view(seed), view, technique, _UNPADDED,
        series_number=series_number, instance_number=1, description="SCOUT",
    )  # fmt: skip
    return [save(image, folder / "0001.dcm")]


def _lateral_view(seed: int) -> npt.NDArray[np.int16]:
    """Project the head's densities across, 256 x 256 at 1 mm."""
    anatomy = draw_anatomy(np.random.default_rng((seed, 1)))
    across = np.arange(-84, 85, 6, dtype=np.float32)
    forwards = 127.5 - np.arange(0, 256, 2, dtype=np.float32)
    upwards = 127.5 - np.arange(0, 256, 2, dtype=np.float32)
    z, y, x = np.meshgrid(upwards, forwards, across, indexing="ij")
    grid = Points(x.ravel(), y.ravel(), z.ravel())
    outside = paint_outside(anatomy, grid)
    hu = (outside.hu + 30 * outside.share).reshape(z.shape)
    path = (hu - AIR_HU).mean(axis=2) * 0.75 - 700
    fine = gaussian_filter(np.kron(path, np.ones((2, 2), np.float32)), 1.0)
    noise = np.random.default_rng((seed, 8)).normal(0, 6, fine.shape)
    return np.asarray(np.rint(fine + noise), dtype=np.int16)


def write_dose_report(
    folder: Path,
    *,
    identity: Identity,
    series_number: int = 999,
    form: Literal["sc", "sr"] = "sc",
) -> list[Path]:
    """Write a dose report: a Secondary Capture page, or an X-Ray Radiation Dose SR (TID 10011)."""
    if form == "sr":
        return [save(dose_sr(identity, series_number), folder / "0001.dcm")]
    return [save(_dose_page(identity, series_number), folder / "0001.dcm")]


def _dose_page(identity: Identity, series_number: int) -> Dataset:
    page = Image.new("L", (512, 256))
    pen = ImageDraw.Draw(page)
    for row, line in enumerate(_DOSE_LINES):
        pen.text((24, 24 + 20 * row), line, fill=255)
    ds = new_object(
        identity,
        SecondaryCaptureImageStorage,
        series_number=series_number,
        instance_number=1,
        description="DOSE REPORT",
    )
    ds.ConversionType = "WSD"
    ds.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    ds.PatientOrientation = ""
    ds.BurnedInAnnotation = "YES"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = page.height, page.width
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.add_new(0x7FE00010, "OB", page.tobytes())
    return ds


def write_non_head(
    folder: Path,
    *,
    identity: Identity,
    series_number: int = 4,
    seed: int = 0,
    part: Literal["abdomen", "water"] = "abdomen",
    slices: int = 20,
    size_px: int = 512,
) -> list[Path]:
    """Write an axial CT series that shows no head: a trunk, or a water phantom."""
    rng = np.random.default_rng((seed, 9))
    trunk = part == "abdomen"
    spacing = (380 if trunk else 250) / size_px
    technique = Technique(
        kernel="STANDARD",
        body_part="ABDOMEN" if trunk else "",
        protocol="Abdomen routine" if trunk else "Daily QA",
        window=(40, 400),
    )
    paths = []
    for k in range(slices):
        hu = _trunk(rng, size_px, spacing, k) if trunk else _water(rng, size_px, spacing)
        corner = -(size_px - 1) / 2 * spacing
        plane = Plane((corner, corner, 5.0 * k), (1, 0, 0), (0, 1, 0), (spacing, spacing), 5.0)
        image = ct_image(
            identity, hu, plane, technique, PixelStyle(), series_number=series_number,
            instance_number=k + 1, description="ABDOMEN" if trunk else "WATER",
        )  # fmt: skip
        paths.append(save(image, folder / f"{k + 1:04d}.dcm"))
    return paths


def _axes(size_px: int, spacing: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    line = np.asarray((np.arange(size_px) + 0.5 - size_px / 2) * spacing, dtype=np.float64)
    return line[:, None], line[None, :]


def _noisy(rng: np.random.Generator, hu: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    noise = gaussian_filter(rng.standard_normal(hu.shape), 0.8) * 25
    return np.asarray(np.rint(gaussian_filter(hu, 0.8) + noise), dtype=np.int16)


def _oval(
    y: npt.NDArray[np.float64], x: npt.NDArray[np.float64], at: tuple[float, float],
    radii: tuple[float, float],
) -> npt.NDArray[np.bool_]:  # fmt: skip
    inside = ((y - at[0]) / radii[0]) ** 2 + ((x - at[1]) / radii[1]) ** 2 < 1
    return np.asarray(inside, dtype=np.bool_)


def _trunk(rng: np.random.Generator, size_px: int, spacing: float, k: int) -> npt.NDArray[np.int16]:
    y, x = _axes(size_px, spacing)
    hu = np.full((size_px, size_px), -1000.0)
    hu[_oval(y, x, (0, 0), (112, 160))] = -100  # fat under the skin
    hu[_oval(y, x, (0, 0), (92, 138))] = 50  # muscle
    hu[_oval(y, x, (-8, 0), (74, 122))] = -90  # fat around the bowels
    hu[_oval(y, x, (-15, -60), (58 - k, 58))] = 58  # liver
    hu[_oval(y, x, (10, 75), (28, 34))] = 48  # spleen
    for side in (-1, 1):
        hu[_oval(y, x, (32, 52 * side), (26, 18))] = 34  # kidneys
    hu[_oval(y, x, (-40 + k, 35), (20, 30))] = -650  # gas in the stomach
    hu[_oval(y, x, (55, 0), (20, 23))] = 330  # vertebra
    hu[_oval(y, x, (80, 0), (7, 7))] = 25  # its canal
    hu[_oval(y, x, (28, 8), (11, 11))] = 42  # aorta
    return _noisy(rng, hu)


def _water(rng: np.random.Generator, size_px: int, spacing: float) -> npt.NDArray[np.int16]:
    y, x = _axes(size_px, spacing)
    hu = np.full((size_px, size_px), -1000.0)
    hu[_oval(y, x, (0, 0), (104, 104))] = 120  # the acrylic wall
    hu[_oval(y, x, (0, 0), (100, 100))] = 0
    return _noisy(rng, hu)
