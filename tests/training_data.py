"""Small made-up series for the tests of training data: arrays, no files, no persons."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from ichnode.domain.findings import LABELS
from ichnode.nets.manifest import PreprocessSpec
from ichnode.phantom.randomised.maps import MAPS, procedural_maps
from train.data.records import UNKNOWN, Facts, LeftOut, Licence, SourceSeries, unknown_labels
from train.data.sources.randomised import TEMPLATE_FILES
from train.errors import Unusable

SPEC = PreprocessSpec(size_px=32, windows_hu=((0.0, 80.0),), context_slices=1)
SIDE_PX = 40


def toy_series(
    number: int,
    *,
    slices: int = 6,
    patient: str = "",
    labelled: bool = True,
    masked: bool = False,
    step_mm: float = 5.0,
    dataset: str = "toy",
) -> SourceSeries:
    """A disc of brain in air; every even series has blood in its third slice."""
    rng = np.random.default_rng(number)
    axis = np.arange(SIDE_PX) - (SIDE_PX - 1) / 2
    disc = np.hypot(axis[:, None], axis[None, :]) < 15
    hu = np.where(disc, 35, -1000) + rng.normal(0, 4, (slices, SIDE_PX, SIDE_PX))
    labels = np.zeros((slices, len(LABELS)), np.float32)
    kinds = np.zeros(hu.shape, np.uint8)
    if number % 2 == 0:
        hu[2, 18:24, 18:24] = 70
        kinds[2, 18:24, 18:24] = 2
        labels[2, [0, 2]] = 1
    return SourceSeries(
        dataset=dataset,
        patient=patient or f"p{number}",
        study=f"study{number}",
        series=f"series{number}",
        hu=np.rint(hu).astype(np.int16),
        spacing_mm=(step_mm, 5.0, 5.0),
        positions_mm=step_mm * np.arange(slices, dtype=np.float64),
        slice_keys=tuple(f"{number}-{index}" for index in range(slices)),
        slice_labels=labels if labelled else unknown_labels(slices),
        series_labels=np.full(len(LABELS), UNKNOWN),
        facts=Facts(manufacturer="toy", thickness_mm=step_mm),
        kinds=kinds if masked else None,
        label_source="readers",
        left_out=(LeftOut(f"{number}-x", "undecodable", "3 of 4 bytes"),) if number == 1 else (),
    )


@dataclass(frozen=True, slots=True)
class ToySource:
    """Series 0 to `count` - 1; some cannot be used, kill their reader, or lack something."""

    count: int = 6
    unusable: frozenset[str] = frozenset()
    deadly: frozenset[str] = frozenset()
    odd: frozenset[str] = frozenset()
    stuck: frozenset[str] = frozenset()
    unlabelled: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    labels_digest: str = ""
    name: str = "toy"

    @property
    def licence(self) -> Licence:
        """Free."""
        return Licence("CC0", non_commercial=False)

    def jobs(self) -> Sequence[str]:
        """The numbers."""
        return [str(number) for number in range(self.count)]

    def read(self, job: str) -> SourceSeries:
        """Make one."""
        if job in self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        if job in self.stuck:
            signal.pause()
        if job in self.odd:
            raise ZeroDivisionError("SECRET")
        if job in self.unusable:
            raise Unusable("undecodable", "by the test")
        return toy_series(int(job), labelled=job not in self.unlabelled, masked=job in self.masked)


def write_template(folder: Path, voxel_mm: float = 2.0) -> Path:
    """Write an average head and its tissues, as others give them; made from a drawn one."""
    drawn = procedural_maps(4, voxel_mm=voxel_mm)
    hu, grey, white, fluid = (
        drawn.maps[MAPS.index(name)].numpy().transpose(2, 1, 0)
        for name in ("head", "grey", "white", "fluid")
    )
    brain = np.where(grey + white + fluid > 0.5, hu, -1000)
    affine = np.diag([voxel_mm] * 3 + [1.0])
    affine[:3, 3] = drawn.origin_mm
    for name, volume in zip(TEMPLATE_FILES, (hu, brain, grey, white, fluid), strict=True):
        nibabel.save(nibabel.Nifti1Image(volume, affine), folder / f"{name}.nii.gz")
    return folder
