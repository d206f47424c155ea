"""Folders of slices and series of simulated heads, as somebody would bring real ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from ichnode.phantom import Identity, SimulatedHead, simulate_head, write_series
from train.data.unclipping import clip_to_grey


def head(seed: int, *, bleeds: tuple[str, ...] = (), slices: int = 8, size_px: int = 96):
    """A small simulated head."""
    return simulate_head(seed, bleeds=bleeds, slices=slices, size_px=size_px, least_bleed_ml=20.0)


def picture(path: Path, hu: np.ndarray, hu_range: tuple[float, float] = (0.0, 80.0)) -> Path:
    """One slice as an 8-bit PNG picture in a window."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(clip_to_grey(hu, hu_range)).save(path)
    return path


def slice_folder(folder: Path) -> Path:
    """Ten slices with blood in two labels and ten without, as PNG."""
    for number, kind in enumerate(("intraparenchymal", "subdural")):
        whole = head(20 + number, bleeds=(kind,), slices=12)
        amount = (whole.mask > 0).sum(axis=(1, 2))
        for z in np.argsort(-amount)[:5]:
            picture(folder / kind / f"ID_{number}_{z}.png", whole.hu[z])
    for number in (0, 1):
        whole = head(30 + number, slices=12)
        for z in range(3, 8):
            picture(folder / "normal" / f"ID_{number}_{z}.png", whole.hu[z])
    return folder


def dicom_series(folder: Path, one: SimulatedHead) -> list[Path]:
    """One head as DICOM files."""
    return write_series(one, folder, identity=Identity.simulated(one.seed))


def picture_series(folder: Path, one: SimulatedHead) -> Path:
    """One head as PNG files whose names are numbered without leading zeros."""
    for number, hu in enumerate(one.hu, 1):
        picture(folder / f"{number}.png", hu)
    return folder


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file and folder below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (hashlib.sha256(content).hexdigest(), path.stat().st_mtime_ns)
    return found
