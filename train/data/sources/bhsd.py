"""BHSD: 192 scans cut out of RSNA 2019, in NIfTI, with the kind of blood at every voxel.

The folder holds ``imagesTr`` and ``labelsTr`` (and ``Ts`` likewise), or, as another copy has it,
``images`` and ``ground truths``. Files are named ``ID_<patient>_ID_<series>.nii.gz`` after the
identifiers of RSNA. The same scans are in RSNA: patients get the same pseudonyms as there, so that
a split by patients keeps both copies together. Whoever measures on BHSD has to leave these patients
out of what is learnt from.

References
----------
Wu B et al., BHSD: a 3D multi-class brain hemorrhage segmentation dataset, MLMI 2023.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from train.data.records import UNKNOWN, Facts, Licence, SourceSeries
from train.data.sources.labels_csv import existing, refuse_labels
from train.data.sources.nifti import read_nifti
from train.data.sources.rsna import patient_key
from train.errors import TrainingError, Unusable

VOXELS: Mapping[int, int] = {
    0: 0,
    1: LABELS.index("epidural"),
    2: LABELS.index("intraparenchymal"),
    3: LABELS.index("intraventricular"),
    4: LABELS.index("subarachnoid"),
    5: LABELS.index("subdural"),
}
"""The dataset's number of a voxel, and the index of our label; 0 is no blood."""

LICENCE = Licence(
    "BHSD terms (non-commercial, no derivatives)",
    non_commercial=True,
    cite="Wu B et al., BHSD: A 3D Multi-class Brain Hemorrhage Segmentation Dataset, MLMI 2023; "
    "images from RSNA 2019, whose terms hold as well.",
)
_NAME = re.compile(r"(ID_[0-9a-f]{8})_(ID_[0-9a-f]{10})\.nii(\.gz)?")
_MASKS = {"imagesTr": "labelsTr", "imagesTs": "labelsTs", "images": "ground truths"}


@dataclass(frozen=True, slots=True)
class Bhsd:
    """The scans that are outlined voxel by voxel.

    Attributes
    ----------
    scans : mapping
        Job to the image and its mask.
    """

    scans: Mapping[str, tuple[Path, Path]] = field(repr=False)
    key: bytes = field(repr=False)
    labels_digest: str
    remarks: tuple[str, ...] = (
        "These scans are in RSNA 2019 as well; patients have the same pseudonyms there.",
    )
    name: str = "bhsd"

    @property
    def licence(self) -> Licence:
        """Non-commercial."""
        return LICENCE

    def jobs(self) -> Sequence[str]:
        """Return the names of the files without their endings."""
        return list(self.scans)

    def read(self, job: str) -> SourceSeries:
        """Read one scan; the labels of its slices are what its voxels show."""
        image, mask = self.scans[job]
        named = _NAME.fullmatch(image.name)
        if named is None:
            raise Unusable("unknown file name", "not ID_<patient>_ID_<series>.nii.gz")
        if not mask.is_file():
            raise Unusable("no mask")
        volume = read_nifti(image)
        kinds = _kinds(volume.mask(mask))
        rows, columns = volume.hu.shape[1:]
        return SourceSeries(
            dataset=self.name,
            patient=patient_key(named[1], self.key),
            study=named[2],
            series=named[2],
            hu=volume.hu,
            spacing_mm=volume.spacing_mm,
            positions_mm=volume.positions_mm,
            slice_keys=tuple(f"{named[2]}-{index + 1}" for index in volume.file_slices),
            slice_labels=_slice_labels(kinds),
            series_labels=np.full(len(LABELS), UNKNOWN),
            facts=Facts(rows=rows, columns=columns),
            kinds=kinds,
            label_source="readers",
        )


def open_source(path: str, labels: Path | None, key: bytes) -> Bhsd:
    """Find the scans of the dataset and their masks.

    Raises
    ------
    TrainingError
        When there are none.
    """
    refuse_labels(labels, "BHSD")
    folder = existing(Path(path))
    scans = {_stem(image): (image, mask) for image, mask in _pairs(folder)}
    if not scans:
        raise TrainingError(
            f"There are no scans in {folder}: neither imagesTr and labelsTr nor images and ground "
            "truths; unpack the archive there."
        )
    sizes = [
        f"{job} {mask.stat().st_size if mask.is_file() else 0}" for job, (_, mask) in scans.items()
    ]
    return Bhsd(scans, key, hashlib.sha256("\n".join(sizes).encode()).hexdigest())


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield image and mask, also from a folder inside, as archives unpack."""
    inside = sorted(one for one in folder.iterdir() if one.is_dir() and one.name not in _MASKS)
    for place in (folder, *inside):
        for images, masks in _MASKS.items():
            for image in sorted((place / images).glob("*.nii*")):
                yield image, place / masks / image.name


def _stem(image: Path) -> str:
    return image.name.removesuffix(".gz").removesuffix(".nii")


def _kinds(drawn: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    if strange := sorted(set(np.unique(drawn).tolist()) - set(VOXELS)):
        raise Unusable("unknown voxel label", ", ".join(map(str, strange[:5])))
    ours = np.array([VOXELS[number] for number in sorted(VOXELS)], np.uint8)
    kinds: npt.NDArray[np.uint8] = ours[drawn]
    return kinds


def _slice_labels(kinds: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    labels = np.zeros((len(kinds), len(LABELS)), np.float32)
    for index in range(1, len(LABELS)):
        labels[:, index] = (kinds == index).any(axis=(1, 2))
    labels[:, 0] = labels[:, 1:].max(axis=1)
    return labels
