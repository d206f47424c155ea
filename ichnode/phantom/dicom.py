"""Simulated heads as DICOM series, and what a scanner sends along with them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from pydicom.uid import ExplicitVRLittleEndian

from ichnode.phantom.companions import write_dose_report, write_localizer, write_non_head
from ichnode.phantom.enhanced import enhanced_ct
from ichnode.phantom.head import SimulatedHead
from ichnode.phantom.identity import Identity, save
from ichnode.phantom.objects import PixelStyle, Plane, Technique, ct_image

__all__ = [
    "Identity",
    "PixelStyle",
    "write_dose_report",
    "write_localizer",
    "write_non_head",
    "write_series",
]

Padding: TypeAlias = int | Literal["drawn"] | None
SOFT_KERNELS = ("STANDARD", "H31s", "UB", "FC64")
BONE_KERNELS = ("BONE", "H60s", "D", "FC30")
_PADDINGS: tuple[int | None, ...] = (-2000, -1500, -1024, None)


def planes_of(head: SimulatedHead) -> list[Plane]:
    """Return the planes of a head's slices, from the feet upwards.

    A tilted gantry moves along the table and not along the slice normal, so that the positions of
    a tilted series are sheared (PS3.3 C.7.6.2.1.1).
    """
    tilt = np.deg2rad(head.tilt_deg)
    along, down, across = head.spacing_mm
    rows, columns = head.hu.shape[1:]
    top, left = -(rows - 1) / 2 * down, -(columns - 1) / 2 * across
    cos, sin = float(np.cos(tilt)), float(np.sin(tilt))
    return [
        Plane(
            position_mm=(left, top * cos, k * along / cos - top * sin),
            row_direction=(1.0, 0.0, 0.0),
            column_direction=(0.0, cos, -sin),
            spacing_mm=(down, across),
            thickness_mm=head.thickness_mm,
        )
        for k in range(head.hu.shape[0])
    ]


def pixel_style(head: SimulatedHead, padding: Padding = "drawn") -> PixelStyle:
    """Return how this head's scanner stores pixels: drawn by its seed, or with `padding`."""
    rng = np.random.default_rng((head.seed, 7))
    drawn = _PADDINGS[int(rng.integers(0, len(_PADDINGS)))]
    value = drawn if padding == "drawn" else padding
    return PixelStyle(intercept_hu=0 if rng.random() < 0.5 else -1024, padding=value)


def technique_of(head: SimulatedHead, kernel_name: str | None) -> Technique:
    """Return what the scanner says of this head's acquisition."""
    bone = head.kernel == "bone"
    names = BONE_KERNELS if bone else SOFT_KERNELS
    return Technique(
        kernel=kernel_name or names[head.seed % len(names)],
        tilt_deg=head.tilt_deg,
        window=(500, 2500) if bone else (40, 80),
    )


def write_series(
    head: SimulatedHead,
    folder: Path,
    *,
    identity: Identity,
    series_number: int = 2,
    description: str | None = None,
    kernel_name: str | None = None,
    sop_class: Literal["ct", "enhanced"] = "ct",
    transfer_syntax: str = ExplicitVRLittleEndian,
    padding: Padding = "drawn",
    style: PixelStyle | None = None,
) -> list[Path]:
    """Write one series, a file per slice (or one multi-frame file), and return the files.

    Parameters
    ----------
    head : SimulatedHead
        What to write; ``head.kernel`` decides between soft and bone descriptions.
    folder : Path
        Created where missing; files are named by instance number, from the feet upwards.
    identity : Identity
        Patient and study; series and instance UIDs follow from its study UID and the numbers.
    kernel_name : str, optional
        Convolution Kernel; by default a soft or a sharp one of some vendor.
    transfer_syntax : str
        Any native syntax, or a compressed one that pydicom has an encoder for.
    padding : int, None or "drawn"
        Stored value outside the reconstruction circle; None leaves the square image alone.
    style : PixelStyle, optional
        The whole pixel convention, instead of `padding`.

    Returns
    -------
    list of Path
        In anatomical order.
    """
    style = style or pixel_style(head, padding)
    technique = technique_of(head, kernel_name)
    title = description or ("HEAD BONE" if head.kernel == "bone" else "HEAD ROUTINE")
    planes = planes_of(head)
    if sop_class == "enhanced":
        frames = enhanced_ct(
            identity, head.hu, planes, technique, style,
            series_number=series_number, description=title,
        )  # fmt: skip
        return [save(frames, folder / "0001.dcm", transfer_syntax)]
    return [
        save(
            ct_image(
                identity, head.hu[k], plane, technique, style,
                series_number=series_number, instance_number=k + 1, description=title,
            ),
            folder / f"{k + 1:04d}.dcm",
            transfer_syntax,
        )
        for k, plane in enumerate(planes)
    ]  # fmt: skip
