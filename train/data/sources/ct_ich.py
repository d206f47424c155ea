"""PhysioNet CT-ICH 1.3.1: 75 scans in NIfTI, every slice labelled, blood outlined by masks.

The folder holds ``hemorrhage_diagnosis_raw_ct.csv``, ``ct_scans/049.nii`` and so on, ``masks`` by
the same names, and ``Patient_demographics.csv``. Slices are counted from 1 along the last axis of
the file. "Any" is not stated; it is that "no haemorrhage" is not. A mask says where there is blood
and not of which kind: it is voxel truth where every slice of the scan has one kind at most.

References
----------
Hssayeni MD et al., Intracranial hemorrhage segmentation using a deep convolutional model, Data
2020.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ichnode.domain.findings import LABELS
from train.data.labels import Labels
from train.data.reading import pseudonym
from train.data.records import (
    UNKNOWN,
    Facts,
    LeftOut,
    Licence,
    SourceSeries,
    contradictory,
    unknown_labels,
)
from train.data.sources.labels_csv import (
    CONTRADICTORY,
    Row,
    digest_of,
    existing,
    read_rows,
    refuse_labels,
)
from train.data.sources.nifti import NiftiVolume, read_nifti
from train.errors import TrainingError, Unusable

LABELS_FILE = "hemorrhage_diagnosis_raw_ct.csv"
DEMOGRAPHICS_FILE = "Patient_demographics.csv"
SCANS, MASKS = "ct_scans", "masks"
PATIENT, SLICE, NONE = "PatientNumber", "SliceNumber", "No_Hemorrhage"
KINDS = tuple(label.capitalize() for label in LABELS[1:])
"""The columns of the kinds are our labels with a capital."""

LICENCE = Licence(
    "PhysioNet Restricted Health Data License 1.5.0 (scientific research alone)",
    non_commercial=True,
    cite="Hssayeni M, Computed Tomography Images for Intracranial Hemorrhage Detection and "
    "Segmentation 1.3.1, PhysioNet 2020.",
)
_ENDINGS = (".nii", ".nii.gz")


@dataclass(frozen=True, slots=True)
class CtIch:
    """The scans of the dataset.

    Attributes
    ----------
    slice_labels : mapping
        Patient number to slice number (from 1) to labels (label,).
    people : mapping
        Patient number to age in years and sex, where known.
    """

    folder: Path
    slice_labels: Mapping[int, Mapping[int, Labels]] = field(repr=False)
    people: Mapping[int, tuple[float, str]] = field(repr=False)
    key: bytes = field(repr=False)
    labels_digest: str
    remarks: tuple[str, ...] = ()
    name: str = "ct-ich"

    @property
    def licence(self) -> Licence:
        """For research."""
        return LICENCE

    def jobs(self) -> Sequence[str]:
        """Return the patients' numbers, as files are named."""
        return [f"{number:03d}" for number in self.slice_labels]

    def read(self, job: str) -> SourceSeries:
        """Read one scan; slices whose labels contradict themselves are left out."""
        number = int(job)
        path = _file(self.folder / SCANS, job)
        if path is None:
            raise Unusable("no file", f"{SCANS}/{job}.nii")
        volume = read_nifti(path)
        labels = _labels_along(volume, self.slice_labels[number])
        kinds = _kinds(volume, labels, _file(self.folder / MASKS, job))
        kept = ~contradictory(labels)
        if not kept.any():
            raise Unusable(CONTRADICTORY, f"all of {len(kept)} slices")
        keys = [f"{job}-{index + 1}" for index in volume.file_slices]
        age_years, sex = self.people.get(number, (float("nan"), ""))
        rows, columns = volume.hu.shape[1:]
        return SourceSeries(
            dataset=self.name,
            patient=pseudonym(self.name, job, key=self.key),
            study=job,
            series=job,
            hu=volume.hu[kept],
            spacing_mm=volume.spacing_mm,
            positions_mm=volume.positions_mm[kept],
            slice_keys=tuple(keys[i] for i in np.flatnonzero(kept)),
            slice_labels=labels[kept],
            series_labels=np.full(len(LABELS), UNKNOWN),
            facts=Facts(age_years=age_years, sex=sex, rows=rows, columns=columns),
            kinds=None if kinds is None else kinds[kept],
            label_source="readers",
            left_out=tuple(LeftOut(keys[i], CONTRADICTORY) for i in np.flatnonzero(~kept)),
        )


def open_source(path: str, labels: Path | None, key: bytes) -> CtIch:
    """Open the dataset.

    Raises
    ------
    TrainingError
        When the folder is not that of the dataset, or its CSV is not as it was published.
    """
    refuse_labels(labels, "CT-ICH")
    folder = Path(path)
    existing(folder / SCANS)
    found: dict[int, dict[int, Labels]] = defaultdict(dict)
    for row in read_rows(folder / LABELS_FILE, (PATIENT, SLICE, NONE, *KINDS)):
        number, place = row.whole_number(PATIENT), row.whole_number(SLICE)
        stated = _stated(row)
        before = found[number].setdefault(place, stated)
        if not np.array_equal(before, stated, equal_nan=True):
            raise TrainingError(
                f"Line {row.line} of {row.file} labels a slice differently from an earlier line; "
                "take the file as it was published."
            )
    return CtIch(
        folder=folder,
        slice_labels={number: dict(sorted(found[number].items())) for number in sorted(found)},
        people=_people(folder / DEMOGRAPHICS_FILE),
        key=key,
        labels_digest=digest_of(folder / LABELS_FILE),
    )


def _stated(row: Row) -> Labels:
    none = row.flag(NONE)
    flags = [None if none is None else not none, *(row.flag(kind) for kind in KINDS)]
    return np.asarray([UNKNOWN if flag is None else float(flag) for flag in flags], np.float32)


def _labels_along(volume: NiftiVolume, by_number: Mapping[int, Labels]) -> Labels:
    """Return labels (z, label) in the order of the volume; NaN where a slice has no row."""
    slices = len(volume.hu)
    if max(by_number) > slices or min(by_number) < 1:
        raise Unusable("labels do not fit", f"slice {max(by_number)} of {slices}")
    labels = unknown_labels(slices)
    for z, index in enumerate(volume.file_slices):
        if (stated := by_number.get(int(index) + 1)) is not None:
            labels[z] = stated
    return labels


def _kinds(volume: NiftiVolume, labels: Labels, path: Path | None) -> npt.NDArray[np.uint8] | None:
    """Return what each voxel is; None where there is no mask, or it leaves open which kind.

    Raises nothing: a scan without voxel truth is as good as any other.
    """
    if path is None:
        return None
    try:
        drawn = volume.mask(path) != 0
    except Unusable:
        return None
    outlined = drawn.any(axis=(1, 2))
    single = (labels[:, 1:] == 1).sum(axis=1) == 1
    if (outlined != (labels[:, 0] == 1)).any() or (outlined & ~single).any():
        return None
    kind = (labels[:, 1:] == 1).argmax(axis=1) + 1
    kinds: npt.NDArray[np.uint8] = np.where(drawn, kind[:, None, None], 0).astype(np.uint8)
    return kinds


def _file(folder: Path, name: str) -> Path | None:
    return next((p for end in _ENDINGS if (p := folder / f"{name}{end}").is_file()), None)


def _people(path: Path) -> dict[int, tuple[float, str]]:
    """Return age and sex by patient number; the file has a second line of headers, and gaps."""
    if not path.is_file():
        return {}
    people: dict[int, tuple[float, str]] = {}
    for row in read_rows(path, ("Patient Number",)):
        number = row.cells["Patient Number"].removesuffix(".0")
        age = next((v for n, v in row.cells.items() if n.lower().startswith("age")), "")
        sex = row.cells.get("Gender", "")[:1].upper()
        if number.isdecimal():
            known = age.replace(".", "", 1).isdecimal()
            people[int(number)] = (
                round(float(age), 1) if known else float("nan"),
                sex if sex in ("F", "M") else "",
            )
    return people
