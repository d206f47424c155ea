"""Randomised simulated heads as a source: every series another head, another disease, another scan.

See `ichnode.phantom.randomised`. The anatomy is an average head, where its maps are given, and
otherwise (or in part of the series) a procedural one.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import numpy.typing as npt
from nibabel.filebasedimages import ImageFileError

from ichnode.phantom.randomised.maps import AnatomyMaps, procedural_maps, template_maps
from ichnode.phantom.randomised.realism import REVISION, WHOLE, Realism
from ichnode.phantom.randomised.series import RandomisedSeries, simulate_series
from ichnode.phantom.studies import HOLDOUT_SEEDS, TRAINING_SEEDS
from train.data.records import HELD_OUT, UNKNOWN, Facts, Licence, SourceSeries
from train.data.sources.simulated import seeds_of
from train.data.unclipping import clip_to_grey, grey_to_hu
from train.data.window import BRAIN_HU
from train.errors import TrainingError

SIZE_PX = 208
PROCEDURAL_SHARE = 0.35  # of the series, where there is a template
PICTURE_SHARE = 0.3  # of the series to learn from
TEMPLATE_FILES = ("scct_hu", "scct_stripped_hu", "scgrey", "scwhite", "sccsf")


@dataclass(frozen=True, slots=True)
class Randomised:
    """Series of consecutive seeds.

    Attributes
    ----------
    seeds : range
        Wholly within `ichnode.phantom.studies.TRAINING_SEEDS` or `HOLDOUT_SEEDS`.
    template : Path, optional
        Folder of the average head CT of the Clinical toolbox: `TEMPLATE_FILES` as .nii.gz.
    picture_share : float
        Of the series, those that are as read from pictures of their brain window: what a picture
        does not hold, a network must be able to do without.
    procedural_share : float
        Of the series, those of drawn heads, where there is a template.
    realism : Realism
        Which stages of the simulation are at work.
    device : str
        Where they work, "cpu" or "cuda". Another kind of device draws other random fields, so that
        a seed gives a head of the same kind and size there, but not the same voxels.
    """

    seeds: range
    template: Path | None = None
    size_px: int = SIZE_PX
    picture_share: float = 0.0
    procedural_share: float = PROCEDURAL_SHARE
    realism: Realism = WHOLE
    device: str = "cpu"

    @property
    def name(self) -> str:
        """``randomised``, or ``randomised-holdout`` for series that nothing may learn from."""
        return f"randomised{HELD_OUT if self.seeds.start in HOLDOUT_SEEDS else ''}"

    @property
    def licence(self) -> Licence:
        """Ours, and of the template, which is the average head CT of the Clinical toolbox."""
        cite = "Simulated by ichnode.phantom.randomised."
        if self.template is None:
            return Licence("Apache-2.0", non_commercial=False, cite=cite)
        return Licence(
            "Apache-2.0, anatomy BSD-2-Clause",
            non_commercial=False,
            cite=f"{cite} Anatomy: Rorden C et al., NeuroImage 2012;61:957.",
        )

    @property
    def labels_digest(self) -> str:
        """What decides a series beside its seed: series of several simulators are not mixed."""
        told = (
            f"{REVISION} {self.size_px} {self.picture_share} {self.procedural_share} {self.realism}"
        )
        if self.device != "cpu":
            told += f" {self.device}"
        anatomy = "" if self.template is None else template_digest(self.template)
        return hashlib.sha256(f"{told} {anatomy}".encode()).hexdigest()

    def jobs(self) -> Sequence[str]:
        """Return the seeds."""
        return [str(seed) for seed in self.seeds]

    def read(self, job: str) -> SourceSeries:
        """Simulate one series.

        Raises
        ------
        TrainingError
            When the GPU fails, which is no fault of the series.
        """
        seed = int(job)
        found = self._simulated(seed)
        key = f"rnd-{seed}"
        slices = len(found.hu)
        step_mm = found.geometry.step_mm
        return SourceSeries(
            dataset=self.name,
            patient=key,
            study=key,
            series=key,
            hu=self._as_read(found.hu, seed),
            spacing_mm=found.geometry.spacing_mm,
            positions_mm=step_mm * np.arange(slices, dtype=np.float64),
            slice_keys=tuple(f"{key}-{number:03d}" for number in range(slices)),
            slice_labels=found.labels,
            series_labels=np.full(found.labels.shape[1], UNKNOWN),
            facts=Facts(
                manufacturer="SIMULATED",
                thickness_mm=found.geometry.thickness_mm,
                rows=self.size_px,
                columns=self.size_px,
            ),
            kinds=found.kinds,
            label_source="simulation",
        )

    def _simulated(self, seed: int) -> RandomisedSeries:
        anatomy = self._anatomy(seed)
        if self.device == "cpu":
            return simulate_series(anatomy, seed, size_px=self.size_px, realism=self.realism)
        try:
            return simulate_series(
                anatomy.to(self.device), seed, size_px=self.size_px, realism=self.realism
            )
        except (RuntimeError, AssertionError) as error:  # the latter where torch knows no CUDA
            raise TrainingError(
                f"The GPU cannot simulate ({str(error).splitlines()[0]}); where it is short of "
                "memory, give fewer --workers."
            ) from error

    def _as_read(self, hu: npt.NDArray[np.int16], seed: int) -> npt.NDArray[np.int16]:
        if np.random.default_rng((seed, 29)).random() >= self.picture_share:
            return hu
        return grey_to_hu(clip_to_grey(hu, BRAIN_HU), BRAIN_HU)

    def _anatomy(self, seed: int) -> AnatomyMaps:
        chance = np.random.default_rng((seed, 30)).random()
        if self.template is None or chance < self.procedural_share:
            return procedural_maps(seed)
        return _template(self.template)


@functools.cache
def _template(folder: Path) -> AnatomyMaps:
    try:
        volumes = [_load(folder / f"{name}.nii.gz") for name in TEMPLATE_FILES]
    except (OSError, ImageFileError) as error:
        raise _no_template(folder) from error
    hu, origin, voxel = volumes[0]
    if any(volume.shape != hu.shape for volume, *_ in volumes) or voxel <= 0:
        raise TrainingError(f"The volumes in {folder} must be alike, with cubic voxels.")
    return template_maps(
        hu, *(volume for volume, *_ in volumes[1:]), origin_mm=origin, voxel_mm=voxel
    )


def template_digest(folder: Path) -> str:
    """Return what tells a template from any other.

    Raises
    ------
    TrainingError
        When one of its files is missing.
    """
    whole = hashlib.sha256()
    try:
        for name in TEMPLATE_FILES:
            whole.update((folder / f"{name}.nii.gz").read_bytes())
    except OSError as error:
        raise _no_template(folder) from error
    return whole.hexdigest()


def _no_template(folder: Path) -> TrainingError:
    return TrainingError(
        f"{folder} holds no template: it needs {', '.join(TEMPLATE_FILES)} as .nii.gz."
    )


def _load(path: Path) -> tuple[np.ndarray, tuple[float, float, float], float]:
    image = nibabel.as_closest_canonical(nibabel.load(path))
    x, y, z = (float(value) for value in image.affine[:3, 3])
    sides = np.asarray(image.header.get_zooms()[:3], np.float64)
    voxel_mm = float(sides[0]) if np.ptp(sides) < 0.01 else 0.0
    return np.asarray(image.get_fdata(), np.float32), (x, y, z), voxel_mm


def open_source(path: str, labels: Path | None, key: bytes) -> Randomised:  # noqa: ARG001 - the form that `known` asks of every source
    """Return the series of a range of seeds, written ``0:300`` or ``TEMPLATE_FOLDER:0:300``.

    Raises
    ------
    TrainingError
        When it is no range, or one that nothing may be learnt from or measured on.
    """
    parts = path.strip().rsplit(":", 2)
    seeds = seeds_of(":".join(parts[-2:]), labels)
    template = Path(parts[0]) if len(parts) == 3 else None
    pictures = PICTURE_SHARE if seeds.start in TRAINING_SEEDS else 0.0
    return Randomised(seeds, template, picture_share=pictures)
