"""RSNA Intracranial Hemorrhage Detection 2019: one DICOM file a slice, every slice labelled.

The folder holds ``stage_2_train.csv`` and the images in ``stage_2_train`` (or, as older scripts
unpack it, ``stage_2_train_images``). Files are named at random; what belongs together is in their
headers. The CSV has some rows twice. A few files are damaged, and some scans of one site lost their
sign (`train.data.repair`); both are seen in the pixels and not looked up in a list.

References
----------
Flanders AE et al., Construction of a machine learning dataset through collaboration: the RSNA 2019
brain CT hemorrhage challenge, Radiology: Artificial Intelligence 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ichnode.domain.findings import LABELS
from train.data.labels import Labels
from train.data.reading import LeftOut, Reading, pseudonym, read_files, series_of
from train.data.records import UNKNOWN, Licence, SourceSeries, contradictory
from train.data.sources.header_scan import header_table
from train.data.sources.labels_csv import CONTRADICTORY, digest_of, existing, refuse_labels
from train.errors import TrainingError, Unusable

LABELS_FILE = "stage_2_train.csv"
IMAGE_FOLDERS = ("stage_2_train", "stage_2_train_images")
LICENCE = Licence(
    "RSNA 2019 terms (non-commercial: academic research and education)",
    non_commercial=True,
    cite="Flanders AE et al., The RSNA Brain CT Hemorrhage Dataset, Radiology: Artificial "
    "Intelligence 2020;2:3.",
)
_BROKEN = "file-"  # begins the job of a file that belongs to no series


@dataclass(frozen=True, slots=True, eq=False)
class Rsna:
    """The series of the training part, in arrays: there are 750,000 images.

    Attributes
    ----------
    images : Path
        The folder of the files.
    names : ndarray, bytes, (image,)
        File names without ending, series after series.
    labels : ndarray, float32, (image, label)
        In the order of `ichnode.domain.findings.LABELS`.
    starts : ndarray, int64, (series + 1,)
        Where each series begins among the images.
    numbers : mapping
        Series to its place in `starts`, `patients` and `studies`.
    patients : tuple of str
        Pseudonyms; "" where a series names no patient, or several.
    broken : mapping
        Job to the file that cannot be read.
    remarks : tuple of str
        What somebody who adds the dataset should know.
    """

    images: Path
    names: npt.NDArray[np.bytes_] = field(repr=False)
    labels: npt.NDArray[np.float32] = field(repr=False)
    starts: npt.NDArray[np.int64] = field(repr=False)
    numbers: Mapping[str, int] = field(repr=False)
    patients: tuple[str, ...] = field(repr=False)
    studies: tuple[str, ...] = field(repr=False)
    broken: Mapping[str, str] = field(repr=False)
    labels_digest: str
    remarks: tuple[str, ...] = ()
    name: str = "rsna"

    @property
    def licence(self) -> Licence:
        """Non-commercial."""
        return LICENCE

    def jobs(self) -> Sequence[str]:
        """Return the series, and the files that cannot be read."""
        return [*self.numbers, *self.broken]

    def read(self, job: str) -> SourceSeries:
        """Read one series; slices whose labels contradict themselves are left out."""
        if job in self.broken:
            raise Unusable("undecodable", self.broken[job])
        number = self.numbers[job]
        if not self.patients[number]:
            raise Unusable("patient unclear", "the series names none or several")
        own = slice(int(self.starts[number]), int(self.starts[number + 1]))
        names = [name.decode() for name in self.names[own]]
        wrong = contradictory(self.labels[own])
        labels = dict(zip(names, self.labels[own], strict=True))
        reading = read_files(
            self.images / f"{name}.dcm" for name, bad in zip(names, wrong, strict=True) if not bad
        )
        left_out = [LeftOut(names[i], CONTRADICTORY) for i in np.flatnonzero(wrong)]
        return series_of(
            Reading(reading.slices, (*reading.left_out, *left_out)),
            dataset=self.name,
            patient=self.patients[number],
            study=self.studies[number],
            series=job,
            labels_of=lambda one: labels[one.place.path.stem],
            series_labels=np.full(len(LABELS), UNKNOWN),
            label_source="readers",
            key_of=lambda one: one.place.path.stem,
        )


def patient_key(patient_id: str, key: bytes) -> str:
    """Return the pseudonym of a patient of RSNA, who may be in sets cut out of it as well."""
    return pseudonym("", patient_id, key=key)


def open_source(path: str, labels: Path | None, key: bytes) -> Rsna:
    """Find the series of the dataset and the labels of their slices.

    Raises
    ------
    TrainingError
        When the folder is not that of the dataset, or its CSV is not as it was published.
    """
    refuse_labels(labels, "RSNA 2019")
    folder = Path(path)
    stated, said = read_stage_2(folder / LABELS_FILE)
    images = _image_folder(folder)
    names = sorted(one.name for one in images.iterdir() if one.suffix == ".dcm")
    headers = header_table(images, names)
    headers["image"] = headers["name"].str.removesuffix(".dcm")
    usable = headers[headers["problem"] == ""]
    known = usable[usable["image"].isin(stated.index)]
    if known.empty:
        raise TrainingError(f"{LABELS_FILE} labels none of the images in {images}.")
    broken = headers["image"][headers["problem"] != ""]
    remarks = (
        *said,
        *_count(len(stated) - len(known) - int(broken.isin(stated.index).sum()),
                "labelled images are not in the folder"),
        *_count(len(usable) - len(known), "images have no labels"),
    )  # fmt: skip
    return Rsna(
        images=images,
        **_by_series(usable[usable["series_uid"].isin(set(known["series_uid"]))], stated, key),
        broken={_BROKEN + name: f"{name}.dcm" for name in broken},
        labels_digest=digest_of(folder / LABELS_FILE),
        remarks=remarks,
    )


def read_stage_2(path: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the labels of each image, and what was noticed.

    Rows that are there twice are dropped before the table is turned around: afterwards they would
    be averaged, or refused.

    Returns
    -------
    DataFrame
        One row an image, the columns `ichnode.domain.findings.LABELS`, 1, 0 or NaN.
    tuple of str

    Raises
    ------
    TrainingError
        When it is not the file of the challenge, or labels one image twice and differently.
    """
    rows = _read_rows(path)
    twice = len(rows)
    rows = rows.drop_duplicates()
    twice -= len(rows)
    if differing := int(rows["ID"].duplicated().sum()):
        raise TrainingError(
            f"{path.name} has {differing} rows that contradict an earlier row of the same ID; "
            "take the file as it was published."
        )
    places = {label: index for index, label in enumerate(LABELS)}
    parts = [name.rpartition("_") for name in rows["ID"].tolist()]
    columns = np.fromiter((places.get(part[2], -1) for part in parts), np.int64, len(parts))
    if (columns < 0).any():
        raise TrainingError(f"{path.name} has an ID that ends in none of {', '.join(LABELS)}.")
    numbers, images = pd.factorize(np.array([part[0] for part in parts], object))
    values = np.full((len(images), len(LABELS)), UNKNOWN)
    values[numbers, columns] = rows["Label"].to_numpy()
    wide = pd.DataFrame(values, index=images, columns=list(LABELS))
    wrong = int(contradictory(wide.to_numpy()).sum())
    return wide, (
        *_count(twice, "rows were there twice"),
        *_count(wrong, "images are left out, whose labels contradict themselves"),
    )


def _read_rows(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_csv(existing(path), dtype={"ID": str, "Label": np.float32})
    except (ValueError, OSError) as error:
        raise TrainingError(f"{path.name} cannot be read ({type(error).__name__}).") from None
    if list(rows.columns) != ["ID", "Label"] or rows.empty or rows["ID"].isna().any():
        raise TrainingError(f"{path.name} does not have the columns ID and Label.")
    if not (rows["Label"].isin((0.0, 1.0)) | rows["Label"].isna()).all():
        raise TrainingError(f"{path.name} has a Label that is neither 1 nor 0.")
    return rows


def _image_folder(folder: Path) -> Path:
    for name in IMAGE_FOLDERS:
        if (folder / name).is_dir():
            return folder / name
    raise TrainingError(f"There is neither {' nor '.join(IMAGE_FOLDERS)} in {folder}.")


def _by_series(rows: pd.DataFrame, stated: pd.DataFrame, key: bytes) -> dict[str, Any]:
    """Return the arrays of `Rsna` from rows that may be in any order."""
    rows = rows.sort_values(["series_uid", "image"], kind="stable")
    series = rows["series_uid"].to_numpy()
    starts = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])
    patients = rows.groupby("series_uid", sort=True)["patient_id"]
    only = patients.first().where(patients.nunique() == 1, "")
    labels: Labels = stated.reindex(rows["image"]).to_numpy(np.float32)
    return {
        "names": rows["image"].to_numpy(np.bytes_),
        "labels": labels,
        "starts": np.r_[starts, len(rows)].astype(np.int64),
        "numbers": {str(uid): number for number, uid in enumerate(series[starts])},
        "patients": tuple(patient_key(one, key) if one else "" for one in only),
        "studies": tuple(rows["study_uid"].to_numpy()[starts].tolist()),
    }


def _count(how_many: int, what: str) -> tuple[str, ...]:
    return (f"{how_many} {what}.",) if how_many else ()
